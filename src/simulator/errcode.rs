//! The platform's return codes and their texts ("WeChat: 全局返回码").
//!
//! The one table of the simulator: refusals, faults and documents take their texts from here.

/// Code and text, in the order of the codes. The texts are what the platform's log lines show.
pub(crate) const TEXTS: &[(i64, &str)] = &[
    (-1, "system error"),
    (0, "ok"),
    (
        40001,
        "invalid credential, access_token is invalid or not latest, could get access_token by \
         getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r",
    ),
    (40002, "invalid grant_type"),
    (40003, "invalid openid"),
    (40004, "invalid media type"),
    (40005, "invalid file type"),
    (40006, "invalid media size"),
    (40007, "invalid media_id"),
    (40008, "invalid message type"),
    (40009, "invalid image size"),
    (40010, "invalid voice size"),
    (40011, "invalid video size"),
    (40012, "invalid thumb size"),
    (40013, "invalid appid"),
    (40014, "invalid access_token"),
    (40015, "invalid menu type"),
    (40016, "invalid button size"),
    (40017, "invalid button type"),
    (40018, "invalid button name size"),
    (40019, "invalid button key size"),
    (40020, "invalid button url size"),
    (40023, "invalid sub button size"),
    (40024, "invalid sub button type"),
    (40025, "invalid sub button name size"),
    (40026, "invalid sub button key size"),
    (40027, "invalid sub button url size"),
    (40029, "invalid code"),
    (40030, "invalid refresh_token"),
    (40031, "invalid openid list"),
    (40032, "invalid openid list size"),
    (
        40033,
        "invalid charset. please check your request, if include \\uxxxx will create fail",
    ),
    (40035, "invalid parameter"),
    (40036, "invalid template_id size"),
    (40037, "invalid template_id"),
    (40039, "invalid url size"),
    (40048, "invalid url domain"),
    (40066, "invalid url"),
    (40097, "invalid args"),
    (40125, "invalid appsecret"),
    (40163, "code been used"),
    (40164, "invalid ip, not in whitelist"),
    (40201, "callback url not set"),
    (40202, "invalid action"),
    (40203, "invalid check_operator"),
    (40243, "appsecret is frozen"),
    (41001, "access_token missing"),
    (41002, "appid missing"),
    (41003, "refresh_token missing"),
    (41004, "appsecret missing"),
    (41008, "missing code"),
    (41009, "missing openid"),
    (42001, "access_token expired"),
    (42002, "refresh_token expired"),
    (42003, "code expired"),
    (42007, "access_token and refresh_token exception"),
    (43001, "require GET method"),
    (43002, "require POST method"),
    (43004, "require subscribe"),
    (43019, "require remove blacklist"),
    (43101, "user refuse to accept the msg"),
    (44002, "empty post data"),
    (44004, "empty text content"),
    (45002, "content size out of limit"),
    (45008, "article size out of limit"),
    (45009, "reach max api daily quota limit"),
    (
        45011,
        "api minute-quota reach limit  mustslower  retry next minute",
    ),
    (
        45015,
        "response out of time limit or subscription is canceled",
    ),
    (45047, "out of response count limit"),
    (45159, "invalid tag id"),
    (46003, "menu no exist"),
    (47001, "data format error"),
    (47003, "argument invalid! data.X.value invalid"),
    (48001, "api unauthorized"),
    (48006, "forbid to clear quota because of reaching the limit"),
    (50001, "user unauthorized"),
    (50002, "user limited"),
    (50005, "user is unsubscribed"),
    (89501, "ip waits for the administrator's confirmation"),
    (89503, "this ip needs the administrator's consent"),
    (89506, "this ip was refused twice, try again in 24 hours"),
    (89507, "this ip was refused, try again in an hour"),
];

/// What the platform says with this code, without its `rid`.
pub(crate) fn text(errcode: i64) -> &'static str {
    known(errcode).unwrap_or("error")
}

/// The text of a code that the table has.
pub(crate) fn known(errcode: i64) -> Option<&'static str> {
    let place = TEXTS.binary_search_by_key(&errcode, |(code, _)| *code);
    place.ok().map(|place| TEXTS[place].1)
}

/// What stands between the text and `rid: …`: a blank, with some codes a comma too.
pub(crate) fn rid_separator(errcode: i64) -> &'static str {
    match errcode {
        40013 | 40029 | 40163 => ", ",
        _ => " ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_every_code_is_found() {
        assert!(TEXTS.is_sorted_by_key(|(code, _)| *code));
        for (code, words) in TEXTS {
            assert_eq!(text(*code), *words);
        }
        assert_eq!(text(12345), "error");
    }
}

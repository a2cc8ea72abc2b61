//! The send window: when, and how often, the account may write to a user.
//!
//! WeChat: "客服消息", the table of what opens a window. Each gesture of a user opens a window of its
//! kind, or begins it anew with its full number of messages. A message is counted in the open window that
//! ends first.
//!
//! | he | messages | within |
//! | --- | --- | --- |
//! | wrote | 5 | 48 h |
//! | tapped the menu, or an item of a `msgmenu` | 3 | 1 min |
//! | followed | 3 | 1 min |
//! | scanned a QR code | 3 | 1 min |
//!
//! A payment opens one too, but the platform tells the shop of it and not the account: here it is not
//! known.

use std::fmt;
use std::time::Duration;

use crate::store::{Trigger, Window};
use crate::wechat::{Kind, Message};

/// Which window a message opens, if any.
pub fn trigger(message: &Message) -> Option<Trigger> {
    match message.event_name() {
        // What scans and photos of a menu send first is an event; of those only these count.
        Some("CLICK" | "scancode_push" | "scancode_waitmsg") => Some(Trigger::Click),
        Some("subscribe") => Some(Trigger::Follow),
        Some("SCAN") => Some(Trigger::Scan),
        Some(_) => None,
        // The tap arrives as a text.
        None if is_msgmenu_tap(message) => Some(Trigger::Click),
        None => Some(Trigger::Message),
    }
}

fn is_msgmenu_tap(message: &Message) -> bool {
    match &message.kind {
        Kind::Text(text) => text.bizmsgmenuid.is_some(),
        Kind::Unknown(unknown) => {
            let mut fields = unknown.fields.iter();
            fields.any(|field| field.name == "bizmsgmenuid")
        }
        _ => false,
    }
}

/// How long a window of this kind stays open.
pub const fn lasts(trigger: Trigger) -> Duration {
    match trigger {
        Trigger::Message => Duration::from_secs(48 * 3600),
        Trigger::Click | Trigger::Follow | Trigger::Scan => Duration::from_secs(60),
    }
}

/// How many messages a window of this kind allows.
pub const fn allows(trigger: Trigger) -> u32 {
    match trigger {
        Trigger::Message => 5,
        Trigger::Click | Trigger::Follow | Trigger::Scan => 3,
    }
}

/// The window in which the next message counts.
///
/// # Errors
///
/// [`Refusal`] where WeChat would refuse it.
pub fn verdict(windows: &[Window]) -> Result<Trigger, Refusal> {
    let mut open: Vec<_> = windows
        .iter()
        .filter_map(|window| Some((ends_in(window)?, window)))
        .collect();
    open.sort_by_key(|(ends_in, _)| *ends_in);
    let is_free = |window: &Window| window.sent < allows(window.trigger);
    if let Some((_, window)) = open.iter().find(|(_, window)| is_free(window)) {
        return Ok(window.trigger);
    }
    // The window to name is the one that stays open longest: that of his message, if there is one.
    if let Some((_, window)) = open.last() {
        return Err(Refusal::UsedUp {
            since: window.trigger,
            age: window.age,
        });
    }
    let last = windows.iter().max_by_key(|window| {
        (
            window.trigger == Trigger::Message,
            std::cmp::Reverse(window.age),
        )
    });
    Err(match last {
        Some(window) => Refusal::Over {
            since: window.trigger,
            age: window.age,
        },
        None => Refusal::Unknown,
    })
}

/// What is left of a window, unless it is over.
fn ends_in(window: &Window) -> Option<Duration> {
    lasts(window.trigger)
        .checked_sub(window.age)
        .filter(|left| !left.is_zero())
}

/// Why the account may not write to a user now. He opens the way again by writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No window of his is known. Windows are remembered for as long as the longest lasts, and so for
    /// a backend that has run that long this is one that is over.
    #[error("he has not written within the last 48 h, as far as is known here")]
    Unknown,
    /// His last window is over.
    #[error("{}, and that lets the account write to him for {} alone", Gesture(*since, *age), Spoken(lasts(*since)))]
    Over {
        /// What opened it: his message, if he ever wrote, else what he did last.
        since: Trigger,
        /// How long ago.
        age: Duration,
    },
    /// All messages of his open windows are used up.
    #[error("{}, and the {most} messages that this allows are sent", Gesture(*since, *age), most = allows(*since))]
    UsedUp {
        /// What opened the window that stays open longest.
        since: Trigger,
        /// How long ago.
        age: Duration,
    },
    /// WeChat has refused a message to him, against what is known here, and he has done nothing since.
    #[error(
        "WeChat has refused a message to him with errcode {errcode}, and he has not written since"
    )]
    Told {
        /// 45015 or 45047.
        errcode: i64,
    },
}

impl Refusal {
    /// What WeChat answers in that case: 45015 outside the windows, 45047 where they are used up.
    pub fn errcode(&self) -> i64 {
        match self {
            Self::Unknown | Self::Over { .. } => 45015,
            Self::UsedUp { .. } => 45047,
            Self::Told { errcode } => *errcode,
        }
    }
}

/// "he wrote 3 h ago".
struct Gesture(Trigger, Duration);

impl fmt::Display for Gesture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let did = match self.0 {
            Trigger::Message => "he last wrote",
            Trigger::Click => "he last tapped the menu",
            Trigger::Follow => "he followed",
            Trigger::Scan => "he last scanned a QR code",
        };
        write!(f, "{did} {} ago", Spoken(self.1))
    }
}

/// A time in its largest unit, rounded down.
struct Spoken(Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h", seconds / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn window(trigger: Trigger, age: Duration, sent: u32) -> Window {
        Window { trigger, age, sent }
    }

    fn trigger_of(msg_type: &str, rest: &str) -> Option<Trigger> {
        let xml = format!(
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName>\
             <CreateTime>1</CreateTime><MsgType>{msg_type}</MsgType>{rest}</xml>"
        );
        trigger(&Message::parse(xml.as_bytes()).unwrap())
    }

    #[test]
    fn what_a_user_does_opens_the_window_of_its_kind() {
        use Trigger::{Click, Follow, Message, Scan};
        let scan_info = "<EventKey>k</EventKey><ScanCodeInfo><ScanType>qrcode</ScanType>\
                         <ScanResult>1</ScanResult></ScanCodeInfo>";
        for (msg_type, rest, expected) in [
            ("text", "<Content>a</Content>", Some(Message)),
            (
                "image",
                "<PicUrl>p</PicUrl><MediaId>m</MediaId>",
                Some(Message),
            ),
            ("hologram", "", Some(Message)),
            (
                "text",
                "<Content>a</Content><bizmsgmenuid>101</bizmsgmenuid>",
                Some(Click),
            ),
            (
                "text",
                "<Content>a</Content><bizmsgmenuid>x</bizmsgmenuid>",
                Some(Click),
            ),
            (
                "event",
                "<Event>CLICK</Event><EventKey>k</EventKey>",
                Some(Click),
            ),
            (
                "event",
                &format!("<Event>scancode_push</Event>{scan_info}"),
                Some(Click),
            ),
            (
                "event",
                &format!("<Event>scancode_waitmsg</Event>{scan_info}"),
                Some(Click),
            ),
            ("event", "<Event>subscribe</Event>", Some(Follow)),
            (
                "event",
                "<Event>subscribe</Event><EventKey>qrscene_1</EventKey><Ticket>t</Ticket>",
                Some(Follow),
            ),
            (
                "event",
                "<Event>SCAN</Event><EventKey>1</EventKey>",
                Some(Scan),
            ),
            // As the platform writes it but not as it is declared.
            ("event", "<Event>SCAN</Event>", Some(Scan)),
            (
                "event",
                "<Event>VIEW</Event><EventKey>https://a.test/</EventKey>",
                None,
            ),
            (
                "event",
                "<Event>pic_weixin</Event><EventKey>k</EventKey>",
                None,
            ),
            ("event", "<Event>unsubscribe</Event>", None),
            (
                "event",
                "<Event>LOCATION</Event><Latitude>1</Latitude><Longitude>2</Longitude>",
                None,
            ),
            (
                "event",
                "<Event>kf_create_session</Event><KfAccount>a</KfAccount>",
                None,
            ),
        ] {
            assert_eq!(trigger_of(msg_type, rest), expected, "{msg_type} {rest}");
        }
    }

    #[track_caller]
    fn check(windows: &[Window], expected: Result<Trigger, Refusal>) {
        assert_eq!(verdict(windows), expected, "{windows:?}");
    }

    #[test]
    fn a_message_allows_five_within_48_hours() {
        use Trigger::Message;
        let over = |age| {
            Err(Refusal::Over {
                since: Message,
                age,
            })
        };
        let used_up = |age| {
            Err(Refusal::UsedUp {
                since: Message,
                age,
            })
        };
        check(&[window(Message, Duration::ZERO, 0)], Ok(Message));
        check(&[window(Message, 48 * HOUR - S, 4)], Ok(Message));
        check(&[window(Message, 48 * HOUR, 0)], over(48 * HOUR));
        check(&[window(Message, 50 * HOUR, 5)], over(50 * HOUR));
        check(&[window(Message, 3 * HOUR, 5)], used_up(3 * HOUR));
        check(&[window(Message, 3 * HOUR, 6)], used_up(3 * HOUR));
        check(&[], Err(Refusal::Unknown));
    }

    #[test]
    fn a_gesture_allows_three_within_a_minute() {
        for trigger in [Trigger::Click, Trigger::Follow, Trigger::Scan] {
            let refused = |age, sent| verdict(&[window(trigger, age, sent)]).unwrap_err();
            check(&[window(trigger, MINUTE - S, 2)], Ok(trigger));
            let (since, age) = (trigger, MINUTE);
            assert_eq!(refused(age, 0), Refusal::Over { since, age });
            assert_eq!(refused(S, 3), Refusal::UsedUp { since, age: S });
        }
    }

    #[test]
    fn a_message_counts_in_the_open_window_that_ends_first() {
        use Trigger::{Click, Follow, Message, Scan};
        let wrote = window(Message, HOUR, 0);
        check(&[wrote, window(Click, S, 0)], Ok(Click));
        check(
            &[window(Click, S, 2), window(Scan, 30 * S, 2), wrote],
            Ok(Scan),
        );
        check(
            &[window(Scan, 30 * S, 3), window(Click, S, 2), wrote],
            Ok(Click),
        );
        check(&[window(Follow, S, 3), wrote], Ok(Message));
        check(&[window(Click, 61 * S, 0), wrote], Ok(Message));
        // His message is about to lapse before his tap does.
        let lapsing = window(Message, 48 * HOUR - 5 * S, 0);
        check(&[window(Click, S, 0), lapsing], Ok(Message));
    }

    #[test]
    fn a_refusal_names_his_message_before_his_taps() {
        use Trigger::{Click, Message, Scan};
        let (age, since) = (50 * HOUR, Message);
        check(
            &[window(Click, 2 * MINUTE, 0), window(Message, age, 1)],
            Err(Refusal::Over { since, age }),
        );
        let (age, since) = (2 * MINUTE, Click);
        check(
            &[window(Scan, HOUR, 0), window(Click, age, 1)],
            Err(Refusal::Over { since, age }),
        );
        let (age, since) = (3 * HOUR, Message);
        check(
            &[window(Message, age, 5), window(Click, S, 3)],
            Err(Refusal::UsedUp { since, age }),
        );
    }

    #[test]
    fn a_refusal_says_why_and_what_wechat_would_answer() {
        let refusal = |windows: &[Window]| {
            let refusal = verdict(windows).unwrap_err();
            (refusal.errcode(), refusal.to_string())
        };
        let told = Refusal::Told { errcode: 45047 };
        for ((errcode, said), expected_code, expected) in [
            (
                refusal(&[window(Trigger::Message, 50 * HOUR, 0)]),
                45015,
                "he last wrote 50 h ago, and that lets the account write to him for 48 h alone",
            ),
            (
                refusal(&[window(Trigger::Follow, 61 * S, 0)]),
                45015,
                "he followed 1 min ago, and that lets the account write to him for 1 min alone",
            ),
            (
                refusal(&[window(Trigger::Message, 3 * HOUR, 5)]),
                45047,
                "he last wrote 3 h ago, and the 5 messages that this allows are sent",
            ),
            (
                refusal(&[window(Trigger::Click, 9 * S, 3)]),
                45047,
                "he last tapped the menu 9 s ago, and the 3 messages that this allows are sent",
            ),
            (
                refusal(&[]),
                45015,
                "he has not written within the last 48 h, as far as is known here",
            ),
            (
                (told.errcode(), told.to_string()),
                45047,
                "WeChat has refused a message to him with errcode 45047, and he has not written since",
            ),
        ] {
            assert_eq!((errcode, &*said), (expected_code, expected));
        }
    }

    proptest! {
        /// As the platform counts: until it refuses, what is counted where we say goes through.
        #[test]
        fn messages_go_out_until_every_open_window_is_full(
            ages in proptest::collection::vec(0_u32..60, 4), has in proptest::collection::vec(any::<bool>(), 4),
        ) {
            let mut windows: Vec<_> = Trigger::ALL.into_iter().zip(ages).zip(has)
                .filter(|(_, has)| *has)
                .map(|((trigger, age), _)| window(trigger, age * S, 0))
                .collect();
            let allowed: u32 = windows.iter().map(|window| allows(window.trigger)).sum();
            let mut sent = 0;
            while let Ok(trigger) = verdict(&windows) {
                let used = windows.iter_mut().find(|window| window.trigger == trigger).unwrap();
                used.sent += 1;
                sent += 1;
            }
            prop_assert_eq!(sent, allowed);
        }
    }
}

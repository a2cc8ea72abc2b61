//! Comments under articles ("WeChat: 图文消息留言管理").

use super::{Answer, Call, Endpoint, Members, Refusal, ok, ok_with, post};
use crate::simulator::platform::Platform;

/// The members that name a comment.
const COMMENT: &[&str] = &["msg_data_id", "index?", "user_comment_id"];

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/comment/open",
        "打开已群发文章评论",
        &["msg_data_id", "index?"],
        open,
    )
    .errors(&[88001]),
    post(
        "/cgi-bin/comment/close",
        "关闭已群发文章评论",
        &["msg_data_id", "index?"],
        close,
    )
    .errors(&[88001]),
    post(
        "/cgi-bin/comment/list",
        "查看指定文章的评论数据: 50 at most",
        &["msg_data_id", "index?", "begin", "count", "type"],
        list,
    )
    .errors(&[88001, 88010]),
    post(
        "/cgi-bin/comment/markelect",
        "将评论标记精选",
        COMMENT,
        elect,
    )
    .errors(&[88001, 88008]),
    post(
        "/cgi-bin/comment/unmarkelect",
        "将评论取消精选",
        COMMENT,
        unelect,
    )
    .errors(&[88001, 88008]),
    post("/cgi-bin/comment/delete", "删除评论", COMMENT, delete).errors(&[88001, 88008]),
    post(
        "/cgi-bin/comment/reply/add",
        "回复评论: once",
        &["msg_data_id", "index?", "user_comment_id", "content"],
        reply,
    )
    .errors(&[88001, 88005, 88007, 88008]),
    post(
        "/cgi-bin/comment/reply/delete",
        "删除回复",
        COMMENT,
        delete_reply,
    )
    .errors(&[88001, 88008, 88009]),
];

/// The article that a body names: a number that is none names one that is not there.
fn article(body: &Members) -> Result<(u64, u64), Refusal> {
    Ok((
        number(body, "msg_data_id").ok_or(88001)?,
        number(body, "index").unwrap_or(0),
    ))
}

fn comment(body: &Members) -> Result<((u64, u64), u64), Refusal> {
    Ok((
        article(body)?,
        number(body, "user_comment_id").ok_or(88008)?,
    ))
}

fn number(body: &Members, name: &str) -> Option<u64> {
    body.number(name)
        .and_then(|number| u64::try_from(number).ok())
}

fn open(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    platform.comments.set_open(article(&call.json()?)?, true)?;
    Ok(ok())
}

fn close(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    platform.comments.set_open(article(&call.json()?)?, false)?;
    Ok(ok())
}

fn list(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let begin = number(&body, "begin").unwrap_or(0);
    let begin = usize::try_from(begin).unwrap_or(usize::MAX);
    let page = (begin, number(&body, "count").unwrap_or(0));
    let kind = body.number("type").unwrap_or(0);
    Ok(ok_with(platform.comments.list(
        article(&body)?,
        page,
        kind,
    )?))
}

fn elect(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (article, id) = comment(&call.json()?)?;
    platform.comments.elect(article, id, true)?;
    Ok(ok())
}

fn unelect(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (article, id) = comment(&call.json()?)?;
    platform.comments.elect(article, id, false)?;
    Ok(ok())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (article, id) = comment(&call.json()?)?;
    platform.comments.delete(article, id)?;
    Ok(ok())
}

fn reply(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (article, id) = comment(&body)?;
    let content = body.text("content").unwrap_or_default();
    let now = platform.now();
    platform.comments.reply(article, id, content, now)?;
    Ok(ok())
}

fn delete_reply(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (article, id) = comment(&call.json()?)?;
    platform.comments.delete_reply(article, id)?;
    Ok(ok())
}

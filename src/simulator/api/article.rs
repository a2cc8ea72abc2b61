//! Drafts and publishing: `/cgi-bin/draft/…`, `/cgi-bin/freepublish/…`.

use serde_json::{Value, json};

use super::material::span;
use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, ok_with, post};
use crate::simulator::articles::Draft;
use crate::simulator::clock::Seconds;
use crate::simulator::platform::Platform;

/// What an article may be refused for.
const ARTICLE: &[i64] = &[
    40007, 44003, 45002, 45003, 45004, 45005, 45008, 45110, 47003,
];

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/draft/add",
        "新建草稿: up to 8 articles",
        &["articles"],
        add,
    )
    .errors(ARTICLE)
    .daily(1000, 1000),
    post("/cgi-bin/draft/get", "获取草稿", &["media_id"], read)
        .errors(&[40007])
        .daily(500, 500),
    post(
        "/cgi-bin/draft/update",
        "修改草稿: one article of it",
        &["media_id", "index", "articles"],
        update,
    )
    .errors(&[
        40007, 40114, 45002, 45003, 45004, 45005, 45110, 47003, 53503,
    ])
    .daily(1000, 1000),
    post("/cgi-bin/draft/delete", "删除草稿", &["media_id"], delete)
        .errors(&[40007, 53503])
        .daily(1000, 1000),
    get("/cgi-bin/draft/count", "获取草稿总数", &[], count).daily(1000, 1000),
    post(
        "/cgi-bin/draft/batchget",
        "获取草稿列表: 20 at most, the newest first",
        &["offset", "count", "no_content?"],
        list,
    )
    .errors(&[40035])
    .daily(1000, 1000),
    post(
        "/cgi-bin/freepublish/submit",
        "发布草稿: takes a while, PUBLISHJOBFINISH tells the end",
        &["media_id"],
        submit,
    )
    .errors(&[40007, 53503])
    .daily(100, 100),
    post(
        "/cgi-bin/freepublish/get",
        "发布状态查询: 0 well, 1 running, 2 to 4 failed, 5 all deleted",
        &["publish_id"],
        status,
    )
    .errors(&[40035])
    .daily(100, 100),
    post(
        "/cgi-bin/freepublish/delete",
        "删除发布文章: one, or all; for ever",
        &["article_id", "index?"],
        retract,
    )
    .errors(&[40114, 53600])
    .daily(10, 10),
    post(
        "/cgi-bin/freepublish/getarticle",
        "获取已发布图文信息",
        &["article_id"],
        article,
    )
    .errors(&[53600])
    .daily(100, 100),
    post(
        "/cgi-bin/freepublish/batchget",
        "获取已发布的消息列表: 20 at most, the newest first",
        &["offset", "count", "no_content?"],
        published,
    )
    .errors(&[40035])
    .daily(100, 100),
];

/// How long publishing takes.
const TAKES: Seconds = 5;

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let articles = body.list("articles").filter(|list| !list.is_empty());
    let articles = articles.ok_or(44003)?;
    let items = platform.check_articles(articles, false)?;
    let now = platform.now();
    let media_id = platform.mint.text("media_id", 64);
    platform.articles.add_draft(media_id.clone(), items, now);
    Ok(json!({"media_id": media_id}).into())
}

fn read(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let media_id = body.need("media_id", 40007)?;
    let draft = platform.articles.draft(media_id, platform.now());
    let draft = draft.ok_or(40007)?;
    Ok(json!({
        "news_item": draft.items,
        "create_time": draft.created_at,
        "update_time": draft.updated_at,
    })
    .into())
}

/// The draft that a body names and that is not being published.
fn idle<'a>(platform: &'a mut Platform, body: &Members) -> Result<&'a mut Draft, Refusal> {
    let now = platform.now();
    let media_id = body.need("media_id", 40007)?;
    let draft = platform.articles.draft_mut(media_id, now).ok_or(40007)?;
    if draft.is_publishing(now) {
        return Err(53503.into());
    }
    Ok(draft)
}

fn update(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let items = idle(platform, &body)?.items.len();
    let index = body.number("index").unwrap_or(0);
    let index = usize::try_from(index)
        .ok()
        .filter(|index| *index < items)
        .ok_or(40114)?;
    let article = match body.get("articles") {
        Some(article @ Value::Object(_)) => platform.check_article(article, false)?,
        _ => return Err(Refusal::argument("articles")),
    };
    let now = platform.now();
    let draft = idle(platform, &body)?;
    draft.items[index] = article;
    draft.updated_at = now;
    Ok(ok())
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let media_id = idle(platform, &body)?.media_id.clone();
    platform.articles.delete_draft(&media_id);
    Ok(ok())
}

fn count(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let count = platform.articles.drafts(platform.now()).count();
    Ok(json!({"total_count": count}).into())
}

fn list(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (offset, page) = span(&body)?;
    let now = platform.now();
    let drafts = platform.articles.drafts(now).rev();
    let items: Vec<_> = drafts
        .skip(offset)
        .take(page)
        .map(|draft| {
            json!({
                "media_id": draft.media_id,
                "content": {
                    "news_item": listed(draft.items.clone(), &body),
                    "create_time": draft.created_at,
                    "update_time": draft.updated_at,
                },
                "update_time": draft.updated_at,
            })
        })
        .collect();
    Ok(json!({
        "total_count": platform.articles.drafts(now).count(),
        "item_count": items.len(),
        "item": items,
    })
    .into())
}

/// Articles in a list: without their content where `no_content` is 1.
fn listed(mut items: Vec<Value>, body: &Members) -> Vec<Value> {
    if body.is_set("no_content") {
        for item in &mut items {
            item["content"] = json!("");
        }
    }
    items
}

fn submit(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let draft = idle(platform, &body)?;
    let (media_id, items) = (draft.media_id.clone(), draft.items.clone());
    let publication = platform.new_publication(items, TAKES);
    let (publish_id, msg_data_id) = (publication.publish_id, publication.msg_data_id);
    let mut info = json!({
        "publish_id": publish_id,
        "publish_status": publication.status(publication.due),
    });
    if info["publish_status"] == 0 {
        info["article_id"] = json!(publication.article_id);
        info["article_detail"] = publication.detail();
        platform
            .comments
            .open_articles(msg_data_id, &publication.items);
    } else {
        let failed: Vec<_> = (1..=publication.items.len()).collect();
        info["fail_idx"] = json!(failed);
    }
    let due = publication.due;
    platform.articles.publish(&media_id, publication);
    let helper = platform.helper();
    let more = json!({"PublishEventInfo": info});
    platform.announce(due, &helper, "PUBLISHJOBFINISH", more);
    Ok(ok_with(
        json!({"publish_id": publish_id.to_string(), "msg_data_id": msg_data_id}),
    ))
}

fn status(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let publish_id = body
        .number("publish_id")
        .and_then(|id| u64::try_from(id).ok());
    let publication = publish_id.and_then(|id| platform.articles.publication(id));
    let publication = publication.ok_or(40035)?;
    let status = publication.status(platform.now());
    let mut answer = json!({
        "publish_id": publication.publish_id.to_string(),
        "publish_status": status,
        "fail_idx": [],
    });
    match status {
        0 => {
            answer["article_id"] = json!(publication.article_id);
            answer["article_detail"] = publication.detail();
        }
        2..=4 => {
            let failed: Vec<_> = (1..=publication.items.len()).collect();
            answer["fail_idx"] = json!(failed);
        }
        _ => {}
    }
    Ok(answer.into())
}

fn retract(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let now = platform.now();
    let article_id = body.need("article_id", 53600)?;
    let publication = platform.articles.article_mut(article_id, now)?;
    match body.number("index").unwrap_or(0) {
        0 => publication.deleted.fill(true),
        index => {
            let place = usize::try_from(index - 1).map_err(|_| 40114)?;
            *publication.deleted.get_mut(place).ok_or(40114)? = true;
        }
    }
    Ok(ok())
}

fn article(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let article_id = body.need("article_id", 53600)?;
    let publication = platform.articles.article(article_id, platform.now())?;
    Ok(json!({"news_item": publication.marked()}).into())
}

fn published(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (offset, page) = span(&body)?;
    let now = platform.now();
    let published = platform.articles.published(now).rev();
    let items: Vec<_> = published
        .skip(offset)
        .take(page)
        .map(|publication| {
            json!({
                "article_id": publication.article_id,
                "content": {"news_item": listed(publication.marked(), &body)},
                "update_time": publication.due,
            })
        })
        .collect();
    Ok(json!({
        "total_count": platform.articles.published(now).count(),
        "item_count": items.len(),
        "item": items,
    })
    .into())
}

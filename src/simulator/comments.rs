//! What fans write under articles ("WeChat: 图文消息留言管理").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clock::Seconds;

/// Comments of one article: an article is a `msg_data_id` and a place in it.
#[derive(Debug, Default)]
struct Thread {
    is_open: bool,
    list: Vec<Comment>,
}

/// One comment, with the account's reply.
#[derive(Debug)]
struct Comment {
    id: u64,
    openid: String,
    content: String,
    created_at: Seconds,
    is_elected: bool,
    reply: Option<(String, Seconds)>,
}

/// The comments of all articles.
#[derive(Debug, Default)]
pub(crate) struct Comments(BTreeMap<(u64, u64), Thread>);

/// Comments in one list.
const PAGE: u64 = 50;
/// Letters of a reply.
const REPLY: usize = 600;

impl Comments {
    /// Articles came into the world; those with `need_open_comment` are open for comments.
    pub(crate) fn open_articles(&mut self, msg_data_id: u64, items: &[Value]) {
        for (index, item) in (0..).zip(items) {
            let thread = Thread {
                is_open: item["need_open_comment"] == 1,
                ..Thread::default()
            };
            self.0.insert((msg_data_id, index), thread);
        }
    }

    /// 88001 for an article that is not there.
    fn thread(&mut self, article: (u64, u64)) -> Result<&mut Thread, i64> {
        self.0.get_mut(&article).ok_or(88001)
    }

    /// 88008 for a comment that is not there.
    fn comment(&mut self, article: (u64, u64), id: u64) -> Result<&mut Comment, i64> {
        let comments = &mut self.thread(article)?.list;
        let found = |comment: &&mut Comment| comment.id == id;
        comments.iter_mut().find(found).ok_or(88008)
    }

    /// Opens or closes an article for comments.
    ///
    /// # Errors
    ///
    /// 88001 for an article that is not there.
    pub(crate) fn set_open(&mut self, article: (u64, u64), is_open: bool) -> Result<(), i64> {
        self.thread(article)?.is_open = is_open;
        Ok(())
    }

    /// A fan comments.
    ///
    /// # Errors
    ///
    /// 88001 for an article that is not there, 88000 for one that is closed.
    pub(crate) fn add(
        &mut self,
        article: (u64, u64),
        openid: &str,
        content: &str,
        now: Seconds,
    ) -> Result<u64, i64> {
        let thread = self.thread(article)?;
        if !thread.is_open {
            return Err(88000);
        }
        let id = thread.list.last().map_or(0, |comment| comment.id) + 1;
        thread.list.push(Comment {
            id,
            openid: openid.to_owned(),
            content: content.to_owned(),
            created_at: now,
            is_elected: false,
            reply: None,
        });
        Ok(id)
    }

    /// Comments of an article: of kind 0 all, 1 those not elected, 2 the elected.
    ///
    /// # Errors
    ///
    /// 88001 for an article that is not there, 88010 for a count outside of 1 to 50.
    pub(crate) fn list(
        &mut self,
        article: (u64, u64),
        (begin, count): (usize, u64),
        kind: i64,
    ) -> Result<Value, i64> {
        if !(1..=PAGE).contains(&count) {
            return Err(88010);
        }
        let comments = self.thread(article)?.list.iter();
        let listed = |comment: &&Comment| match kind {
            1 => !comment.is_elected,
            2 => comment.is_elected,
            _ => true,
        };
        let list: Vec<_> = comments.filter(listed).map(Comment::to_json).collect();
        let page = usize::try_from(count).unwrap_or(usize::MAX);
        let shown: Vec<_> = list.iter().skip(begin).take(page).collect();
        Ok(json!({"total": list.len(), "comment": shown}))
    }

    /// Elects a comment for the public, or no longer.
    ///
    /// # Errors
    ///
    /// 88001 and 88008 for what is not there.
    pub(crate) fn elect(&mut self, article: (u64, u64), id: u64, elected: bool) -> Result<(), i64> {
        self.comment(article, id)?.is_elected = elected;
        Ok(())
    }

    /// Deletes a comment.
    ///
    /// # Errors
    ///
    /// 88001 and 88008 for what is not there.
    pub(crate) fn delete(&mut self, article: (u64, u64), id: u64) -> Result<(), i64> {
        self.comment(article, id)?;
        self.thread(article)?
            .list
            .retain(|comment| comment.id != id);
        Ok(())
    }

    /// The account replies to a comment.
    ///
    /// # Errors
    ///
    /// 88001 and 88008 for what is not there, 88005 for a second reply, 88007 for one that is empty or
    /// too long.
    pub(crate) fn reply(
        &mut self,
        article: (u64, u64),
        id: u64,
        content: &str,
        now: Seconds,
    ) -> Result<(), i64> {
        let comment = self.comment(article, id)?;
        if comment.reply.is_some() {
            return Err(88005);
        }
        if !(1..=REPLY).contains(&content.chars().count()) {
            return Err(88007);
        }
        comment.reply = Some((content.to_owned(), now));
        Ok(())
    }

    /// Takes a reply back.
    ///
    /// # Errors
    ///
    /// 88001, 88008 and 88009 for what is not there.
    pub(crate) fn delete_reply(&mut self, article: (u64, u64), id: u64) -> Result<(), i64> {
        let comment = self.comment(article, id)?;
        comment.reply.take().map(drop).ok_or(88009)
    }
}

impl Comment {
    fn to_json(&self) -> Value {
        let mut json = json!({
            "user_comment_id": self.id,
            "openid": self.openid,
            "create_time": self.created_at,
            "content": self.content,
            "comment_type": i32::from(self.is_elected),
        });
        if let Some((content, create_time)) = &self.reply {
            json["reply"] = json!({"content": content, "create_time": create_time});
        }
        json
    }
}

//! Dead letters in an operator's hands: shown, and sent again.
//!
//! A letter is sent again under its id, so the other program can tell that it had it before, and without a
//! reply link: the message has long had its reply. What is taken goes off the list. The user is told the
//! answer only if the operator asks for it, as a customer-service message.

use std::sync::Arc;
use std::time::Instant;

use super::answer::{Answer, Failure};
use super::call::{Downstream, Letter};
use crate::api::{Client, Skew, Transport};
use crate::app::{StartError, store_key};
use crate::config::{self, Config};
use crate::customer_service::{CustomerService, SendError};
use crate::store::{self, DeadLetter, InstanceId, Store, StoreError, Vault};
use crate::telemetry::metrics::Metrics;
use crate::token::TokenCentre;
use crate::wechat::id::OpenId;
use crate::wechat::reply::split_text;
use crate::wechat::{Message, Reply};

/// Letters read at once: each may hold 64 KiB.
const PAGE: usize = 100;

/// The list of messages that were forwarded in vain.
pub struct DeadLetters {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetters")
    }
}

impl DeadLetters {
    /// Opens the store of the settings.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to mend.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let store = store::open(config.store.url.expose(), metrics.store).await?;
        Ok(Self { store })
    }

    /// Shows each, oldest first. Returns how many there are.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn show(&self, mut show: impl FnMut(&DeadLetter)) -> Result<usize, StoreError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.store.dead_letters(after.as_deref(), PAGE).await?;
            page.iter().for_each(&mut show);
            count += page.len();
            let Some(last) = page.into_iter().next_back() else {
                return Ok(count);
            };
            after = Some(last.id);
        }
    }

    /// Lets go of the store.
    pub async fn close(self) {
        self.store.close().await;
    }
}

/// What became of a dead letter that was sent again.
#[derive(Debug)]
pub enum Replayed {
    /// It was taken, and is off the list. The answer was not said to the user.
    Taken(Answer),
    /// It was taken, the answer was said to the user, and it is off the list.
    Said(Reply),
    /// It was taken, but the answer can't be said. It stays on the list.
    NotSaid(Reply, SendError),
    /// It was sent in vain again. It stays on the list.
    Failed(Failure),
    /// What is on the list is no message. It stays there.
    Unreadable,
}

impl Replayed {
    /// Whether it is off the list.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Taken(_) | Self::Said(_))
    }
}

/// What became of all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Off the list.
    pub settled: usize,
    /// Still on it.
    pub failed: usize,
    /// Ids that were asked for and are not on the list.
    pub unknown: Vec<String>,
}

/// Sends dead letters again.
pub struct Replay {
    store: Arc<dyn Store>,
    downstream: Downstream,
    answers: Option<Answers>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replay")
    }
}

impl Replay {
    /// Replays to the program at `forward`.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to mend.
    pub async fn open(config: &Config, forward: &config::Forward) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        Ok(Self {
            downstream: Downstream::new(forward, metrics.forward)?,
            store: store::open(config.store.url.expose(), metrics.store).await?,
            answers: None,
        })
    }

    /// From now on users are told the answers.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what to mend.
    pub fn say_answers(&mut self, config: &Config) -> Result<(), StartError> {
        self.answers = Some(Answers::new(config, &self.store)?);
        Ok(())
    }

    /// Sends those with these ids, or with `None` all that are on the list by now, oldest first, each
    /// once. `report` gets what became of each.
    ///
    /// # Errors
    ///
    /// The store does not answer. The letter that was sent last may still be on the list.
    pub async fn run(
        &self,
        ids: Option<&[String]>,
        mut report: impl FnMut(&DeadLetter, &Replayed),
    ) -> Result<Tally, StoreError> {
        let began = Instant::now();
        let mut tally = Tally {
            unknown: ids.unwrap_or_default().to_vec(),
            ..Tally::default()
        };
        // The last one that stays on the list: those behind it are still to be seen.
        let mut after = None;
        loop {
            let running_for = began.elapsed();
            let page = self.store.dead_letters(after.as_deref(), PAGE).await?;
            if page.is_empty() {
                return Ok(tally);
            }
            for letter in page {
                let came_meanwhile = letter.age < running_for;
                if came_meanwhile || ids.is_some() && tally.unknown.is_empty() {
                    return Ok(tally);
                }
                let asked_for = tally.unknown.iter().position(|id| *id == letter.id);
                if ids.is_none() || asked_for.is_some() {
                    if let Some(at) = asked_for {
                        tally.unknown.swap_remove(at);
                    }
                    let replayed = self.replay(&letter).await;
                    report(&letter, &replayed);
                    if replayed.is_settled() {
                        self.store.remove_dead_letter(&letter.id).await?;
                        tally.settled += 1;
                        continue;
                    }
                    tally.failed += 1;
                }
                after = Some(letter.id);
            }
        }
    }

    async fn replay(&self, letter: &DeadLetter) -> Replayed {
        let Ok(message) = Message::parse(letter.message.as_bytes()) else {
            return Replayed::Unreadable;
        };
        let answer = match self
            .downstream
            .call_once(&Letter::new(&message, None))
            .await
        {
            Ok(answer) => answer,
            Err(failure) => return Replayed::Failed(failure),
        };
        match (answer, &self.answers) {
            (Answer::Reply(reply), Some(answers)) if !reply.is_silent() => {
                match answers.say(&letter.open_id, &reply).await {
                    Ok(()) => Replayed::Said(reply),
                    Err(error) => Replayed::NotSaid(reply, error),
                }
            }
            (answer, _) => Replayed::Taken(answer),
        }
    }

    /// Finishes what is under way, and lets go of the store.
    pub async fn close(self) {
        if let Some(answers) = self.answers {
            answers.tokens.close().await;
        }
        self.store.close().await;
    }
}

/// Says answers to users, as customer-service messages.
struct Answers {
    service: CustomerService,
    tokens: TokenCentre,
}

impl Answers {
    fn new(config: &Config, store: &Arc<dyn Store>) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let transport = Transport::new(
            config.platform.api_url.clone(),
            Arc::new(Skew::default()),
            metrics.api,
        )?;
        let tokens = TokenCentre::new(
            &config.account,
            transport.clone(),
            Arc::clone(store),
            Vault::new(&store_key(config)?, config.store.key_previous.as_ref()),
            InstanceId(format!("replay-{:08x}", rand::random::<u32>())),
            metrics.credentials,
        );
        let api = Client::new(transport, tokens.clone());
        let service = CustomerService::new(api, Arc::clone(store), metrics.customer_service);
        Ok(Self { service, tokens })
    }

    async fn say(&self, to: &OpenId, reply: &Reply) -> Result<(), SendError> {
        for part in parts(reply) {
            self.service.send(to, &part).await?;
        }
        Ok(())
    }
}

/// A reply in as many as customer-service messages can carry: 2048 bytes of text or one article each.
fn parts(reply: &Reply) -> Vec<Reply> {
    match reply {
        Reply::Text(content) => split_text(content).map(Reply::from).collect(),
        Reply::News(articles) => articles
            .iter()
            .map(|article| Reply::News(vec![article.clone()]))
            .collect(),
        other => vec![other.clone()],
    }
}

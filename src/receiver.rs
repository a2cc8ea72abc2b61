//! The checks that a delivery passes before it is a message, cheapest first, and the seal on its reply.
//!
//! Whether a message must be encrypted is decided by the settings, never by the request: with an
//! `EncodingAESKey` every message must be, without one none may be. Every refusal looks the same from
//! outside; the cause is for the log.

use std::sync::Arc;

use crate::api::Skew;
use crate::config::Account;
use crate::ledger::Said;
use crate::secret::Secret;
use crate::wechat::crypto::{self, Cipher, CryptoError};
use crate::wechat::query::{DeliveryQuery, QueryError};
use crate::wechat::xml::{self, XmlError};
use crate::wechat::{Message, MessageError, signature};

mod replay;

use replay::ReplayGuard;

/// How far a delivery's timestamp may be from the platform's clock, in seconds.
const FRESH_FOR: i64 = 300;

/// Verifies deliveries and seals replies for one account.
pub struct Receiver {
    /// The current token first, then the previous one.
    tokens: Vec<Secret>,
    /// The current key first, then the previous one. Empty in plain mode.
    ciphers: Vec<Cipher>,
    skew: Arc<Skew>,
    replays: ReplayGuard,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("is_encrypted", &self.is_encrypted())
            .finish_non_exhaustive()
    }
}

/// Which token and key sealed a message, current or previous. Its reply is sealed by the same: while
/// they change, the platform and we need not switch at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    token: usize,
    cipher: usize,
}

/// Why a delivery is refused. The texts are for the log; the caller answers the same to all.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A query that the platform does not send.
    #[error("the query is not WeChat's: {0}")]
    Query(#[from] QueryError),
    /// A signature that no token of ours makes.
    #[error("the signature does not fit WECHAT_TOKEN: compare it with the console's 服务器配置")]
    Signature,
    /// Signed too long ago, or ahead of time.
    #[error("the timestamp is {0} s away from now: check this machine's clock, or it is a replay")]
    Stale(i64),
    /// A plain body where all must be encrypted.
    #[error(
        "the message is not encrypted but WECHAT_ENCODING_AES_KEY is set: choose 安全模式 in the console, or unset the key"
    )]
    NotEncrypted,
    /// An encrypted body, and no key.
    #[error(
        "the message is encrypted but WECHAT_ENCODING_AES_KEY is not set: set it, or choose 明文模式 in the console"
    )]
    Encrypted,
    /// A ciphertext that no key of ours opens.
    #[error(
        "the message can't be decrypted ({0}): compare WECHAT_ENCODING_AES_KEY and WECHAT_APPID with the console"
    )]
    Crypto(#[from] CryptoError),
    /// The envelope of an encrypted message is broken.
    #[error("the envelope is broken: {0}")]
    Envelope(XmlError),
    /// The signature was used before, for another message.
    #[error("the signature was used before for another message: a replay")]
    Replay,
}

impl Refusal {
    /// A word for the metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Query(_) => "query",
            Self::Signature => "signature",
            Self::Stale(_) => "stale",
            Self::NotEncrypted => "not_encrypted",
            Self::Encrypted => "encrypted",
            Self::Crypto(_) => "decryption",
            Self::Envelope(_) => "envelope",
            Self::Replay => "replay",
        }
    }
}

/// Why a delivery gives no message.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is not from the platform, or not for us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is authentic and no message.
    #[error(transparent)]
    Malformed(#[from] MessageError),
}

impl Receiver {
    /// A receiver for the account, with its tokens and keys, current and previous.
    pub fn new(account: &Account, skew: Arc<Skew>) -> Self {
        let cipher = |key| Cipher::new(key, account.app_id.clone());
        Self {
            tokens: std::iter::once(&account.token)
                .chain(&account.token_previous)
                .cloned()
                .collect(),
            ciphers: account
                .aes_key
                .iter()
                .chain(&account.aes_key_previous)
                .map(cipher)
                .collect(),
            skew,
            replays: ReplayGuard::default(),
        }
    }

    /// Whether all messages must be encrypted.
    pub fn is_encrypted(&self) -> bool {
        !self.ciphers.is_empty()
    }

    /// Checks the query's form, its signature and its age.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to be logged.
    pub fn verify<'q>(&self, raw_query: &'q str) -> Result<DeliveryQuery<'q>, Refusal> {
        let query = DeliveryQuery::parse(raw_query)?;
        let fits = |token: &Secret| {
            signature::sign(token.expose(), &query.timestamp, &query.nonce)
                .matches(&query.signature)
        };
        if !self.tokens.iter().any(fits) {
            return Err(Refusal::Signature);
        }
        let difference = self.skew.now() - query.timestamp_seconds();
        if difference.abs() > FRESH_FOR {
            return Err(Refusal::Stale(difference));
        }
        Ok(query)
    }

    /// Opens the body of a delivery whose query was verified: the message, and how it was sealed if
    /// it was.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Refused`] if it is not authentic, [`ReceiveError::Malformed`] if it is and can't
    /// be read as a message.
    pub fn open(
        &self,
        query: &DeliveryQuery<'_>,
        body: &[u8],
    ) -> Result<(Arc<Message>, Option<Seal>), ReceiveError> {
        let (message, seal) = if self.is_encrypted() {
            let (clear, seal) = self.decrypt(query, body)?;
            (Arc::new(Message::parse(clear.as_bytes())?), Some(seal))
        } else {
            let xml = std::str::from_utf8(body).map_err(|_| MessageError::from(XmlError::Utf8))?;
            let root = xml::parse_text(xml).map_err(MessageError::from)?;
            // Safe mode's envelope is no message; compatible mode's body is one, with `Encrypt` beside.
            if root.child("Encrypt").is_some() {
                return Err(Refusal::Encrypted.into());
            }
            (Arc::new(Message::from_root(&root, xml)?), None)
        };
        if self.replays.is_replay(
            &query.timestamp,
            &query.nonce,
            &message.ledger_key(),
            query.timestamp_seconds(),
        ) {
            return Err(Refusal::Replay.into());
        }
        Ok((message, seal))
    }

    fn decrypt(
        &self,
        query: &DeliveryQuery<'_>,
        body: &[u8],
    ) -> Result<(String, Seal), ReceiveError> {
        let encrypt = match crypto::read_encrypt(body) {
            Ok(Some(encrypt)) => encrypt,
            Ok(None) => return Err(Refusal::NotEncrypted.into()),
            Err(error) => return Err(Refusal::Envelope(error).into()),
        };
        let given = query.msg_signature.as_deref().ok_or(Refusal::Signature)?;
        let fits = |token: &Secret| {
            signature::sign_encrypted(token.expose(), &query.timestamp, &query.nonce, &encrypt)
                .matches(given)
        };
        let token = self.tokens.iter().position(fits);
        let token = token.ok_or(Refusal::Signature)?;
        let mut refusal = Refusal::Signature;
        for (cipher, key) in self.ciphers.iter().enumerate() {
            match key.decrypt(&encrypt) {
                Ok(message) => return Ok((message, Seal { token, cipher })),
                // All that is authentic about it holds.
                Err(CryptoError::Utf8) => return Err(MessageError::from(XmlError::Utf8).into()),
                Err(error) => refusal = error.into(),
            }
        }
        Err(refusal.into())
    }

    /// The body that answers a message, sealed as the message was. `None`: answer `success`.
    pub fn reply(&self, message: &Message, said: &Said, seal: Option<Seal>) -> Option<String> {
        let xml = said.reply.to_xml(&message.from, &message.to, said.at)?;
        let Some(seal) = seal else {
            return Some(xml);
        };
        let encrypt = self.ciphers.get(seal.cipher)?.encrypt(&xml, rand::random());
        let (now, nonce) = (self.skew.now(), rand::random::<u32>().to_string());
        let token = self.tokens.get(seal.token)?;
        let signature =
            signature::sign_encrypted(token.expose(), &now.to_string(), &nonce, &encrypt);
        Some(crypto::encrypted_reply_xml(
            &encrypt, &signature, now, &nonce,
        ))
    }
}

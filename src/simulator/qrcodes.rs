//! Codes with a scene ("WeChat: 生成带参数的二维码") and short keys ("WeChat: 短key托管").

use std::collections::BTreeMap;

use super::clock::Seconds;
use super::mint::Mint;

/// What a code stands for: a number, or a text of up to 64 letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    Number(u32),
    Text(String),
}

impl Scene {
    /// As events write it.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// `qr_scene` of a profile.
    pub(crate) fn number(scene: Option<&Self>) -> u32 {
        match scene {
            Some(Self::Number(number)) => *number,
            _ => 0,
        }
    }

    /// `qr_scene_str` of a profile.
    pub(crate) fn text(scene: Option<&Self>) -> &str {
        match scene {
            Some(Self::Text(text)) => text,
            _ => "",
        }
    }
}

/// One code.
#[derive(Clone, Debug)]
pub(crate) struct QrCode {
    pub(crate) ticket: String,
    pub(crate) url: String,
    pub(crate) scene: Scene,
    /// Never, for a permanent one.
    pub(crate) expires_at: Option<Seconds>,
}

struct ShortKey {
    long_data: String,
    created_at: Seconds,
    expires_at: Seconds,
}

/// All codes and keys.
#[derive(Default)]
pub(crate) struct QrCodes {
    codes: Vec<QrCode>,
    keys: BTreeMap<String, ShortKey>,
}

/// Permanent codes of an account.
const PERMANENT: usize = 100_000;
/// Temporary codes and keys that are remembered.
const REMEMBERED: usize = 100_000;

impl QrCodes {
    /// Makes a code; a permanent one with the same scene is the same code again.
    ///
    /// # Errors
    ///
    /// 45029 beyond 100 000 permanent codes.
    pub(crate) fn create(
        &mut self,
        scene: Scene,
        expires_at: Option<Seconds>,
        mint: &mut Mint,
    ) -> Result<&QrCode, i64> {
        let permanent = |code: &&QrCode| code.expires_at.is_none();
        if expires_at.is_none() {
            let same = |code: &QrCode| code.expires_at.is_none() && code.scene == scene;
            if let Some(place) = self.codes.iter().position(same) {
                return Ok(&self.codes[place]);
            }
            if self.codes.iter().filter(permanent).count() >= PERMANENT {
                return Err(45029);
            }
        } else if self.codes.len() >= PERMANENT + REMEMBERED {
            let oldest = self.codes.iter().position(|code| code.expires_at.is_some());
            oldest.map(|place| self.codes.remove(place));
        }
        self.codes.push(QrCode {
            ticket: format!("gQH{}==", mint.text("qr ticket", 91)),
            url: format!("http://weixin.qq.com/q/{}", mint.text("qr url", 22)),
            scene,
            expires_at,
        });
        Ok(&self.codes[self.codes.len() - 1])
    }

    /// The code of a ticket that has not run out.
    pub(crate) fn by_ticket(&self, ticket: &str, now: Seconds) -> Option<&QrCode> {
        self.alive(now).find(|code| code.ticket == ticket)
    }

    /// The newest code with that scene, written as events do.
    pub(crate) fn by_scene(&self, key: &str, now: Seconds) -> Option<&QrCode> {
        self.alive(now)
            .filter(|code| code.scene.key() == key)
            .last()
    }

    /// As `/_sim/qrcodes` lists them, the newest first.
    pub(crate) fn to_json(&self, now: Seconds) -> serde_json::Value {
        let one = |code: &QrCode| {
            serde_json::json!({
                "ticket": code.ticket,
                "url": code.url,
                "scene": code.scene.key(),
                "expires_at": code.expires_at,
            })
        };
        let mut codes: Vec<_> = self.alive(now).map(one).collect();
        codes.reverse();
        codes.into()
    }

    fn alive(&self, now: Seconds) -> impl Iterator<Item = &QrCode> {
        let lives = move |code: &&QrCode| code.expires_at.is_none_or(|at| now < at);
        self.codes.iter().filter(lives)
    }

    /// Keeps a long text under a new key.
    pub(crate) fn shorten(
        &mut self,
        long_data: &str,
        life: Seconds,
        mint: &mut Mint,
        now: Seconds,
    ) -> String {
        if self.keys.len() >= REMEMBERED {
            self.keys.retain(|_, key| now < key.expires_at);
        }
        let short_key = mint.letters("short key", 15);
        let key = ShortKey {
            long_data: long_data.to_owned(),
            created_at: now,
            expires_at: now + life,
        };
        self.keys.insert(short_key.clone(), key);
        short_key
    }

    /// The text under a key, when it was kept, and for how long it will be.
    pub(crate) fn long_data(
        &self,
        short_key: &str,
        now: Seconds,
    ) -> Option<(&str, Seconds, Seconds)> {
        let key = self.keys.get(short_key)?;
        let left = key.expires_at - now;
        (left > 0).then_some((key.long_data.as_str(), key.created_at, left))
    }
}

//! Where made-up values come from: ids, tokens, codes, nonces.
//!
//! Each kind of value is a sequence of its own, a hash of seed, kind and place. So with a given seed
//! the third code is the same code, whatever else was called in between.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes values that look random and repeat with the seed.
#[derive(Debug)]
pub(crate) struct Mint {
    seed: u64,
    made: BTreeMap<&'static str, u64>,
}

impl Mint {
    /// Without a seed the values cannot be guessed and do not repeat.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self {
            seed: seed.unwrap_or_else(rand::random),
            made: BTreeMap::new(),
        }
    }

    /// `len` characters of `[A-Za-z0-9_-]`.
    pub(crate) fn text(&mut self, kind: &'static str, len: usize) -> String {
        self.bytes(kind, len)
            .into_iter()
            .map(|byte| char::from(URL_SAFE[usize::from(byte % 64)]))
            .collect()
    }

    /// A token in the platform's form: two digits, `_`, 136 URL-safe characters.
    pub(crate) fn token(&mut self, kind: &'static str) -> String {
        let text = self.text(kind, 138);
        let (head, rest) = text.split_at(2);
        let number: u32 = head.bytes().map(u32::from).sum();
        format!("{}_{rest}", 80 + number % 20)
    }

    /// `len` characters of `[A-Za-z0-9]`.
    pub(crate) fn letters(&mut self, kind: &'static str, len: usize) -> String {
        self.bytes(kind, len)
            .into_iter()
            .map(|byte| char::from(URL_SAFE[usize::from(byte % 62)]))
            .collect()
    }

    /// `len` decimal digits, the first not 0.
    pub(crate) fn digits(&mut self, kind: &'static str, len: usize) -> String {
        self.bytes(kind, len)
            .into_iter()
            .enumerate()
            .map(|(place, byte)| match place {
                0 => char::from(b'1' + byte % 9),
                _ => char::from(b'0' + byte % 10),
            })
            .collect()
    }

    /// `len` lower-case hex digits.
    pub(crate) fn hex(&mut self, kind: &'static str, len: usize) -> String {
        let mut text = hex::encode(self.bytes(kind, len.div_ceil(2)));
        text.truncate(len);
        text
    }

    /// `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, kind: &'static str) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes(kind, N));
        array
    }

    /// 1, 2, 3 …: for ids that count.
    pub(crate) fn next(&mut self, kind: &'static str) -> u64 {
        let made = self.made.entry(kind).or_default();
        *made += 1;
        *made
    }

    fn bytes(&mut self, kind: &'static str, len: usize) -> Vec<u8> {
        let place = self.next(kind);
        let mut bytes = Vec::with_capacity(len + 32);
        for block in 0_u64.. {
            if bytes.len() >= len {
                break;
            }
            let mut hash = Sha256::new();
            for number in [self.seed, place, block] {
                hash.update(number.to_be_bytes());
            }
            hash.update(kind);
            bytes.extend_from_slice(&hash.finalize());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_each_sequence_whatever_else_is_made() {
        let (mut quiet, mut busy) = (Mint::new(Some(7)), Mint::new(Some(7)));
        let first = quiet.text("code", 32);
        busy.text("token", 100);
        assert_eq!(busy.text("code", 32), first);
        assert_ne!(busy.text("code", 32), first);
        assert_ne!(Mint::new(Some(8)).text("code", 32), first);
    }

    #[test]
    fn without_a_seed_nothing_repeats() {
        assert_ne!(
            Mint::new(None).text("code", 32),
            Mint::new(None).text("code", 32)
        );
    }

    #[test]
    fn values_have_the_length_and_letters_asked_for() {
        let mut mint = Mint::new(Some(1));
        for len in [1, 9, 10, 33, 140] {
            assert_eq!(mint.text("t", len).len(), len);
            let digits = mint.digits("d", len);
            assert!(digits.len() == len && !digits.starts_with('0'));
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(mint.hex("h", len).len(), len);
        }
    }
}

//! Maps by keys that are hashes: they need not be hashed again.

use std::hash::{BuildHasherDefault, Hasher};

/// For keys of 64 bits, each as likely as any other, that nobody outside can choose.
pub(crate) type Ready = BuildHasherDefault<AsItIs>;

#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

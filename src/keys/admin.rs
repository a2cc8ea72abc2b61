//! `ADMIN_TOKEN`, which opens every management route.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;

/// The admin token, with what a given one is compared to.
pub(crate) struct Admin {
    token: Secret,
    digest: [u8; 32],
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

impl Admin {
    pub(crate) fn new(token: Secret) -> Self {
        let digest = Sha256::digest(token.expose()).into();
        Self { token, digest }
    }

    /// Whether `given` is the token. Digests are compared, so that it takes the same time whatever the
    /// lengths.
    pub(crate) fn is(&self, given: &str) -> bool {
        self.digest.ct_eq(&Sha256::digest(given)).into()
    }

    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_admins() {
        let admin = Admin::new(Secret::new("correct horse"));
        assert!(admin.is("correct horse"));
        for other in [
            "",
            "correct",
            "correct hors",
            "correct horse ",
            "Correct horse",
        ] {
            assert!(!admin.is(other), "{other:?}");
        }
        assert_eq!(format!("{admin:?}"), "Admin");
    }
}

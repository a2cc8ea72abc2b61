//! The store's key where no `STORE_KEY` is set: a file of mode 0600 beside the embedded store.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::store::StoreKey;

/// Reads the key, or makes the file with a new one. Two processes that start at once end with the same
/// key.
pub(crate) fn read_or_make(path: &Path) -> Result<StoreKey, String> {
    match fs::read(path) {
        Ok(bytes) => {
            let mode = fs::metadata(path)
                .map_err(|error| error.to_string())?
                .permissions()
                .mode()
                & 0o777;
            if mode & 0o077 != 0 {
                return Err(format!("others may read it (mode {mode:03o}): chmod 600"));
            }
            StoreKey::parse(String::from_utf8_lossy(&bytes).trim()).ok_or_else(|| {
                "it holds no key of 64 hex digits: put the backup back, or set STORE_KEY".into()
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).map_err(|error| error.to_string())?
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A file is written whole under another name and then linked: a link never overwrites.
fn make(path: &Path) -> std::io::Result<Result<StoreKey, String>> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:08x}", rand::random::<u32>()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    writeln!(file, "{}", StoreKey::generate().to_secret().expose())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(read_or_make(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_read_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db.key");
        let made = read_or_make(&path).unwrap();
        let read = read_or_make(&path).unwrap();
        assert_eq!(made.to_secret(), read.to_secret());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db.key");
        read_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "torn").unwrap();
        assert!(read_or_make(&path).is_err());
    }
}

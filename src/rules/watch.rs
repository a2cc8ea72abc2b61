//! Notices when files change: by looking at them, which works on any disk and with any editor, those too
//! that put a new file in the place of the old one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is looked. A change counts when it is the same at two looks: a file that is still being
/// written changes again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Files, and how they were when they were last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch(BTreeMap<PathBuf, Option<Stamp>>);

/// What changes with a file: size, times of change, and which file it is. `None`: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: (u64, u64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = path.metadata().ok()?;
        Some(Self {
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
            inode: (data.dev(), data.ino()),
        })
    }
}

impl Watch {
    /// Looks at one file.
    pub(super) fn of(path: &Path) -> Self {
        Self(BTreeMap::from([(path.to_owned(), Stamp::of(path))]))
    }

    /// Turns to these files. Those that were looked at before stay as they were seen: what happened to
    /// them since is still to be noticed.
    pub(super) fn turn_to(mut self, path: &Path, others: &[PathBuf]) -> Self {
        let paths = others.iter().map(PathBuf::as_path).chain([path]);
        let seen = paths.map(|path| {
            let seen = self.0.remove(path);
            (path.to_owned(), seen.unwrap_or_else(|| Stamp::of(path)))
        });
        Self(seen.collect())
    }

    /// Waits until one of the files is another than it was. Gives all of them as they are then.
    pub(super) async fn changed(self) -> Self {
        let mut last = self.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looking = last.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || looking.again()).await else {
                // Only a process that ends gives no answer.
                return std::future::pending().await;
            };
            if now == last && now != self {
                return now;
            }
            last = now;
        }
    }

    fn again(mut self) -> Self {
        for (path, stamp) in &mut self.0 {
            *stamp = Stamp::of(path);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_before_it_turned_is_still_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [file, other] = ["file", "other"].map(|name| folder.path().join(name));
        std::fs::write(&file, "1").unwrap();
        let watch = Watch::of(&file);
        std::fs::write(&file, "12").unwrap();
        let watch = watch.turn_to(&file, std::slice::from_ref(&other));
        let now = watch.clone().again();
        assert_ne!(now, watch, "the file has changed since it was first seen");
        std::fs::write(&other, "1").unwrap();
        assert_ne!(now.clone().again(), now, "the other one has come");
        let alone = now.again().turn_to(&file, &[]);
        std::fs::write(&other, "12").unwrap();
        assert_eq!(alone.clone().again(), alone, "it is no longer looked at");
    }

    #[test]
    fn another_file_in_its_place_is_a_change_whatever_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let [file, new] = ["file", "new"].map(|name| folder.path().join(name));
        std::fs::write(&file, "1").unwrap();
        std::fs::write(&new, "2").unwrap();
        let watch = Watch::of(&file);
        std::fs::rename(&new, &file).unwrap();
        assert_ne!(watch.clone().again(), watch);
    }
}

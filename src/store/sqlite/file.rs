//! The file before SQLite opens it: where it may lie, and who may read it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::store::StoreError;

/// Makes the file if it is missing, readable by its owner alone, and takes the rights of others away
/// if they had some. SQLite gives `-wal` and `-shm` the rights of the file.
///
/// # Errors
///
/// When the folder is missing or not writable, or lies on a network file system: there the locks and
/// the shared memory that WAL needs do not work between machines, and the file gets torn.
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(StoreError::Unusable(format!(
            "the folder `{}` of the database file is missing: make it, or change DATABASE_URL",
            folder.display()
        )));
    }
    // The file itself may be a link, or a mount of its own, elsewhere.
    let lies_at = if path.exists() { path } else { folder };
    if let Some(kind) = network_file_system(lies_at) {
        return Err(StoreError::Unusable(format!(
            "`{}` lies on a network file system ({kind}), which SQLite can't use safely: choose a \
             local disk, or MongoDB",
            path.display()
        )));
    }
    make_private(path).map_err(|error| match error.kind() {
        ErrorKind::StorageFull => StoreError::Unavailable("the disk is full".into()),
        kind => StoreError::Unusable(format!("`{}` can't be opened: {kind}", path.display())),
    })
}

#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match fs::metadata(&file) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map(drop)
}

/// The file of this name with something added.
pub(super) fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    // Where the kernel can't say, SQLite's own errors will.
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    network_name(u32::try_from(kind & 0xffff_ffff).ok()?)
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

/// The name of a network file system by its `f_type`, as statfs(2) lists them. FUSE and 9p are not
/// among them: both carry local folders too.
#[cfg(target_os = "linux")]
fn network_name(kind: u32) -> Option<&'static str> {
    match kind {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        0x564c => Some("NCP"),
        0x00c3_6400 => Some("Ceph"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        _ => None,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_could_read_becomes_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        for file in [path.clone(), beside(&path, "-wal")] {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        prepare(&path).unwrap();
        for file in [path.clone(), beside(&path, "-wal")] {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known_and_local_ones_pass() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("SMB"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_name(local), None, "{local:x}");
        }
        // procfs stands for a kind that is told apart on a real mount.
        let kind = rustix::fs::statfs("/proc").unwrap().f_type;
        assert_eq!(kind, 0x9fa0);
        assert_eq!(network_file_system(&std::env::temp_dir()), None);
    }
}

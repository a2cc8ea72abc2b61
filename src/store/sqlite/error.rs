//! What SQLite's errors mean to a caller. No text holds a value: SQLite's own texts are left out.

use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

/// The decision behind an error of SQLite.
pub(super) fn store_error(error: &Error) -> StoreError {
    let Error::SqliteFailure(failure, _) = error else {
        // What is left are conversions of what a row holds.
        return StoreError::Unusable("a record of the file can't be read".into());
    };
    let extended = failure.extended_code;
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            StoreError::Unavailable("another process held the file's lock for too long".into())
        }
        ErrorCode::DiskFull => StoreError::Unavailable("the disk is full".into()),
        ErrorCode::SystemIoFailure => StoreError::Unavailable(format!(
            "reading or writing the file failed (SQLite code {extended})"
        )),
        ErrorCode::CannotOpen => {
            StoreError::Unavailable(format!("the file can't be opened (SQLite code {extended})"))
        }
        ErrorCode::OutOfMemory => StoreError::Unavailable("out of memory".into()),
        ErrorCode::NotADatabase => {
            StoreError::Unusable("the file is damaged, or it is no SQLite database".into())
        }
        ErrorCode::DatabaseCorrupt => {
            StoreError::Unusable("the file is damaged: restore it from a backup".into())
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::Unusable(
            "the file may not be written to: check its owner and its folder's".into(),
        ),
        _ => StoreError::Unusable(format!("unexpected SQLite code {extended}")),
    }
}

/// Whether the connection that said so is best closed and opened anew: what it holds in memory may no
/// longer be what is on the disk. A lock, a full disk and a broken constraint leave it whole.
pub(super) fn spoils_connection(error: &Error) -> bool {
    error.sqlite_error_code().is_some_and(|code| {
        !matches!(
            code,
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::ConstraintViolation
        )
    })
}

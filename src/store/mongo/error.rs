//! What the driver's errors mean to a caller. Their own texts may hold data and are left out: what is
//! told is the kind, and the server's code with its name.

use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use super::Faults;
use crate::store::StoreError;

/// A second document under one `_id`. Of two upserts that met the second finds the document when it tries
/// again.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Codes of a server that can't do it now: it steps down or shuts down, lost its network, its peers
/// or its time. 50 is a time limit, 64 and 100 are majorities that can't be had, 14031 is a full disk.
const PASSING: [i32; 18] = [
    6, 7, 50, 64, 89, 91, 100, 112, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436,
];
const DISK_FULL: i32 = 14031;

/// Codes of a user who lacks a right, or who isn't who he says.
const FORBIDDEN: [i32; 3] = [13, 18, 8000];

/// The decision behind an error of the driver.
pub(super) fn store_error(error: &Error, faults: &Faults) -> StoreError {
    match error.kind.as_ref() {
        // What was sent is there, but not yet on a majority.
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => StoreError::Timeout,
        ErrorKind::ServerSelection { .. } => {
            StoreError::Unavailable(format!("MongoDB has no primary{faults}"))
        }
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Shutdown => StoreError::Unavailable(format!("MongoDB: {}", reason(error))),
        ErrorKind::Authentication { .. } => StoreError::Unusable(
            "MongoDB refuses the user or the password of DATABASE_URL (or they belong to another \
             authSource)"
                .into(),
        ),
        _ => match code(error) {
            Some(DISK_FULL) => StoreError::Unavailable("the disk of MongoDB is full".into()),
            Some(code) if PASSING.contains(&code) => {
                StoreError::Unavailable(format!("MongoDB: {}", reason(error)))
            }
            Some(code) if FORBIDDEN.contains(&code) => StoreError::Unusable(
                "the user of DATABASE_URL needs the role readWrite on its database, and dbAdmin to change \
                 an index that another version has made"
                    .into(),
            ),
            _ => StoreError::Unusable(format!("MongoDB: {}", reason(error))),
        },
    }
}

/// Whether the same operation may work when it is sent again at once.
pub(super) fn may_repeat(error: &Error) -> bool {
    code(error) == Some(DUPLICATE_KEY)
        || error.contains_label(RETRYABLE_WRITE_ERROR)
        || matches!(
            error.kind.as_ref(),
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. }
        )
}

/// The error in a few words, without the text that came with it.
pub(super) fn reason(error: &Error) -> String {
    match error.kind.as_ref() {
        // The operating system's or the TLS library's: neither knows a value or a password.
        ErrorKind::Io(error) => error.to_string(),
        ErrorKind::ConnectionPoolCleared { .. } => "the connection was given up".into(),
        ErrorKind::ServerSelection { .. } => "no server can be selected".into(),
        ErrorKind::DnsResolve { .. } => "the host name can't be looked up".into(),
        ErrorKind::Authentication { .. } => "authentication failed".into(),
        ErrorKind::InvalidTlsConfig { .. } => "the TLS settings of the URL don't work".into(),
        ErrorKind::IncompatibleServer { .. } => "its version is not supported".into(),
        ErrorKind::InvalidArgument { .. } => "a setting of the URL is not valid".into(),
        ErrorKind::Shutdown => "it is closed".into(),
        ErrorKind::Bson(_) => "a record can't be read".into(),
        ErrorKind::Command(error) => {
            format!("error {} {}", error.code, error.code_name)
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => format!(
            "error {} {}",
            error.code,
            error.code_name.as_deref().unwrap_or_default()
        ),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("error {} {}", error.code, error.code_name)
        }
        _ => "unexpected answer".into(),
    }
}

/// The server's code, where the error carries one.
pub(super) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}

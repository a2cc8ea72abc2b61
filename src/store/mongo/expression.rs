//! The few aggregation expressions that the operations are made of.

use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

use crate::store::Digest;

/// A value as it is: a text that begins with `$` names no field.
pub(super) fn literal(value: impl Into<Bson>) -> Bson {
    doc! { "$literal": value.into() }.into()
}

/// The server's time, `duration` from now.
pub(super) fn from_now(duration: Duration) -> Bson {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // A date holds 64 bits of milliseconds: adding the time must not overflow.
    doc! { "$add": ["$$NOW", millis.min(i64::MAX / 2)] }.into()
}

/// The server's time, `duration` ago.
pub(super) fn ago(duration: Duration) -> Bson {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
    doc! { "$subtract": ["$$NOW", millis] }.into()
}

/// The array in `field`, or an empty one where there is none.
pub(super) fn or_empty(field: &str) -> Bson {
    doc! { "$ifNull": [field, []] }.into()
}

/// Whether the time in `field` is over. Also where there is none: missing sorts before any date.
pub(super) fn is_over(field: &str) -> Bson {
    doc! { "$lte": [field, "$$NOW"] }.into()
}

/// Whether `field` holds nothing.
pub(super) fn is_null(field: &str) -> Bson {
    doc! { "$eq": [{ "$ifNull": [field, Bson::Null] }, Bson::Null] }.into()
}

/// In a filter (never of an upsert): the document has not expired.
pub(super) fn alive() -> Document {
    doc! { "$gt": ["$expires_at", "$$NOW"] }
}

/// Milliseconds until the time in `field`; zero if it is over, or there is none.
pub(super) fn remaining(field: &str) -> Bson {
    doc! { "$max": [0, { "$subtract": [field, "$$NOW"] }] }.into()
}

/// Milliseconds since the time in `field`; zero if there is none, or the clock went back.
pub(super) fn elapsed(field: &str) -> Bson {
    doc! { "$max": [0, { "$subtract": ["$$NOW", field] }] }.into()
}

/// `fields` if `condition` holds, else nothing.
pub(super) fn when(condition: impl Into<Bson>, fields: Document) -> Bson {
    doc! { "$cond": [condition.into(), fields, {}] }.into()
}

/// An update: `parts`, documents or expressions for them, over the fields that are there.
pub(super) fn merge(parts: impl IntoIterator<Item = Bson>) -> Vec<Document> {
    let parts: Vec<Bson> = std::iter::once("$$ROOT".into()).chain(parts).collect();
    vec![doc! { "$replaceWith": { "$mergeObjects": parts } }]
}

/// Bytes.
pub(super) fn binary(bytes: impl Into<Vec<u8>>) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.into(),
    })
}

/// The bytes of a digest.
pub(super) fn digest(digest: &Digest) -> Bson {
    binary(digest.0)
}

/// What a projection computed in milliseconds.
pub(super) fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

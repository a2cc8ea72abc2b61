//! The client of the platform's server API. Only this module speaks to Tencent.
//!
//! [`Transport`] makes one call and knows neither tokens nor retries. [`Client`] makes authorised
//! calls: it takes the `access_token` from the token centre, has it renewed when the platform refuses
//! it, and repeats what is safe to repeat.

mod client;
mod custom;
mod error;
mod form;
mod media;
mod number;
mod skew;
mod sns;
mod transport;
mod user;

pub use client::Client;
pub use custom::{CustomMessage, Unsendable};
pub use error::{ApiError, Class, advice};
pub use form::File;
pub use media::{MediaFault, MediaKind, TEMPORARY_MEDIA_LIVES, UploadedMedia};
pub(crate) use number::Number;
pub use skew::Skew;
pub use sns::{SnsGrant, SnsProfile};
pub(crate) use transport::is_loopback;
pub use transport::{Body, Call, Transport};
pub use user::{FollowerPage, Followers};

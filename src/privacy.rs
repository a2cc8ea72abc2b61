//! What the platform demands to be forgotten: all that is stored about a user who has unfollowed,
//! withdrawn his consent or closed his WeChat account.

use std::time::Duration;

use crate::forward::WebhookId;
use crate::store::Store;
use crate::wechat::Message;
use crate::wechat::id::OpenId;

/// Pauses between tries while the store is away: 12 s in all, within the platform's three deliveries.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(1_500),
    Duration::from_secs(4),
    Duration::from_secs(6),
];

/// Removes what is stored about the user if this event demands it. Returns whether it does.
pub(crate) async fn forget_if_demanded(store: &dyn Store, message: &Message) -> bool {
    let demanded = demanded_by(message);
    if let Some(open_id) = &demanded {
        // If this event itself was forwarded in vain that stays: the other program has to forget him too.
        forget(store, open_id, &WebhookId::of(message)).await;
    }
    demanded.is_some()
}

fn demanded_by(message: &Message) -> Option<OpenId> {
    match message.event_name()? {
        // Of an authorization the subject stands in OpenID; FromUserName may be another id.
        "unsubscribe" | "user_authorization_revoke" | "user_authorization_cancellation" => {
            Some(message.subject().clone())
        }
        _ => None,
    }
}

async fn forget(store: &dyn Store, open_id: &OpenId, but: &WebhookId) {
    let mut pauses = PAUSES.iter();
    loop {
        let forgotten = async {
            store.forget_user(open_id).await?;
            store.forget_dead_letters(open_id, but.as_str()).await
        };
        match (forgotten.await, pauses.next()) {
            (Ok(()), _) => return,
            (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
            (Err(error), None) => {
                // The openid is what the operator needs to do it by hand.
                tracing::error!(%error, user = %open_id, "what is stored about a user could not be removed: remove it by hand");
                return;
            }
        }
    }
}

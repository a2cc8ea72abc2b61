//! What makes two deliveries the same message.

use sha2::{Digest, Sha256};

use super::Message;
use crate::wechat::xml::Element;

/// What a key is made of. Keys lie in the stores: one that is made in another way takes another number.
const BY_MSG_ID: u8 = 1;
const BY_FIELDS: u8 = 2;

impl Message {
    /// The same for each delivery of a message, and for no other message.
    ///
    /// By `MsgId` where there is one, together with receiver and sender, since numbers alone have
    /// collided. Without, by every element: two events of one user in one second do happen. The order
    /// of the elements and the white space between them do not count.
    pub fn ledger_key(&self) -> [u8; 32] {
        self.ledger_key
    }

    /// The message under the key that a store knows it by, which an older program may have made in
    /// another way.
    #[must_use]
    pub(crate) fn known_as(self, ledger_key: [u8; 32]) -> Self {
        Self { ledger_key, ..self }
    }

    /// That of a message which was read from `root`.
    pub(super) fn compute_ledger_key(&self, root: &Element<'_>) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self.msg_id {
            Some(id) => {
                // With ids as long as the platform's that is one block of the hash.
                hash.update([BY_MSG_ID]);
                hash.update(id.get().to_be_bytes());
                hash.update(self.to.as_str());
                // No id holds it.
                hash.update("/");
                hash.update(self.from.as_str());
            }
            None => {
                hash.update([BY_FIELDS]);
                put_children(&mut hash, &root.children);
            }
        }
        hash.finalize().into()
    }
}

/// With its length before it, so that nothing can move from one text to the next.
fn put(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

fn put_children(hash: &mut Sha256, children: &[Element<'_>]) {
    let mut sorted: Vec<_> = children.iter().collect();
    // Stable: the order of elements of one name is part of what they say.
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    hash.update((sorted.len() as u64).to_be_bytes());
    for element in sorted {
        put(hash, &element.name);
        put(hash, &element.text);
        // At most as deep as XML is read.
        put_children(hash, &element.children);
    }
}

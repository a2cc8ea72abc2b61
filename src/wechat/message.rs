//! What the platform delivers: a message of a user or an event, as a typed value.
//!
//! WeChat: "接收普通消息", "接收事件推送". The four elements that every message has must be right; what
//! else a message holds decides its [`Kind`], and a type or a field that is not as declared makes it
//! [`Unknown`], never an error: the platform adds types without notice, and an error would only make
//! it deliver the same again.

mod field;
mod json;
mod ledger;

use std::fmt;
use std::sync::Arc;

use super::event::Event;
use super::id::{AppId, MsgId, OpenId, OriginalId};
use super::record::{Fault, Slot, records};
use super::xml::{self, Element, XmlError};

/// A message or an event. Nothing of it is lost: [`Message::xml`] is what it was read from.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// The account, `ToUserName`.
    pub to: OriginalId,
    /// The user, `FromUserName`. For the account's own events it may be no follower.
    pub from: OpenId,
    /// Unix seconds, `CreateTime`. In plain mode it is not signed: data, not freshness.
    pub create_time: i64,
    /// The message's number, `MsgId`. Events have none.
    pub msg_id: Option<MsgId>,
    /// The article from which the message was sent, `MsgDataId`.
    pub msg_data_id: Option<String>,
    /// That article's place in its publication from 1, `Idx`.
    pub idx: Option<u32>,
    /// What it is.
    pub kind: Kind,
    xml: Arc<str>,
    ledger_key: [u8; 32],
}

records! {
    /// What a message is, by its `MsgType`.
    pub enum Kind {
        /// Words.
        Text = "text" {
            /// As the user typed it. What the platform cannot forward, stickers for one, arrives as
            /// the text `【收到不支持的消息类型，暂无法显示】`.
            content: String = "Content",
            /// The item of a `msgmenu` that the user tapped.
            bizmsgmenuid: Option<i64> = "bizmsgmenuid",
        }
        /// A picture.
        Image = "image" {
            /// Where the platform keeps it.
            pic_url: String = "PicUrl",
            /// Lives three days.
            media_id: String = "MediaId",
        }
        /// A voice message.
        Voice = "voice" {
            /// 8 kHz, lives three days.
            media_id: String = "MediaId",
            /// `amr` or `speex`.
            format: Option<String> = "Format",
            /// What was said, where the console's switch is on. Often empty all the same.
            recognition: Option<String> = "Recognition",
            /// The same at 16 kHz.
            media_id_16k: Option<String> = "MediaId16K",
        }
        /// A video.
        Video = "video" {
            /// Lives three days.
            media_id: String = "MediaId",
            /// Lives three days.
            thumb_media_id: Option<String> = "ThumbMediaId",
        }
        /// A video of the phone's quick recorder.
        ShortVideo = "shortvideo" {
            /// Lives three days.
            media_id: String = "MediaId",
            /// Lives three days.
            thumb_media_id: Option<String> = "ThumbMediaId",
        }
        /// A place.
        Location = "location" {
            /// The latitude in degrees.
            location_x: f64 = "Location_X",
            /// The longitude in degrees.
            location_y: f64 = "Location_Y",
            /// The map's zoom.
            scale: Option<i64> = "Scale",
            /// The address.
            label: Option<String> = "Label",
        }
        /// A link to an article or a page.
        Link = "link" {
            /// The headline.
            title: String = "Title",
            /// The lines below it.
            description: Option<String> = "Description",
            /// Where it leads.
            url: String = "Url",
        }
        /// A file. It has no `MediaId`, so it cannot be fetched.
        File = "file" {
            /// The file's name.
            title: String = "Title",
            /// Mostly empty.
            description: Option<String> = "Description",
            /// Names it on the platform.
            file_key: Option<String> = "FileKey",
            /// 32 hex digits.
            file_md5: Option<String> = "FileMd5",
            /// Bytes.
            file_total_len: Option<i64> = "FileTotalLen",
        }
        /// A card of a mini program.
        MiniProgramPage = "miniprogrampage" {
            /// The card's headline.
            title: String = "Title",
            /// The mini program.
            app_id: Option<AppId> = "AppId",
            /// The page inside it.
            page_path: Option<String> = "PagePath",
            /// Where the platform keeps the card's picture.
            thumb_url: Option<String> = "ThumbUrl",
            /// Lives three days.
            thumb_media_id: Option<String> = "ThumbMediaId",
        }
    }
    others {
        /// Something happened.
        Event(_event: Box<Event>) => "event",
        /// A type that is not declared, or a field that is not as declared.
        Unknown(unknown: Unknown) => &unknown.msg_type,
    }
}

impl Kind {
    /// The kind of a message.
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as for events")]
    fn of(message: &Message) -> Option<&Self> {
        Some(&message.kind)
    }
}

/// A message that is not of a declared form, with all it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// `MsgType`.
    pub msg_type: String,
    /// `Event`, where the type is `event`.
    pub event: Option<String>,
    /// All elements but those of [`Message`]'s own fields and `Event`.
    pub fields: Vec<Element<'static>>,
}

/// A message or event type as a value: what [`Message::get`] looks for.
pub trait Typed: Sized {
    /// WeChat's name: a `MsgType`, or an `Event`.
    const NAME: &'static str;

    /// The value in a message of this type.
    fn of(message: &Message) -> Option<&Self>;
}

/// Why a body is no message. It never repeats the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No XML, or XML that is refused.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// An element that every message of the type has is not there, or is empty.
    #[error("the message has no `{0}`")]
    Missing(&'static str),
    /// A known element stands twice.
    #[error("the message has `{0}` twice")]
    Duplicate(&'static str),
    /// An element that every message has is not of its type.
    #[error("the message's `{0}` is malformed")]
    Malformed(&'static str),
}

impl Message {
    /// Reads the clear XML of a delivery.
    ///
    /// # Errors
    ///
    /// [`MessageError`] for what is no XML, and for a message whose `ToUserName`, `FromUserName`,
    /// `CreateTime`, `MsgType`, text's `Content` or event's `Event` is missing, for malformed ones of
    /// the first three, and for a known element that stands twice.
    pub fn parse(xml: &[u8]) -> Result<Self, MessageError> {
        let text = str::from_utf8(xml).map_err(|_| XmlError::Utf8)?;
        Self::from_root(&xml::parse_text(text)?, text)
    }

    /// Takes a message out of XML that was read already, to look for `Encrypt` in it for one.
    ///
    /// # Errors
    ///
    /// As for [`Message::parse`].
    pub fn from_root(root: &Element<'_>, xml: &str) -> Result<Self, MessageError> {
        if root.name != "xml" {
            return Err(MessageError::Missing("xml"));
        }
        let head = Head::find(root)?;
        let msg_type = required(head.msg_type, "MsgType")?;
        let create_time = required(head.create_time, "CreateTime")?;
        let mut message = Self {
            to: OriginalId::parse(required(head.to, "ToUserName")?)
                .map_err(|_| MessageError::Malformed("ToUserName"))?,
            from: OpenId::parse(required(head.from, "FromUserName")?)
                .map_err(|_| MessageError::Malformed("FromUserName"))?,
            create_time: create_time
                .parse()
                .map_err(|_| MessageError::Malformed("CreateTime"))?,
            msg_id: None,
            msg_data_id: head
                .msg_data_id
                .map(|element| element.text.clone().into_owned()),
            idx: None,
            kind: Kind::read_any(msg_type, head.event, root)?,
            xml: xml.into(),
            ledger_key: [0; 32],
        };
        let msg_id = Slot::read(head.msg_id, "MsgId").map(|id| message.msg_id = id);
        let idx = Slot::read(head.idx, "Idx").map(|idx| message.idx = idx);
        if msg_id.and(idx).is_err() {
            message.kind = Kind::Unknown(Unknown::new(msg_type, head.event, root));
        }
        message.ledger_key = message.compute_ledger_key(root);
        Ok(message)
    }

    /// The XML that this was read from.
    pub fn xml(&self) -> &str {
        &self.xml
    }

    /// The same, to be kept.
    pub(crate) fn shared_xml(&self) -> Arc<str> {
        Arc::clone(&self.xml)
    }

    /// Every element of the message, read anew from its XML.
    pub fn fields(&self) -> Vec<Element<'_>> {
        // It was read before, so it can be read again.
        xml::parse(self.xml.as_bytes())
            .map(|root| root.children)
            .unwrap_or_default()
    }

    /// WeChat's `MsgType`.
    pub fn msg_type(&self) -> &str {
        self.kind.name()
    }

    /// Whether it is an event, declared or not.
    pub fn is_event(&self) -> bool {
        self.msg_type() == EVENT
    }

    /// Whether the user has left: after that nothing reaches him.
    pub fn is_farewell(&self) -> bool {
        self.event_name() == Some("unsubscribe")
    }

    /// The event, if it is a declared one.
    pub fn event(&self) -> Option<&Event> {
        match &self.kind {
            Kind::Event(event) => Some(event),
            _ => None,
        }
    }

    /// WeChat's `Event`, declared or not.
    pub fn event_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Event(event) => Some(event.name()),
            Kind::Unknown(unknown) => unknown.event.as_deref(),
            _ => None,
        }
    }

    /// `EventKey`: a menu button's key or URL, or a QR code's scene. `None` where empty.
    pub fn event_key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Event(event) => event.key(),
            Kind::Unknown(unknown) if unknown.event.is_some() => {
                let key = unknown
                    .fields
                    .iter()
                    .find(|field| field.name == "EventKey")?;
                Some(&*key.text).filter(|key| !key.is_empty())
            }
            _ => None,
        }
    }

    /// What the user wrote, if it is a text.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(&text.content),
            _ => None,
        }
    }

    /// The scene of the QR code that was scanned, by a new follower or an old one.
    pub fn scene(&self) -> Option<&str> {
        self.event()?.scene()
    }

    /// Whom the message is about: the sender, or whom an authorization event names.
    pub fn subject(&self) -> &OpenId {
        self.event().and_then(Event::subject).unwrap_or(&self.from)
    }

    /// The message as one type, for instance `message.get::<event::Subscribe>()`.
    pub fn get<T: Typed>(&self) -> Option<&T> {
        T::of(self)
    }
}

/// Prints no body: messages are private.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("to", &self.to)
            .field("from", &self.from)
            .field("create_time", &self.create_time)
            .field("msg_id", &self.msg_id)
            .field("msg_type", &self.msg_type())
            .field("event", &self.event_name())
            .finish_non_exhaustive()
    }
}

const EVENT: &str = "event";

/// The elements that tell where a message goes and what it is.
#[derive(Clone, Copy, Default)]
struct Head<'e> {
    to: Option<&'e Element<'e>>,
    from: Option<&'e Element<'e>>,
    create_time: Option<&'e Element<'e>>,
    msg_type: Option<&'e Element<'e>>,
    msg_id: Option<&'e Element<'e>>,
    msg_data_id: Option<&'e Element<'e>>,
    idx: Option<&'e Element<'e>>,
    event: Option<&'e Element<'e>>,
}

impl<'e> Head<'e> {
    fn find(root: &'e Element<'e>) -> Result<Self, MessageError> {
        let mut head = Self::default();
        for child in &root.children {
            let Some((name, slot)) = head.slot(&child.name) else {
                continue;
            };
            if slot.replace(child).is_some() {
                return Err(MessageError::Duplicate(name));
            }
        }
        Ok(head)
    }

    fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'e Element<'e>>)> {
        Some(match name {
            "ToUserName" => ("ToUserName", &mut self.to),
            "FromUserName" => ("FromUserName", &mut self.from),
            "CreateTime" => ("CreateTime", &mut self.create_time),
            "MsgType" => ("MsgType", &mut self.msg_type),
            "MsgId" => ("MsgId", &mut self.msg_id),
            "MsgDataId" => ("MsgDataId", &mut self.msg_data_id),
            "Idx" => ("Idx", &mut self.idx),
            "Event" => ("Event", &mut self.event),
            _ => return None,
        })
    }

    fn holds(name: &str) -> bool {
        Self::default().slot(name).is_some()
    }
}

/// The trimmed text of an element that must be there and not empty.
fn required<'e>(
    element: Option<&'e Element<'e>>,
    name: &'static str,
) -> Result<&'e str, MessageError> {
    element
        .map(|element| element.text.trim())
        .filter(|text| !text.is_empty())
        .ok_or(MessageError::Missing(name))
}

impl Kind {
    fn read_any(
        msg_type: &str,
        event: Option<&Element<'_>>,
        root: &Element<'_>,
    ) -> Result<Self, MessageError> {
        let read = if msg_type == EVENT {
            Event::read(required(event, "Event")?, root)
                .map(|read| read.map(|event| Self::Event(Box::new(event))))
        } else {
            Self::read(msg_type, root)
        };
        match read {
            Some(Ok(kind)) => Ok(kind),
            Some(Err(Fault::Duplicate(name))) => Err(MessageError::Duplicate(name)),
            Some(Err(Fault::Missing(name))) if msg_type == Text::NAME => {
                Err(MessageError::Missing(name))
            }
            Some(Err(Fault::Missing(_) | Fault::Malformed(_))) | None => {
                Ok(Self::Unknown(Unknown::new(msg_type, event, root)))
            }
        }
    }
}

impl Unknown {
    fn new(msg_type: &str, event: Option<&Element<'_>>, root: &Element<'_>) -> Self {
        let event = event.filter(|_| msg_type == EVENT);
        Self {
            msg_type: msg_type.to_owned(),
            event: event.map(|event| event.text.trim().to_owned()),
            fields: root
                .children
                .iter()
                .filter(|child| !Head::holds(&child.name))
                .map(Element::to_owned)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;

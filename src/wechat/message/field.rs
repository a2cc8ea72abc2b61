//! Single fields of a message by their names, and the names that there are.

use super::{EVENT, Kind, Message};
use crate::wechat::event::{Event, ScanCodeInfo, SendLocationInfo};
use crate::wechat::record::Record as _;

/// The fields of every message, and of every event.
const HEAD: &[&str] = &[
    "ToUserName",
    "FromUserName",
    "CreateTime",
    "MsgType",
    "MsgId",
    "MsgDataId",
    "Idx",
    "Event",
];

impl Message {
    /// The text of a field by WeChat's name, as it came. Of a structure's field the name is
    /// `ScanCodeInfo.ScanResult`.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let fields = self.fields();
        let mut path = name.split('.');
        let first = path.next()?;
        let mut found = fields.iter().find(|field| field.name == first)?;
        for inner in path {
            found = found.child(inner)?;
        }
        Some(found.text.clone().into_owned())
    }

    /// All names that [`Message::field`] may find in a message of a declared form.
    pub(crate) fn field_names() -> Vec<String> {
        let inside = [
            ("ScanCodeInfo", ScanCodeInfo::FIELDS),
            ("SendLocationInfo", SendLocationInfo::FIELDS),
        ];
        let inside = inside
            .into_iter()
            .flat_map(|(name, fields)| fields.iter().map(move |field| format!("{name}.{field}")));
        let declared = HEAD.iter().copied();
        let declared = declared
            .chain(Kind::all_fields())
            .chain(Event::all_fields());
        let mut names: Vec<_> = declared.map(str::to_owned).chain(inside).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All `MsgType`s that are declared.
    pub(crate) fn types() -> impl Iterator<Item = &'static str> {
        Kind::NAMES.iter().copied().chain([EVENT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_and_inside_a_structure() {
        let xml = "<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName>\
                   <CreateTime>1</CreateTime><MsgType>event</MsgType><Event>scancode_waitmsg</Event>\
                   <EventKey>k</EventKey><ScanCodeInfo><ScanType>qrcode</ScanType>\
                   <ScanResult>r</ScanResult></ScanCodeInfo></xml>";
        let message = Message::parse(xml.as_bytes()).unwrap();
        assert_eq!(message.field("EventKey").unwrap(), "k");
        assert_eq!(message.field("FromUserName").unwrap(), "o1");
        assert_eq!(message.field("ScanCodeInfo.ScanResult").unwrap(), "r");
        assert_eq!(message.field("ScanCodeInfo.Other"), None);
        assert_eq!(message.field("Content"), None);
        let names = Message::field_names();
        for name in [
            "Content",
            "EventKey",
            "Recognition",
            "ScanCodeInfo.ScanResult",
            "MsgId",
        ] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert!(Message::types().any(|name| name == "shortvideo"));
    }
}

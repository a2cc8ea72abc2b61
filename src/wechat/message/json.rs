//! Messages as JSON: flat, with WeChat's names.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Message, Unknown};
use crate::wechat::message::Kind;
use crate::wechat::xml::Element;

impl Message {
    /// The message as JSON. Numbers are numbers, but ids of 64 bits are strings, since they pass
    /// 2^53. An element that is not declared is a string, or an object where it has children, and a
    /// repeated one inside such an object is an array.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        // The kinds are structs of texts, numbers and lists: nothing that JSON could not hold.
        if let Ok(Value::Object(declared)) = serde_json::to_value(&self.kind) {
            object = declared;
        }
        object.insert("ToUserName".to_owned(), json!(self.to));
        object.insert("FromUserName".to_owned(), json!(self.from));
        object.insert("CreateTime".to_owned(), json!(self.create_time));
        object.insert("MsgType".to_owned(), json!(self.msg_type()));
        let optional = [
            ("MsgId", self.msg_id.map(|id| json!(id))),
            ("MsgDataId", self.msg_data_id.as_ref().map(|id| json!(id))),
            ("Idx", self.idx.map(|idx| json!(idx))),
            ("Event", self.event_name().map(|name| json!(name))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        }
        for element in self.fields() {
            let name = self.declared_name(&element.name);
            if !object.contains_key(name) {
                object.insert(name.to_owned(), undeclared(&element));
            }
        }
        Value::Object(object)
    }

    fn declared_name<'a>(&self, name: &'a str) -> &'a str
    where
        'static: 'a,
    {
        let declared = match &self.kind {
            Kind::Event(event) => event.field(name),
            kind => kind.field(name),
        };
        declared.unwrap_or(name)
    }
}

/// Its members are in the message's fields, from where [`Message::to_json`] takes them.
impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Map::<String, Value>::new().serialize(serializer)
    }
}

fn undeclared(element: &Element<'_>) -> Value {
    if element.children.is_empty() {
        return Value::String(element.text.clone().into_owned());
    }
    let mut object = Map::new();
    for child in &element.children {
        // At most as deep as XML is read.
        let value = undeclared(child);
        match object.get_mut(&*child.name) {
            None => {
                object.insert(child.name.clone().into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(object)
}

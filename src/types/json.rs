//! A JSON object whose members keep their bytes and their order.
//!
//! Finch adds fields without notice and perch must pass what it does not know untouched
//! (Finch API reference), so a body that perch has to change is never rebuilt from typed values: members
//! are replaced or appended one by one, and the rest stay as they were written.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON object, member by member, as it was written.
#[derive(Debug, Clone, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Reads an object. `None` when the bytes are not one JSON object.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The member's value as it was written; the last one when a name stands twice.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// The member as a text, when it is one.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The members' names as they were written, doubles included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Puts `value` in the place of the member, at the end when it is new; doubles of it go.
    pub fn set(&mut self, name: &str, value: &impl serde::Serialize) {
        let Ok(value) = serde_json::value::to_raw_value(value) else { return };
        let place = self.0.iter().position(|(n, _)| n == name);
        self.0.retain(|(n, _)| n != name);
        match place {
            Some(at) => self.0.insert(at.min(self.0.len()), (name.to_owned(), value)),
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes the member out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// Writes the object: members in order, values byte for byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.iter().map(|(n, v)| n.len() + v.get().len() + 4).sum());
        out.push(b'{');
        for (i, (name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            // A string always serialises.
            out.extend(serde_json::to_vec(name).unwrap_or_default());
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        out
    }
}

impl<'de> serde::Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawObject(members))
            }
        }
        d.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_keeps_its_bytes() {
        let source = br#"{ "n": 1.10e2, "big": 123456789012345678901234567890, "s": "\u00e9", "code": 404 }"#;
        let mut object = RawObject::parse(source).expect("an object");
        object.set("code", &500);
        object.set("perch", &"x");
        assert_eq!(
            String::from_utf8(object.to_bytes()).expect("text"),
            r#"{"n":1.10e2,"big":123456789012345678901234567890,"s":"\u00e9","code":500,"perch":"x"}"#
        );
    }

    #[test]
    fn a_doubled_member_is_replaced_as_one() {
        let mut object = RawObject::parse(br#"{"a":1,"b":2,"a":3}"#).expect("an object");
        assert_eq!(object.get("a").map(RawValue::get), Some("3"));
        object.set("a", &9);
        assert_eq!(object.to_bytes(), br#"{"a":9,"b":2}"#);
    }

    #[test]
    fn only_an_object_is_an_object() {
        for bytes in [&b"[]"[..], b"", b"{", b"null", b"{} x", b"\xff"] {
            assert!(RawObject::parse(bytes).is_none(), "{bytes:?}");
        }
    }
}

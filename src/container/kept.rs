//! A part of the record that few verbs look into. It stays the text that was read until somebody asks for what it says: reading
//! all of a record took a twentieth of the time of `kill` and `delete`, and six pages of stack. Used by `record.rs`.

use std::borrow::Cow;
use std::fmt::{Debug, Formatter};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub(crate) enum Kept<T> {
    /// Made by this process.
    Known(T),
    /// JSON, as it lies in the file, and so it is written again.
    Text(Box<RawValue>),
}

impl<T: Clone + DeserializeOwned> Kept<T> {
    /// What it says; `field` is where in the record, for the error.
    pub(crate) fn get(&self, field: &str) -> Result<Cow<'_, T>> {
        match self {
            Kept::Known(value) => Ok(Cow::Borrowed(value)),
            Kept::Text(text) => serde_json::from_str(text.get())
                .with_context(|| format!("parse `state.json`: {field}"))
                .map(Cow::Owned),
        }
    }
}

impl<T> From<T> for Kept<T> {
    fn from(value: T) -> Kept<T> {
        Kept::Known(value)
    }
}

impl<T: Serialize> Serialize for Kept<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Kept::Known(value) => value.serialize(to),
            Kept::Text(text) => text.serialize(to),
        }
    }
}

impl<'a, T> Deserialize<'a> for Kept<T> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(from).map(Kept::Text)
    }
}

impl<T: Debug> Debug for Kept<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Kept::Known(value) => value.fmt(f),
            Kept::Text(text) => f.write_str(text.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_it_was_read_and_read_when_asked_for() {
        let text = r#"{"a" : [1,  2], "later": null}"#;
        let kept: Kept<serde_json::Value> = serde_json::from_str(text).unwrap();
        assert!(matches!(kept, Kept::Text(_)));
        assert_eq!(serde_json::to_string(&kept).unwrap(), text);
        assert_eq!(kept.get("part").unwrap()["a"][1], 2);
        assert_eq!(serde_json::to_string(&Kept::from(7)).unwrap(), "7");
    }

    #[test]
    fn what_is_wrong_with_it_is_said_with_its_place() {
        let kept: Kept<u8> = serde_json::from_str("300").unwrap();
        let error = format!("{:#}", kept.get("process").unwrap_err());
        assert!(error.contains("`state.json`: process"), "{error}");
        assert!(serde_json::from_str::<Kept<u8>>("[1").is_err());
    }
}

//! `org.systemd.property.NAME` annotations: properties of the unit that the caller asks for. Only those of a list are taken
//! (G6): annotations reach a runtime from images and pods, and most properties would change what confines the container.
//! The values are GVariant text, of which this reads what the listed types need. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::properties::List;
use super::wire::Value;

const PREFIX: &str = "org.systemd.property.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    I32,
    /// In microseconds; also given in seconds, under a name that ends in `Sec`.
    Time,
    Str,
    Strs,
}

/// How the unit ends, in which order it starts and stops, and when systemd forgets it: what engines ask for.
const ALLOWED: [(&str, Type); 10] = [
    ("After", Type::Strs),
    ("Before", Type::Strs),
    ("CollectMode", Type::Str),
    ("DefaultDependencies", Type::Bool),
    ("Description", Type::Str),
    ("KillMode", Type::Str),
    ("KillSignal", Type::I32),
    ("RuntimeMaxUSec", Type::Time),
    ("SendSIGKILL", Type::Bool),
    ("TimeoutStopUSec", Type::Time),
];

/// Adds the properties that the annotations ask for.
pub(crate) fn properties(annotations: &BTreeMap<String, String>, out: &mut List) -> Result<()> {
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let at = || format!("annotations[{key}]: `{}`", text.escape_debug());
        let seconds = name
            .strip_suffix("Sec")
            .filter(|_| !name.ends_with("USec"))
            .map(|stem| format!("{stem}USec"));
        let wanted = seconds.as_deref().unwrap_or(name);
        let found = ALLOWED.iter().find(|(allowed, _)| *allowed == wanted);
        let Some((name, kind)) = found else {
            bail!(
                "annotations[{key}]: not a property that may be set by an annotation: {}",
                list()
            );
        };
        let value = if seconds.is_some() {
            Value::U64(microseconds(text).with_context(at)?)
        } else {
            value(*kind, text).with_context(at)?
        };
        out.set(name, value);
    }
    Ok(())
}

fn list() -> String {
    let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    format!("{} (and ...Sec for ...USec)", names.join(", "))
}

fn value(kind: Type, text: &str) -> Result<Value> {
    let mut input = Input { rest: text.trim() };
    let value = match kind {
        Type::Bool => Value::Bool(match input.word() {
            "true" => true,
            "false" => false,
            _ => bail!("is neither true nor false"),
        }),
        Type::I32 => Value::I32(number(&mut input, &["int32", "@i"])?),
        Type::Time => Value::U64(number(&mut input, &["uint64", "@t"])?),
        Type::Str => Value::Str(input.string()?),
        Type::Strs => Value::Strs(input.strings()?),
    };
    ensure!(input.rest.is_empty(), "has more after the value");
    Ok(value)
}

/// Decimal or hexadecimal, with or without its type before it.
fn number<T: TryFrom<i128>>(input: &mut Input<'_>, types: &[&str]) -> Result<T> {
    let mut word = input.word();
    if types.contains(&word) {
        word = input.word();
    }
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let parsed =
        i128::from(parsed.with_context(|| format!("is not a number of type {}", types[0]))?);
    let signed = if negative { -parsed } else { parsed };
    T::try_from(signed)
        .ok()
        .with_context(|| format!("is not a number of type {}", types[0]))
}

/// Seconds, whole or with a fraction and with or without a type, as microseconds.
fn microseconds(text: &str) -> Result<u64> {
    const TYPES: [&str; 8] = [
        "byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = match words[..] {
        [number] => number,
        [kind, number] if TYPES.contains(&kind) => number,
        _ => bail!("is not a number of seconds"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    ensure!(
        fraction.len() <= 6 && fraction.bytes().all(|b| b.is_ascii_digit()),
        "is not a number of seconds"
    );
    let whole: u64 = whole.parse().context("is not a number of seconds")?;
    let fraction: u64 = format!("{fraction:0<6}").parse()?;
    whole
        .checked_mul(1_000_000)
        .and_then(|whole| whole.checked_add(fraction))
        .context("is too long a time")
}

struct Input<'a> {
    rest: &'a str,
}

impl<'a> Input<'a> {
    /// Up to the next blank.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(char::is_whitespace)
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// In single or double quotes, with backslashes before what would end it.
    fn string(&mut self) -> Result<String> {
        let quote = self.rest.chars().next().filter(|c| "'\"".contains(*c));
        let quote = quote.context("is not a string in quotes")?;
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = self.rest[at + 1..].trim_start();
                return Ok(out);
            }
            let c = if c == '\\' {
                match chars.next() {
                    Some((_, c @ ('\\' | '\'' | '"'))) => c,
                    _ => bail!("has a backslash before something else than a quote or a backslash"),
                }
            } else {
                c
            };
            ensure!(!c.is_control(), "has a control character");
            out.push(c);
        }
        bail!("is a string without its closing quote")
    }

    fn strings(&mut self) -> Result<Vec<String>> {
        self.eat("@as");
        ensure!(self.eat("["), "is not a list in square brackets");
        let mut out = Vec::new();
        if self.eat("]") {
            return Ok(out);
        }
        loop {
            out.push(self.string()?);
            if self.eat("]") {
                return Ok(out);
            }
            ensure!(self.eat(","), "is a list without its closing bracket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<(&'static str, Value)> {
        let annotations = [(format!("{PREFIX}{name}"), text.to_owned())].into();
        let mut list = List::default();
        properties(&annotations, &mut list)?;
        let property = list.done().pop().context("none")?;
        Ok((property.name, property.value))
    }

    #[test]
    fn what_engines_send() {
        let text = |t: &str| Value::Str(t.to_owned());
        let list = |l: &[&str]| Value::Strs(l.iter().map(|t| (*t).to_owned()).collect());
        for (name, given, expected) in [
            (
                "CollectMode",
                "'inactive-or-failed'",
                text("inactive-or-failed"),
            ),
            ("CollectMode", "\"in\\\"active\"", text("in\"active")),
            ("TimeoutStopUSec", "uint64 10000000", Value::U64(10_000_000)),
            ("TimeoutStopUSec", "0x10", Value::U64(16)),
            ("KillSignal", "37", Value::I32(37)),
            ("KillSignal", "int32 9", Value::I32(9)),
            ("DefaultDependencies", "true", Value::Bool(true)),
            (
                "After",
                "['crio.service', \"b.service\"]",
                list(&["crio.service", "b.service"]),
            ),
            ("After", "@as []", list(&[])),
        ] {
            assert_eq!(read(name, given).unwrap(), (name, expected), "{given}");
        }
        for (given, expected) in [
            ("2", 2_000_000),
            ("uint64 3", 3_000_000),
            ("2.5", 2_500_000),
            ("double 0.000001", 1),
        ] {
            let value = read("TimeoutStopSec", given).unwrap();
            assert_eq!(value, ("TimeoutStopUSec", Value::U64(expected)));
        }
    }

    #[test]
    fn other_annotations_are_nobodys_business() {
        let mut list = List::default();
        properties(
            &[("org.example".to_owned(), "x".to_owned())].into(),
            &mut list,
        )
        .unwrap();
        assert!(list.done().is_empty());
    }

    #[test]
    fn what_would_weaken_the_container_is_refused() {
        for name in [
            "DevicePolicy",
            "DeviceAllow",
            "Slice",
            "Delegate",
            "MemoryMax",
            "PIDs",
            "",
            "Sec",
        ] {
            let text = format!("{:#}", read(name, "'x'").unwrap_err());
            assert!(
                text.contains("may be set by an annotation: After, "),
                "{text}"
            );
            assert!(
                text.starts_with("annotations[org.systemd.property."),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_values() {
        for (name, given) in [
            ("CollectMode", "inactive"),
            ("CollectMode", "'open"),
            ("CollectMode", "'a' 'b'"),
            ("CollectMode", "'a\\nb'"),
            ("CollectMode", ""),
            ("TimeoutStopUSec", "int32 5"),
            ("TimeoutStopUSec", "-5"),
            ("TimeoutStopUSec", "18446744073709551616"),
            ("TimeoutStopSec", "1.2345678"),
            ("TimeoutStopSec", "x 5"),
            ("TimeoutStopSec", ""),
            ("TimeoutStopSec", "18446744073709551615"),
            ("KillSignal", "3000000000"),
            ("DefaultDependencies", "yes"),
            ("After", "'a'"),
            ("After", "['a'"),
            ("After", "['a' 'b']"),
        ] {
            assert!(read(name, given).is_err(), "{name} {given}");
        }
    }
}

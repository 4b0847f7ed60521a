//! One rule of `linux.resources.devices`, and the rules that every container has.
//! Plain data: `cgroup::devices` works out what a list of them means.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

/// Which special files a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeviceKind {
    All,
    Block,
    Char,
}

/// A set of mknod, read, write. The bits are the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Access(u8);

impl Access {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const MKNOD: Self = Self(1);
    pub(crate) const READ: Self = Self(2);
    pub(crate) const WRITE: Self = Self(4);
    pub(crate) const ALL: Self = Self(7);

    pub(crate) fn bits(self) -> u8 {
        self.0
    }
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Letters of `rwm` in any order, each at most meaningful once, at least one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut out = Self::NONE;
        for c in text.chars() {
            out = out.union(match c {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => bail!("access: `{text}` has other letters than r, w, m"),
            });
        }
        ensure!(!out.is_empty(), "access: must not be empty");
        Ok(out)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if !self.intersection(bit).is_empty() {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule; `None` for a number means every number. Stored as text, `allow c 1:3 rwm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

const fn allow(
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

impl DeviceRule {
    /// The devices every container may use, and the making (not the opening) of any node. runc's list. 5:1 is not in
    /// it: a container's /dev/console is a pts, and that number is the host's console.
    pub(crate) const STANDARD: [Self; 11] = [
        allow(DeviceKind::Char, None, None, Access::MKNOD),
        allow(DeviceKind::Block, None, None, Access::MKNOD),
        allow(DeviceKind::Char, Some(1), Some(3), Access::ALL), // null
        allow(DeviceKind::Char, Some(1), Some(8), Access::ALL), // random
        allow(DeviceKind::Char, Some(1), Some(7), Access::ALL), // full
        allow(DeviceKind::Char, Some(5), Some(0), Access::ALL), // tty
        allow(DeviceKind::Char, Some(1), Some(5), Access::ALL), // zero
        allow(DeviceKind::Char, Some(1), Some(9), Access::ALL), // urandom
        allow(DeviceKind::Char, Some(136), None, Access::ALL),  // pts/*
        allow(DeviceKind::Char, Some(5), Some(2), Access::ALL), // ptmx
        allow(DeviceKind::Char, Some(10), Some(200), Access::ALL), // net/tun: runc took it out and had to put it back
    ];

    pub(crate) fn from_oci(rule: &oci::LinuxDeviceCgroup) -> Result<Self> {
        let kind = match rule.typ() {
            None | Some(oci::LinuxDeviceType::A) => DeviceKind::All,
            Some(oci::LinuxDeviceType::B) => DeviceKind::Block,
            Some(oci::LinuxDeviceType::C) => DeviceKind::Char,
            Some(other) => bail!("type: `{}` is none of a, b, c", other.as_str()),
        };
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number(rule.major()).context("major")?,
            minor: number(rule.minor()).context("minor")?,
            access: Access::parse(rule.access().as_deref().unwrap_or(""))?,
        })
    }

    /// Parses the match part as the kernel prints it, `c 1:3 rwm`.
    pub(crate) fn parse_match(allow: bool, text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(numbers), Some(access), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("device rule `{text}` is not of the form `c 1:3 rwm`");
        };
        let kind = match kind {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Char,
            _ => bail!("device rule `{text}` is of no known type"),
        };
        let (major, minor) = numbers
            .split_once(':')
            .with_context(|| format!("device rule `{text}`"))?;
        let parse = |n: &str| -> Result<Option<u32>> {
            if n == "*" {
                Ok(None)
            } else {
                n.parse()
                    .map(Some)
                    .with_context(|| format!("device rule `{text}`"))
            }
        };
        Ok(Self {
            allow,
            kind,
            major: parse(major)?,
            minor: parse(minor)?,
            access: Access::parse(access)?,
        })
    }
}

/// The match part as cgroup v1 reads it.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(
            f,
            "{kind} {}:{} {}",
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

impl From<DeviceRule> for String {
    fn from(rule: DeviceRule) -> Self {
        format!("{} {rule}", if rule.allow { "allow" } else { "deny" })
    }
}

impl TryFrom<String> for DeviceRule {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        match text.split_once(' ') {
            Some(("allow", rest)) => Self::parse_match(true, rest),
            Some(("deny", rest)) => Self::parse_match(false, rest),
            _ => bail!("device rule `{text}` starts with neither allow nor deny"),
        }
    }
}

/// Absent and -1 are the wildcard.
fn number(n: Option<i64>) -> Result<Option<u32>> {
    match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).with_context(|| n.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "allow c 1:3 rwm",
            "deny a *:* rwm",
            "allow b *:7 m",
            "deny c 136:* rw",
        ] {
            let rule = DeviceRule::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(rule), text);
        }
        for text in [
            "allow",
            "permit c 1:3 r",
            "allow c 1 r",
            "allow c 1:3 x",
            "allow u 1:3 r",
            "allow c 1:3 r r",
        ] {
            assert!(DeviceRule::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn oci_rules() {
        let rule = |json: &str| DeviceRule::from_oci(&serde_json::from_str(json).unwrap());
        let text = |json: &str| String::from(rule(json).unwrap());
        assert_eq!(text(r#"{"allow":false,"access":"rwm"}"#), "deny a *:* rwm");
        assert_eq!(
            text(r#"{"allow":true,"type":"c","major":-1,"minor":3,"access":"mw"}"#),
            "allow c *:3 wm"
        );
        for bad in [
            r#"{"allow":true,"type":"c","major":1,"minor":3}"#,
            r#"{"allow":true,"type":"c","major":-2,"minor":3,"access":"r"}"#,
            r#"{"allow":true,"type":"c","major":4294967296,"minor":3,"access":"r"}"#,
            r#"{"allow":true,"type":"p","access":"r"}"#,
            r#"{"allow":true,"type":"c","access":"rx"}"#,
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}

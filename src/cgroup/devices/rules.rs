//! What an ordered list of device rules means: a default and exceptions to it, as cgroup v1 keeps them.
//! cgroup v2 gets the same meaning by a program made from this, so a config behaves alike on both. Pure.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::plan::device_rule::{Access, DeviceKind, DeviceRule};

/// The files an exception is about. Ordered by numbers first, so wildcards (`None`) come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Match {
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// Never `All`.
    pub(crate) kind: DeviceKind,
}

/// The default answer and its exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) default_allow: bool,
    pub(crate) exceptions: BTreeMap<Match, Access>,
}

impl Policy {
    /// Applies the rules in order to "everything denied" (G4: no rule at all must not mean allow all).
    pub(crate) fn from_rules<'a>(rules: impl IntoIterator<Item = &'a DeviceRule>) -> Result<Self> {
        let mut policy = Self::default();
        for rule in rules {
            policy.apply(rule)?;
        }
        Ok(policy)
    }

    /// The policy a v1 `devices.list` shows. Of an allow-by-default group the kernel shows no exceptions.
    pub(crate) fn from_list(list: &str) -> Result<Self> {
        let mut policy = Self::default();
        for line in list.lines().filter(|l| !l.trim().is_empty()) {
            policy.apply(&DeviceRule::parse_match(true, line)?)?;
        }
        Ok(policy)
    }

    pub(crate) fn is_allow_all(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    fn apply(&mut self, rule: &DeviceRule) -> Result<()> {
        if rule.kind != DeviceKind::All {
            return self.apply_one(rule, rule.kind);
        }
        if rule.major.is_none() && rule.minor.is_none() && rule.access == Access::ALL {
            *self = Self {
                default_allow: rule.allow,
                exceptions: BTreeMap::new(),
            };
            return Ok(());
        }
        // v1 takes every rule of type `a` as "all devices, all access", whatever its other parts say, and runc passes
        // that on. Here the rule means what it says, so an allow never gives more than was written.
        self.apply_one(rule, DeviceKind::Block)?;
        self.apply_one(rule, DeviceKind::Char)
    }

    fn apply_one(&mut self, rule: &DeviceRule, kind: DeviceKind) -> Result<()> {
        let key = Match {
            major: rule.major,
            minor: rule.minor,
            kind,
        };
        if rule.allow != self.default_allow {
            let access = self.exceptions.entry(key).or_default();
            *access = access.union(rule.access);
            return Ok(());
        }
        self.check_no_hole(rule, key)?;
        if let Some(access) = self.exceptions.get_mut(&key) {
            *access = access.without(rule.access);
            if access.is_empty() {
                self.exceptions.remove(&key);
            }
        }
        Ok(())
    }

    /// v1 silently ignores the taking back of a part of a wildcard exception; that would leave a device open that
    /// the config closes, so it is an error.
    fn check_no_hole(&self, rule: &DeviceRule, key: Match) -> Result<()> {
        for wider in [
            Match { major: None, ..key },
            Match { minor: None, ..key },
            Match {
                major: None,
                minor: None,
                ..key
            },
        ] {
            let overlap = self
                .exceptions
                .get(&wider)
                .map(|a| a.intersection(rule.access));
            if wider != key && overlap.is_some_and(|a| !a.is_empty()) {
                bail!(
                    "linux.resources.devices: rule `{rule}` takes back a part of the wildcard rule `{}` before it, \
                     which device cgroups can not express",
                    wider.rule(self.exceptions[&wider], !self.default_allow)
                );
            }
        }
        Ok(())
    }

    /// The writes to `devices.allow` and `devices.deny` that turn a group showing `self` into `target`, without
    /// closing for a moment what both allow.
    pub(crate) fn transition(&self, target: &Self) -> Vec<DeviceRule> {
        let mut out = Vec::new();
        let none = BTreeMap::new();
        // The exceptions of an allow-by-default group are unknown (see from_list), so it always starts over.
        let old = if self.default_allow || self.default_allow != target.default_allow {
            out.push(DeviceRule {
                allow: target.default_allow,
                kind: DeviceKind::All,
                major: None,
                minor: None,
                access: Access::ALL,
            });
            &none
        } else {
            &self.exceptions
        };
        let of =
            |map: &BTreeMap<Match, Access>, key: &Match| map.get(key).copied().unwrap_or_default();
        for (key, access) in old {
            let dropped = access.without(of(&target.exceptions, key));
            if !dropped.is_empty() {
                out.push(key.rule(dropped, target.default_allow));
            }
        }
        for (key, access) in &target.exceptions {
            let gained = access.without(of(old, key));
            if !gained.is_empty() {
                out.push(key.rule(gained, !target.default_allow));
            }
        }
        out
    }
}

impl Match {
    fn rule(self, access: Access, allow: bool) -> DeviceRule {
        DeviceRule {
            allow,
            kind: self.kind,
            major: self.major,
            minor: self.minor,
            access,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rules(lines: &[&str]) -> Vec<DeviceRule> {
        lines
            .iter()
            .map(|l| DeviceRule::try_from((*l).to_owned()).unwrap())
            .collect()
    }

    fn policy(lines: &[&str]) -> Policy {
        Policy::from_rules(&rules(lines)).unwrap()
    }

    fn shown(rules: &[DeviceRule]) -> Vec<String> {
        rules.iter().cloned().map(String::from).collect()
    }

    #[test]
    fn no_rule_denies_everything() {
        assert_eq!(policy(&[]), Policy::default());
        assert!(!Policy::default().default_allow);
    }

    #[test]
    fn wildcard_resets() {
        assert!(policy(&["allow c 1:3 rwm", "allow a *:* rwm"]).is_allow_all());
        let p = policy(&[
            "allow a *:* rwm",
            "deny c 1:3 w",
            "deny a *:* rwm",
            "allow b 8:0 r",
        ]);
        assert!(!p.default_allow);
        assert_eq!(p.exceptions.len(), 1);
    }

    #[test]
    fn permissions_merge_and_subtract() {
        let p = policy(&["allow c 1:3 r", "allow c 1:3 w", "deny c 1:3 r"]);
        let key = Match {
            major: Some(1),
            minor: Some(3),
            kind: DeviceKind::Char,
        };
        assert_eq!(
            p.exceptions.get(&key).map(ToString::to_string).as_deref(),
            Some("w")
        );
        assert!(
            policy(&["allow c 1:3 r", "deny c 1:3 rwm"])
                .exceptions
                .is_empty()
        );
    }

    #[test]
    fn partial_type_a_is_not_everything() {
        let p = policy(&["allow a 1:3 r"]);
        assert!(!p.default_allow);
        assert_eq!(p.exceptions.len(), 2);
    }

    #[test]
    fn holes_are_refused() {
        for lines in [
            ["allow c *:* rw", "deny c 1:3 w"],
            ["allow c 1:* rw", "deny c 1:3 w"],
            ["allow c *:3 rw", "deny c 1:3 w"],
        ] {
            let text = format!("{:#}", Policy::from_rules(&rules(&lines)).unwrap_err());
            assert!(
                text.starts_with("linux.resources.devices: rule `c 1:3 w`"),
                "{text}"
            );
        }
        assert!(Policy::from_rules(&rules(&["allow c 1:* r", "deny c 1:3 w"])).is_ok());
    }

    #[test]
    fn transitions() {
        let open = policy(&["allow a *:* rwm"]);
        let some = policy(&["allow c 1:3 rwm", "allow b *:* m"]);
        let other = policy(&["allow c 1:3 r", "allow c 1:5 rwm"]);
        assert_eq!(
            shown(&open.transition(&some)),
            ["deny a *:* rwm", "allow b *:* m", "allow c 1:3 rwm"]
        );
        assert_eq!(
            shown(&some.transition(&other)),
            ["deny b *:* m", "deny c 1:3 wm", "allow c 1:5 rwm"]
        );
        assert!(some.transition(&some).is_empty());
        assert_eq!(shown(&some.transition(&open)), ["allow a *:* rwm"]);
    }

    #[test]
    fn kernel_list_round_trips() {
        assert!(Policy::from_list("a *:* rwm\n").unwrap().is_allow_all());
        let list = "c *:* m\nb *:* m\nc 1:3 rwm\n";
        assert_eq!(
            Policy::from_list(list).unwrap(),
            policy(&["allow b *:* m", "allow c 1:3 rwm", "allow c *:* m"])
        );
        assert!(Policy::from_list("c 1 rwm").is_err());
    }
}

//! Device rules as systemd keeps them: a policy and a list of what is allowed. The unit's own program is a second door before
//! the same room: what it lets through still has to pass the container's own program (G4), which means exactly what the
//! config says. So where systemd cannot say the same, it is told to allow more, never less. Pure.

use std::collections::BTreeMap;

use anyhow::Result;

use super::properties::{List, When};
use super::wire::Value;
use crate::cgroup::devices::rules::Policy;
use crate::plan::device_rule::{Access, DeviceKind};
use crate::plan::resources::Resources;

pub(crate) fn properties(r: &Resources, when: When, out: &mut List) -> Result<()> {
    let policy = Policy::from_rules(r.device_rules())?;
    // systemd has no list of what is denied: of such rules it knows nothing, and the own program says it all.
    let (name, list) = if policy.default_allow {
        ("auto", Vec::new())
    } else {
        ("strict", allowed(&policy))
    };
    out.set("DevicePolicy", Value::Str(name.to_owned()));
    if when == When::Update {
        // Appended to what is there, unless the list is empty: that takes everything back.
        out.push("DeviceAllow", Value::Pairs(Vec::new()));
    }
    if !list.is_empty() {
        out.push("DeviceAllow", Value::Pairs(list));
    }
    Ok(())
}

/// Each path once: a second entry would replace the first.
fn allowed(policy: &Policy) -> Vec<(String, String)> {
    let mut out: BTreeMap<String, Access> = BTreeMap::new();
    for (key, access) in &policy.exceptions {
        let class = match key.kind {
            DeviceKind::Block => "block",
            _ => "char",
        };
        let path = match (key.major, key.minor) {
            (Some(major), Some(minor)) => format!("/dev/{class}/{major}:{minor}"),
            (Some(major), None) => format!("{class}-{major}"),
            // `*:3` cannot be said.
            (None, _) => format!("{class}-*"),
        };
        let sum = out.entry(path).or_default();
        *sum = sum.union(*access);
    }
    out.into_iter()
        .map(|(path, access)| (path, access.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::device_rule::DeviceRule;

    fn shown(rules: &[&str], when: When) -> Vec<String> {
        let rule = |text: &&str| DeviceRule::try_from((*text).to_owned()).unwrap();
        let r = Resources {
            devices: rules.iter().map(rule).collect(),
            ..Resources::default()
        };
        let mut list = List::default();
        properties(&r, when, &mut list).unwrap();
        let show = |value| match value {
            Value::Str(text) => text,
            Value::Pairs(list) => list
                .iter()
                .map(|(path, access)| format!("{path} {access}"))
                .collect::<Vec<_>>()
                .join(","),
            other => format!("{other:?}"),
        };
        list.done().into_iter().map(|p| show(p.value)).collect()
    }

    const STANDARD: &str = "/dev/char/10:200 rwm,/dev/char/1:3 rwm,/dev/char/1:5 rwm,/dev/char/1:7 rwm,\
/dev/char/1:8 rwm,/dev/char/1:9 rwm,/dev/char/5:0 rwm,/dev/char/5:2 rwm,block-* m,char-* m,char-136 rwm";

    #[test]
    fn the_standard_devices() {
        assert_eq!(shown(&[], When::Creation), ["strict", STANDARD]);
        assert_eq!(
            shown(&["deny a *:* rwm"], When::Update),
            ["strict", "", STANDARD]
        );
    }

    #[test]
    fn what_systemd_cannot_say_is_widened() {
        let all = shown(&["allow b 8:0 r", "allow c *:3 w"], When::Creation).remove(1);
        assert!(all.contains("/dev/block/8:0 r,"), "{all}");
        assert!(all.contains(",char-* wm,"), "{all}");
    }

    #[test]
    fn allowing_all_but_some() {
        assert_eq!(shown(&["allow a *:* rwm"], When::Creation), ["auto"]);
        let some = ["allow a *:* rwm", "deny b 8:0 w"];
        assert_eq!(shown(&some, When::Update), ["auto", ""]);
    }
}

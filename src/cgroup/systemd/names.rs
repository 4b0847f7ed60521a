//! `linux.cgroupsPath` as the systemd driver reads it, `slice:prefix:name`: which unit it names and where that unit's cgroup
//! lies below the manager's own. Pure.

use anyhow::{Result, ensure};

use crate::cgroup::path;

use super::manager::Which;

/// Longer names are no units (UNIT_NAME_MAX of systemd).
const LONGEST: usize = 255;

/// A unit that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitName {
    pub(crate) unit: String,
    /// The slice that it lies in; `-.slice` is the root.
    pub(crate) slice: String,
    /// Of its cgroup, below the manager's.
    pub(crate) path: String,
}

impl UnitName {
    pub(crate) fn new(cgroups_path: Option<&str>, id: &str, which: Which) -> Result<Self> {
        let text = cgroups_path.unwrap_or("");
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "rundlet", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => anyhow::bail!(
                "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, \
                 got \"{}\" instead",
                text.escape_debug()
            ),
        };
        ensure!(
            !name.is_empty(),
            "linux.cgroupsPath: `{text}` has no name after the second colon"
        );
        if is_slice(name) {
            return Self::of_slice(slice, name);
        }
        let slice = match (slice, which) {
            ("", Which::System) => "system.slice",
            ("", Which::User) => "user.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        let unit = format!("{prefix}-{name}.scope");
        check(&unit)?;
        let path = path::join(&expand(slice)?, &unit);
        Ok(Self {
            unit,
            slice: slice.to_owned(),
            path,
        })
    }

    /// Where a slice lies is in its name; another place could only be a mistake.
    fn of_slice(slice: &str, name: &str) -> Result<Self> {
        check(name)?;
        let path = expand(name)?;
        ensure!(
            !path.is_empty(),
            "linux.cgroupsPath: `{name}` is the root slice, which is not the container's"
        );
        let stem = name.strip_suffix(".slice").unwrap_or(name);
        let parent = stem.rsplit_once('-').map_or_else(
            || "-.slice".to_owned(),
            |(parent, _)| format!("{parent}.slice"),
        );
        let given = if slice == "-" { "-.slice" } else { slice };
        ensure!(
            given.is_empty() || given == parent,
            "linux.cgroupsPath: slice `{name}` lies in `{parent}` by its name, not in `{given}`"
        );
        Ok(Self {
            unit: name.to_owned(),
            slice: parent,
            path,
        })
    }
}

pub(crate) fn is_slice(unit: &str) -> bool {
    unit.strip_suffix(".slice").is_some()
}

/// The characters that systemd allows. It would refuse others too, but not in words that name the field.
fn check(unit: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    ensure!(
        unit.chars().all(allowed),
        "linux.cgroupsPath: `{}` is not a unit's name: only letters, digits and :-_.\\@ are allowed",
        unit.escape_debug()
    );
    ensure!(
        unit.len() <= LONGEST,
        "linux.cgroupsPath: unit name `{unit}` is longer than {LONGEST} bytes"
    );
    Ok(())
}

/// `a-b.slice` lies in `a.slice`: its path is `a.slice/a-b.slice`.
fn expand(slice: &str) -> Result<String> {
    let stem = slice.strip_suffix(".slice");
    let bad = || {
        format!(
            "linux.cgroupsPath: invalid slice name: {}",
            slice.escape_debug()
        )
    };
    let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
        anyhow::bail!("{} (it must end in .slice)", bad());
    };
    if stem == "-" {
        return Ok(String::new());
    }
    ensure!(!stem.contains('/'), "{} (it has a slash)", bad());
    check(slice)?;
    let mut out = String::new();
    let mut name = String::new();
    for part in stem.split('-') {
        ensure!(!part.is_empty(), "{} (an empty part between dashes)", bad());
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        out = path::join(&out, &format!("{name}.slice"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<(String, String, String)> {
        let name = UnitName::new(Some(text), "c1", Which::System)?;
        Ok((name.unit, name.slice, name.path))
    }

    fn is(text: &str, unit: &str, slice: &str, path: &str) {
        let expected = (unit.to_owned(), slice.to_owned(), path.to_owned());
        assert_eq!(named(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn scopes() {
        is(
            "system.slice:docker:abc",
            "docker-abc.scope",
            "system.slice",
            "system.slice/docker-abc.scope",
        );
        is(
            ":crio:abc",
            "crio-abc.scope",
            "system.slice",
            "system.slice/crio-abc.scope",
        );
        is("-:x:y", "x-y.scope", "-.slice", "x-y.scope");
        is(
            "kubepods-burstable-pod1.slice:cri-containerd:f00",
            "cri-containerd-f00.scope",
            "kubepods-burstable-pod1.slice",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-f00.scope",
        );
        for none in [None, Some("")] {
            let of = |which| UnitName::new(none, "c1", which).unwrap().path;
            assert_eq!(of(Which::System), "system.slice/rundlet-c1.scope");
            assert_eq!(of(Which::User), "user.slice/rundlet-c1.scope");
        }
    }

    #[test]
    fn slices() {
        is(":x:a-b.slice", "a-b.slice", "a.slice", "a.slice/a-b.slice");
        is("-:x:a.slice", "a.slice", "-.slice", "a.slice");
        is(
            "a.slice::a-b.slice",
            "a-b.slice",
            "a.slice",
            "a.slice/a-b.slice",
        );
        let text = named("system.slice:x:a.slice").unwrap_err().to_string();
        assert!(text.ends_with("lies in `-.slice` by its name, not in `system.slice`"));
        assert!(named(":x:-.slice").is_err());
    }

    #[test]
    fn others_are_refused() {
        for (text, why) in [
            ("/a/b", "slice:prefix:name"),
            ("a.slice:b", "slice:prefix:name"),
            ("a.slice:b:c:d", "slice:prefix:name"),
            ("a.slice:b:", "no name"),
            ("a:b:c", "end in .slice"),
            (".slice:b:c", "end in .slice"),
            ("a/b.slice:b:c", "slash"),
            ("a--b.slice:b:c", "between dashes"),
            ("-a.slice:b:c", "between dashes"),
            ("a-.slice:b:c", "between dashes"),
            ("a b.slice:b:c", "only letters"),
            ("a.slice:b:c/d", "only letters"),
            ("a.slice:b:../c", "only letters"),
        ] {
            let error = named(text).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("system.slice:p:{}", "x".repeat(255));
        assert!(named(&long).is_err());
    }
}

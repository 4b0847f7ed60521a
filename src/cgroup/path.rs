//! Where a container's cgroup lies: rules for `linux.cgroupsPath` and for `exec --cgroup`. Pure string work; what
//! comes out is a path below a hierarchy's mount point without leading slash, `.`, `..` or empty parts (G1).

use anyhow::{Result, bail, ensure};

/// `linux.cgroupsPath` as given, cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Below the root of each hierarchy.
    Absolute(String),
    /// Below the place of the runtime's own cgroup. Also the container's id when no path was given.
    Relative(String),
}

impl Wanted {
    pub(crate) fn new(cgroups_path: Option<&str>, id: &str) -> Result<Self> {
        let text = cgroups_path.unwrap_or("");
        ensure!(
            !text.chars().any(char::is_control),
            "linux.cgroupsPath: `{}` has control characters",
            text.escape_debug()
        );
        // Taken for a directory it would make a cgroup nobody looks for.
        ensure!(
            text.contains('/') || text.matches(':').count() != 2,
            "linux.cgroupsPath: `{text}` is for the systemd cgroup driver (--systemd-cgroup)"
        );
        let clean = clean(text);
        if text.starts_with('/') {
            // The limits would be the host's, and deleting the container would delete every empty cgroup of it.
            ensure!(
                !clean.is_empty(),
                "linux.cgroupsPath: `{text}` is the root cgroup"
            );
            return Ok(Self::Absolute(clean));
        }
        Ok(Self::Relative(if clean.is_empty() {
            clean_id(id)?
        } else {
            clean
        }))
    }
}

fn clean_id(id: &str) -> Result<String> {
    let name = clean(id);
    ensure!(
        !name.is_empty() && name == id && !name.contains('/'),
        "container id `{id}` can not name a cgroup"
    );
    Ok(name)
}

/// Takes `.`, `..` and empty parts out lexically; `..` never leaves the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Joins two clean paths.
pub(crate) fn join(base: &str, below: &str) -> String {
    match (base, below) {
        ("", b) | (b, "") => b.to_owned(),
        (a, b) => format!("{a}/{b}"),
    }
}

/// The clean path of the directory that holds `path`, and the last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Clean paths from the top level to the parent of `path`.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// `sub` below `base`. Compared by components: `..` may be used inside but must not lead out (G2).
pub(crate) fn sub(base: &str, sub: &str) -> Result<String> {
    let mut depth = 0usize;
    for part in sub.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => bail!("exec --cgroup: {sub} is not a sub cgroup path"),
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    Ok(join(base, &clean(sub)))
}

/// The arguments of `exec --cgroup`: one path for all, or one for each named controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SubPaths {
    Own,
    All(String),
    Each(Vec<(String, String)>),
}

impl SubPaths {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut each: Vec<(String, String)> = Vec::new();
        for arg in args {
            let Some((controllers, path)) = arg.split_once(':') else {
                ensure!(
                    args.len() == 1,
                    "exec --cgroup: `{arg}` names no controller, so it must be the only one"
                );
                return Ok(Self::All(arg.clone()));
            };
            for controller in controllers.split(',') {
                ensure!(
                    !controller.is_empty(),
                    "exec --cgroup: `{arg}` has an empty controller name"
                );
                ensure!(
                    each.iter().all(|(c, _)| c != controller),
                    "exec --cgroup: controller {controller} is given more than once"
                );
                each.push((controller.to_owned(), path.to_owned()));
            }
        }
        Ok(if each.is_empty() {
            Self::Own
        } else {
            Self::Each(each)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_paths() {
        let wanted = |p: Option<&str>| Wanted::new(p, "c1");
        let absolute = |p: &str| Wanted::Absolute(p.to_owned());
        let relative = |p: &str| Wanted::Relative(p.to_owned());
        assert_eq!(wanted(Some("/a/b")).unwrap(), absolute("a/b"));
        assert_eq!(
            wanted(Some("//a/./../../etc/b//")).unwrap(),
            absolute("etc/b")
        );
        assert_eq!(wanted(Some("a/../b")).unwrap(), relative("b"));
        assert_eq!(wanted(Some("../../b")).unwrap(), relative("b"));
        assert!(wanted(Some("system.slice:x:y")).is_err());
        for none in [None, Some(""), Some("."), Some("a/..")] {
            assert_eq!(wanted(none).unwrap(), relative("c1"));
        }
        for bad in ["/", "/..", "/a/..", "/a\nb", "/a\0"] {
            assert!(wanted(Some(bad)).is_err(), "{bad:?}");
        }
        assert!(Wanted::new(None, "..").is_err());
    }

    #[test]
    fn sub_paths_stay_below() {
        assert_eq!(sub("c/x", "a").unwrap(), "c/x/a");
        assert_eq!(sub("c/x", "/a//b").unwrap(), "c/x/a/b");
        assert_eq!(sub("c/x", "/").unwrap(), "c/x");
        assert_eq!(sub("c/x", "a/../b").unwrap(), "c/x/b");
        for out in ["..", "../xy", "a/../../xy", "/.."] {
            let text = format!("{:#}", sub("c/x", out).unwrap_err());
            assert!(text.ends_with("is not a sub cgroup path"), "{text}");
        }
    }

    #[test]
    fn ancestors_are_prefixes() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(ancestors("a").count(), 0);
    }

    #[test]
    fn exec_arguments() {
        let parse = |args: &[&str]| {
            SubPaths::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&[]).unwrap(), SubPaths::Own);
        assert_eq!(parse(&["x/y"]).unwrap(), SubPaths::All("x/y".to_owned()));
        let each = SubPaths::Each(vec![
            ("cpu".to_owned(), "a".to_owned()),
            ("cpuset".to_owned(), "a".to_owned()),
            ("pids".to_owned(), String::new()),
        ]);
        assert_eq!(parse(&["cpu,cpuset:a", "pids:"]).unwrap(), each);
        for bad in [&["a", "b"][..], &["cpu:a", "cpu:b"], &[":a"], &["cpu,:a"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}

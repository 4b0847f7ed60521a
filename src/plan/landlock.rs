//! `org.rundlet.landlock.*` annotations: which files, TCP ports and processes a container may use, as Landlock takes it. Pure. Built
//! by `plan`, fitted to the kernel by `container`, kept in the record for `exec`, carried out by `init/landlock.rs`.
//!
//! The runtime-spec has no field for it yet; what was proposed for one (rules of a path and of a port, rights that a kernel may lack)
//! is here as lists in strings, which engines can pass on.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// With or without a dot behind it: a misspelt one must not go for nothing.
const PREFIX: &str = "org.rundlet.landlock";
const KEYS: [&str; 6] = [
    "fs.ro",
    "fs.rw",
    "net.bind",
    "net.connect",
    "scope",
    "compat",
];

/// linux/landlock.h: execute a file, read a file, read a directory.
const FS_READ: u64 = 1 | 1 << 2 | 1 << 3;
/// All rights about files, with the version that each came with.
const FS: [(u64, u32); 4] = [(0x1fff, 1), (1 << 13, 2), (1 << 14, 3), (1 << 15, 5)];
/// What applies to a file: execute, write, read, truncate, ioctl of a device. The others are a directory's.
const FS_OF_FILE: u64 = 0b111 | 1 << 14 | 1 << 15;
const NET_BIND: u64 = 1;
const NET_CONNECT: u64 = 1 << 1;
const NET: [(u64, u32); 1] = [(NET_BIND | NET_CONNECT, 4)];
const SCOPES: [(&str, u64); 2] = [("abstract-unix-socket", 1), ("signal", 1 << 1)];
const SCOPE: [(u64, u32); 1] = [(0b11, 6)];
/// The kernel that a version came with.
const LINUX: [&str; 7] = ["", "5.13", "5.19", "6.2", "6.7", "6.10", "6.12"];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Landlock {
    /// What is refused unless a rule allows it.
    pub(crate) fs: u64,
    pub(crate) net: u64,
    /// What is refused beyond the processes under the same rules.
    pub(crate) scope: u64,
    pub(crate) paths: Vec<PathRule>,
    pub(crate) ports: Vec<PortRule>,
    /// Until it is fitted: what to do about a kernel that lacks some of it.
    #[serde(skip)]
    best_effort: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathRule {
    pub(crate) path: String,
    pub(crate) access: Access,
    pub(crate) absence: Absence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Read and execute.
    Read,
    Write,
}

/// What a path means that is missing, or leads through a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Absence {
    Refused,
    /// Written `-PATH`: left out.
    Ignored,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortRule {
    pub(crate) port: u16,
    pub(crate) access: u64,
}

/// What is wanted, the rights that there are, the annotation, and in words what it restricts.
type Part<'a> = (&'a mut u64, &'a [(u64, u32)], String, &'a str);

/// The annotation's place in config.json.
fn field(key: &str) -> String {
    format!("annotations[\"{PREFIX}.{key}\"]")
}

impl PathRule {
    pub(crate) fn field(&self) -> String {
        field(match self.access {
            Access::Read => "fs.ro",
            Access::Write => "fs.rw",
        })
    }
}

impl PortRule {
    pub(crate) fn field(&self) -> String {
        field(if self.access == NET_BIND {
            "net.bind"
        } else {
            "net.connect"
        })
    }
}

impl Landlock {
    /// The rights of a rule, of a directory or of another file.
    pub(crate) fn rights(&self, access: Access, is_directory: bool) -> u64 {
        let wanted = match access {
            Access::Read => FS_READ,
            Access::Write => self.fs,
        };
        let fit = if is_directory { u64::MAX } else { FS_OF_FILE };
        wanted & self.fs & fit
    }

    /// `bind` and `connect` where they are restricted, with the ports that are allowed.
    pub(crate) fn ports_of_each(&self) -> Vec<(&'static str, Vec<u16>)> {
        let each = [("bind", NET_BIND), ("connect", NET_CONNECT)].into_iter();
        let each = each.filter(|(_, access)| self.net & access != 0);
        each.map(|(name, access)| {
            let rules = self.ports.iter().filter(|rule| rule.access == access);
            (name, rules.map(|rule| rule.port).collect())
        })
        .collect()
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = &'static str> {
        let scope = self.scope;
        SCOPES
            .iter()
            .filter(move |(_, bit)| scope & bit != 0)
            .map(|(name, _)| *name)
    }

    /// Holds it against version `abi` of the kernel's Landlock, 0 for none. What the kernel lacks is an error, or with
    /// `best-effort` left out and told; nothing may be left.
    pub(crate) fn fit(mut self, abi: u32) -> Result<(Option<Landlock>, Vec<String>)> {
        let mut told = Vec::new();
        let paths = self
            .paths
            .first()
            .map_or_else(|| field("fs.ro"), PathRule::field);
        let ports = self
            .ports
            .first()
            .map_or_else(|| self.net_field(), PortRule::field);
        let each: [Part<'_>; 3] = [
            (&mut self.fs, &FS, paths, "access to files"),
            (&mut self.net, &NET, ports, "TCP ports"),
            (
                &mut self.scope,
                &SCOPE,
                field("scope"),
                "what is outside of the container",
            ),
        ];
        for (wanted, known, place, what) in each {
            let has = known.iter().filter(|(_, since)| *since <= abi);
            let has = has.fold(0, |all, (bits, _)| all | bits);
            if *wanted & !has == 0 {
                continue;
            }
            let needed = known.iter().filter(|(bits, _)| *wanted & bits & !has != 0);
            let since = needed.map(|(_, since)| *since).max().unwrap_or(1);
            let linux = LINUX[usize::try_from(since)?];
            let have = match abi {
                0 => "this kernel has no Landlock".to_owned(),
                abi => format!("this kernel's Landlock is version {abi}"),
            };
            let lacks = format!(
                "{place}: to restrict {what} needs Landlock version {since} (Linux {linux}), {have}"
            );
            ensure!(
                self.best_effort,
                "{lacks} (hint: {} = \"best-effort\" goes without what is missing)",
                field("compat")
            );
            *wanted &= has;
            let rest = if *wanted == 0 {
                "nothing of it is restricted"
            } else {
                "only a part of it is restricted"
            };
            told.push(format!("{lacks}: {rest}"));
        }
        let net = self.net;
        self.ports.retain(|rule| rule.access & net != 0);
        if self.fs == 0 {
            self.paths.clear();
        }
        self.best_effort = false;
        let left = self.fs | self.net | self.scope != 0;
        Ok((left.then_some(self), told))
    }

    fn net_field(&self) -> String {
        field(if self.net & NET_BIND != 0 {
            "net.bind"
        } else {
            "net.connect"
        })
    }
}

pub(super) fn plan(annotations: Option<&HashMap<String, String>>) -> Result<Option<Landlock>> {
    // In an order that is the same every time.
    let given: BTreeMap<&str, &str> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
        .collect();
    if given.is_empty() {
        return Ok(None);
    }
    let mut planned = Landlock::default();
    for (key, value) in given {
        let known = key.strip_prefix('.').filter(|key| KEYS.contains(key));
        let Some(key) = known else {
            bail!(
                "annotations[\"{PREFIX}{key}\"]: no such annotation: {PREFIX}.* are {}",
                KEYS.join(", ")
            );
        };
        planned.add(key, value).with_context(|| field(key))?;
    }
    ensure!(
        planned.fs | planned.net | planned.scope != 0,
        "{}: without a rule there is nothing to restrict",
        field("compat")
    );
    Ok(Some(planned))
}

impl Landlock {
    fn add(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "fs.ro" => self.add_paths(value, Access::Read)?,
            "fs.rw" => self.add_paths(value, Access::Write)?,
            "net.bind" => self.add_ports(value, NET_BIND)?,
            "net.connect" => self.add_ports(value, NET_CONNECT)?,
            "scope" => {
                for name in list(value, ',') {
                    let found = SCOPES.iter().find(|(known, _)| *known == name);
                    let (_, bit) = found.with_context(|| {
                        format!("`{name}` is neither `abstract-unix-socket` nor `signal`")
                    })?;
                    self.scope |= bit;
                }
                ensure!(self.scope != 0, "names no scope");
            }
            _ => {
                self.best_effort = match value {
                    "strict" => false,
                    "best-effort" => true,
                    other => bail!("`{other}` is neither `strict` nor `best-effort`"),
                }
            }
        }
        Ok(())
    }

    fn add_paths(&mut self, value: &str, access: Access) -> Result<()> {
        self.fs = FS.iter().fold(0, |all, (bits, _)| all | bits);
        for given in list(value, ':') {
            let (path, absence) = match given.strip_prefix('-') {
                Some(path) => (path, Absence::Ignored),
                None => (given, Absence::Refused),
            };
            ensure!(
                path.starts_with('/') && !path.contains('\0'),
                "`{}` is not an absolute path",
                path.escape_debug()
            );
            self.paths.push(PathRule {
                path: path.to_owned(),
                access,
                absence,
            });
        }
        Ok(())
    }

    fn add_ports(&mut self, value: &str, access: u64) -> Result<()> {
        self.net |= access;
        for given in list(value, ',') {
            let number = |text: &str| {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let port = text.parse::<u16>().ok().filter(|_| digits);
                port.with_context(|| format!("`{given}` is neither a port nor a range of ports"))
            };
            let (first, last) = given.split_once('-').unwrap_or((given, given));
            let (first, last) = (number(first)?, number(last)?);
            ensure!(first <= last, "`{given}` ends before it begins");
            self.ports
                .extend((first..=last).map(|port| PortRule { port, access }));
        }
        Ok(())
    }
}

/// An empty string is a list of nothing: then nothing is allowed.
fn list(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let items = (!value.is_empty()).then(|| value.split(separator));
    items.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(&str, &str)]) -> Result<Landlock> {
        let given = given
            .iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()))
            .collect();
        plan(Some(&given)).map(Option::unwrap)
    }

    #[test]
    fn nothing_asked_is_nothing() {
        let other = HashMap::from([("org.rundlet.cgroup.delegate".to_owned(), String::new())]);
        assert_eq!(plan(Some(&other)).unwrap(), None);
        assert_eq!(plan(None).unwrap(), None);
    }

    #[test]
    fn lists_become_rules() {
        let got = of(&[
            (".fs.ro", "/etc:-/lib64"),
            (".fs.rw", "/tmp"),
            (".net.bind", "80,8000-8002"),
            (".net.connect", ""),
            (".scope", "signal,abstract-unix-socket"),
        ])
        .unwrap();
        let paths: Vec<_> = got
            .paths
            .iter()
            .map(|rule| (rule.path.as_str(), rule.access, rule.absence))
            .collect();
        assert_eq!(
            paths,
            [
                ("/etc", Access::Read, Absence::Refused),
                ("/lib64", Access::Read, Absence::Ignored),
                ("/tmp", Access::Write, Absence::Refused)
            ]
        );
        let ports: Vec<_> = got.ports.iter().map(|rule| rule.port).collect();
        assert_eq!(ports, [80, 8000, 8001, 8002]);
        assert_eq!((got.fs, got.net, got.scope), (0xffff, 3, 3));
        assert_eq!(got.rights(Access::Read, true), 0b1101);
        assert_eq!(got.rights(Access::Read, false), 0b101);
        assert_eq!(got.rights(Access::Write, false), 0xc007);
        assert_eq!(got.rights(Access::Write, true), 0xffff);
    }

    #[test]
    fn mistakes_name_the_annotation() {
        for (key, value, wanted) in [
            (".fs.ro", "etc", "`etc` is not an absolute path"),
            (".fs.rw", "/a::/b", "`` is not an absolute path"),
            (".fs.rw", "-", "`` is not an absolute path"),
            (".net.bind", "http", "`http` is neither a port"),
            (".net.bind", "70000", "`70000` is neither a port"),
            (".net.bind", "+1", "`+1` is neither a port"),
            (".net.connect", "9-8", "`9-8` ends before it begins"),
            (".scope", "", "names no scope"),
            (".scope", "network", "`network` is neither"),
            (".compat", "soft", "`soft` is neither"),
            (".compat", "strict", "without a rule"),
            (".fs", "/", "no such annotation"),
            ("s.fs.ro", "/", "no such annotation"),
            ("", "/", "no such annotation"),
        ] {
            let error = format!("{:#}", of(&[(key, value)]).unwrap_err());
            let at = format!("annotations[\"{PREFIX}{key}\"]: ");
            assert!(error.starts_with(&at) && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn what_the_kernel_lacks_is_refused_or_left_out() {
        let all = [(".fs.rw", "/"), (".net.bind", "1"), (".scope", "signal")];
        for (abi, wanted) in [
            (
                0,
                "fs.rw\"]: to restrict access to files needs Landlock version 5 (Linux 6.10), this kernel has no Landlock",
            ),
            (
                4,
                "fs.rw\"]: to restrict access to files needs Landlock version 5",
            ),
            (
                5,
                "scope\"]: to restrict what is outside of the container needs Landlock version 6 (Linux 6.12), this kernel's Landlock is version 5",
            ),
        ] {
            let error = of(&all).unwrap().fit(abi).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(error.contains("best-effort"), "{error}");
        }
        let (fitted, told) = of(&all).unwrap().fit(6).unwrap();
        assert_eq!((fitted.unwrap(), told), (of(&all).unwrap(), vec![]));

        let soft = [all.as_slice(), &[(".compat", "best-effort")]].concat();
        for (abi, kept, lost) in [
            (0, None, 3),
            (1, Some((0x1fff, 0, 0, 0)), 3),
            (2, Some((0x3fff, 0, 0, 0)), 3),
            (3, Some((0x7fff, 0, 0, 0)), 3),
            (4, Some((0x7fff, 1, 0, 1)), 2),
            (5, Some((0xffff, 1, 0, 1)), 1),
            (7, Some((0xffff, 1, 2, 1)), 0),
        ] {
            let (fitted, told) = of(&soft).unwrap().fit(abi).unwrap();
            let got = fitted.map(|l| (l.fs, l.net, l.scope, l.ports.len()));
            assert_eq!((got, told.len()), (kept, lost), "{abi}: {told:?}");
        }
    }
}

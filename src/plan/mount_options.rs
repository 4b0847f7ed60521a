//! The words of `mounts[].options` -> attributes, propagation, superblock options. Pure; called by `plan/mounts.rs`.
//! The vocabulary is runc's; a word that is none of them is data for the file system, as with mount(8).

use anyhow::{Result, bail};

use super::mounts::{Change, Propagation};

/// What the options of one mount say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// `Some(recursive)` for `bind` and `rbind`.
    pub(crate) bind: Option<bool>,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    pub(crate) links: BindLinks,
    pub(crate) top: Change,
    pub(crate) tree: Change,
    pub(crate) propagation: Vec<Propagation>,
    pub(crate) idmap: Option<IdmapOption>,
    /// Generic superblock options (`sync`, `lazytime`, ...) in the order they were given; `ro` is not among them.
    pub(crate) superblock: Vec<String>,
    /// What only the file system understands: `key=value` or `key`.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// What a bind does where its source or its destination is a symbolic link (words of crun).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindLinks {
    pub(crate) source: SourceLink,
    pub(crate) target: TargetLink,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourceLink {
    #[default]
    Follow,
    /// The link is what is mounted.
    Itself,
    /// A link of the same text is made, and nothing mounted.
    Copy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetLink {
    #[default]
    Follow,
    /// The link is what is mounted on.
    Itself,
}

/// `idmap` or `ridmap`, and what stands behind an equals sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdmapOption {
    pub(crate) recursive: bool,
    pub(crate) mapping: Option<String>,
}

const ATIME_MODES: u64 = libc::MOUNT_ATTR__ATIME;

/// Which access-time mode or flag a word is about; `None` of a mode means back to the default of relatime.
enum Word {
    Set(u64),
    Clear(u64),
    /// Chooses an access-time mode: one field of the mount, not a bit.
    Atime(u64),
    /// Leaves this mode if it was chosen before.
    NotAtime(u64),
}

fn attribute(word: &str) -> Option<Word> {
    Some(match word {
        "ro" => Word::Set(libc::MOUNT_ATTR_RDONLY),
        "rw" => Word::Clear(libc::MOUNT_ATTR_RDONLY),
        "nosuid" => Word::Set(libc::MOUNT_ATTR_NOSUID),
        "suid" => Word::Clear(libc::MOUNT_ATTR_NOSUID),
        "nodev" => Word::Set(libc::MOUNT_ATTR_NODEV),
        "dev" => Word::Clear(libc::MOUNT_ATTR_NODEV),
        "noexec" => Word::Set(libc::MOUNT_ATTR_NOEXEC),
        "exec" => Word::Clear(libc::MOUNT_ATTR_NOEXEC),
        "nodiratime" => Word::Set(libc::MOUNT_ATTR_NODIRATIME),
        "diratime" => Word::Clear(libc::MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => Word::Set(libc::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Word::Clear(libc::MOUNT_ATTR_NOSYMFOLLOW),
        "relatime" => Word::Atime(libc::MOUNT_ATTR_RELATIME),
        "norelatime" => Word::NotAtime(libc::MOUNT_ATTR_RELATIME),
        "noatime" => Word::Atime(libc::MOUNT_ATTR_NOATIME),
        "atime" => Word::NotAtime(libc::MOUNT_ATTR_NOATIME),
        "strictatime" => Word::Atime(libc::MOUNT_ATTR_STRICTATIME),
        "nostrictatime" => Word::NotAtime(libc::MOUNT_ATTR_STRICTATIME),
        _ => return None,
    })
}

fn apply(change: &mut Change, word: &Word) {
    match *word {
        Word::Set(bit) => {
            change.set |= bit;
            change.clear &= !bit;
        }
        Word::Clear(bit) => {
            change.clear |= bit;
            change.set &= !bit;
        }
        // The kernel wants the whole field cleared where one of its values is set.
        Word::Atime(mode) => {
            change.clear |= ATIME_MODES;
            change.set = change.set & !ATIME_MODES | mode;
        }
        Word::NotAtime(mode) => {
            if change.set & ATIME_MODES == mode {
                change.clear |= ATIME_MODES;
                change.set &= !ATIME_MODES;
            }
        }
    }
}

fn propagation(word: &str) -> Option<Propagation> {
    let (name, recursive) = match word.strip_prefix('r') {
        Some(name) => (name, true),
        None => (word, false),
    };
    let kind = match name {
        "private" => libc::MS_PRIVATE,
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// Reads the value of `linux.rootfsPropagation`.
pub(crate) fn root_propagation(word: &str) -> Result<Propagation> {
    match propagation(word) {
        Some(found) => Ok(found),
        None => bail!("linux.rootfsPropagation: unknown value `{word}`"),
    }
}

/// Reads the options of a mount.
pub(crate) fn parse<'a>(options: impl Iterator<Item = &'a str>) -> Parsed {
    let mut out = Parsed::default();
    for word in options {
        match word {
            // `silent` and `loud` change what a failing mount writes to the kernel log; fsopen(2) never writes there.
            "" | "defaults" | "silent" | "loud" => {}
            "bind" => out.bind = Some(out.bind.unwrap_or(false)),
            "rbind" => out.bind = Some(true),
            "remount" => out.remount = true,
            "tmpcopyup" => out.copy_up = true,
            "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" | "mand" | "nomand" => {
                out.superblock.push(word.to_owned());
            }
            "copy-symlink" => out.links.source = SourceLink::Copy,
            "src-nofollow" => out.links.source = SourceLink::Itself,
            "dest-nofollow" => out.links.target = TargetLink::Itself,
            _ => parse_other(&mut out, word),
        }
    }
    out
}

fn idmap(word: &str) -> Option<IdmapOption> {
    let (name, mapping) = match word.split_once('=') {
        Some((name, mapping)) => (name, Some(mapping.to_owned())),
        None => (word, None),
    };
    let recursive = match name {
        "idmap" => false,
        "ridmap" => true,
        _ => return None,
    };
    Some(IdmapOption { recursive, mapping })
}

fn parse_other(out: &mut Parsed, word: &str) {
    if let Some(idmap) = idmap(word) {
        out.idmap = Some(idmap);
    } else if let Some(attribute) = attribute(word) {
        apply(&mut out.top, &attribute);
    } else if let Some(found) = propagation(word) {
        out.propagation.push(found);
    } else if let Some(attribute) = word.strip_prefix('r').and_then(attribute) {
        apply(&mut out.tree, &attribute);
    } else if let Some((key, value)) = word.split_once('=') {
        out.data.push((key.to_owned(), Some(value.to_owned())));
    } else {
        out.data.push((word.to_owned(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{
        MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
        MOUNT_ATTR_STRICTATIME,
    };

    fn of(options: &[&str]) -> Parsed {
        parse(options.iter().copied())
    }

    #[test]
    fn later_words_win() {
        let got = of(&["ro", "nosuid", "rw", "dev", "nodev"]).top;
        assert_eq!(
            got,
            Change {
                set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                clear: MOUNT_ATTR_RDONLY
            }
        );
    }

    #[test]
    fn access_time_is_one_field() {
        let got = of(&["noatime", "strictatime"]).top;
        assert_eq!(
            got,
            Change {
                set: MOUNT_ATTR_STRICTATIME,
                clear: ATIME_MODES
            }
        );
        assert_eq!(
            of(&["noatime", "atime"]).top,
            Change {
                set: 0,
                clear: ATIME_MODES
            }
        );
        assert_eq!(
            of(&["noatime", "nostrictatime"]).top.set,
            MOUNT_ATTR_NOATIME
        );
        assert_eq!(
            of(&["relatime"]).top,
            Change {
                set: 0,
                clear: ATIME_MODES
            }
        );
    }

    #[test]
    fn every_recursive_word_is_known() {
        let words = [
            "rro",
            "rrw",
            "rnosuid",
            "rsuid",
            "rnodev",
            "rdev",
            "rnoexec",
            "rexec",
            "rnodiratime",
            "rdiratime",
            "rrelatime",
            "rnorelatime",
            "rnoatime",
            "ratime",
            "rstrictatime",
            "rnostrictatime",
            "rnosymfollow",
            "rsymfollow",
        ];
        for word in words {
            let got = of(&[word]);
            assert!(got.data.is_empty() && got.propagation.is_empty(), "{word}");
            assert_eq!(got.top, Change::default(), "{word}");
        }
        assert_eq!(
            of(&["rro", "rnosuid"]).tree.set,
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
        );
    }

    #[test]
    fn propagation_has_eight_words() {
        let got = of(&["private", "rshared", "rprivate", "slave"]).propagation;
        let expected = [
            (libc::MS_PRIVATE, false),
            (libc::MS_SHARED, true),
            (libc::MS_PRIVATE, true),
            (libc::MS_SLAVE, false),
        ];
        let expected = expected.map(|(kind, recursive)| Propagation { kind, recursive });
        assert_eq!(got, expected);
        assert_eq!(
            of(&["runbindable", "unbindable", "rslave", "shared"])
                .propagation
                .len(),
            4
        );
        assert!(root_propagation("rshared").is_ok());
        assert!(root_propagation("share").is_err());
    }

    #[test]
    fn the_rest_is_data() {
        let got = of(&[
            "rbind",
            "mode=0755",
            "newinstance",
            "sync",
            "context=\"a:b,c\"",
        ]);
        assert_eq!(got.bind, Some(true));
        assert_eq!(got.superblock, ["sync"]);
        let data = [
            ("mode", Some("0755")),
            ("newinstance", None),
            ("context", Some("\"a:b,c\"")),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(got.data, data);
    }

    #[test]
    fn id_maps_are_no_data() {
        let of_one = |word| {
            let got = of(&["bind", word]);
            assert!(got.data.is_empty(), "{word}");
            got.idmap.map(|idmap| (idmap.recursive, idmap.mapping))
        };
        assert_eq!(of_one("idmap"), Some((false, None)));
        assert_eq!(of_one("ridmap"), Some((true, None)));
        assert_eq!(
            of_one("idmap=uids=0-1-1;gids=0-1-1"),
            Some((false, Some("uids=0-1-1;gids=0-1-1".to_owned())))
        );
        assert_eq!(of_one("bind"), None);
    }

    #[test]
    fn words_about_links() {
        assert_eq!(of(&["bind"]).links, BindLinks::default());
        let links = of(&["src-nofollow", "dest-nofollow"]).links;
        let itself = (SourceLink::Itself, TargetLink::Itself);
        assert_eq!((links.source, links.target), itself);
        assert_eq!(of(&["copy-symlink"]).links.source, SourceLink::Copy);
    }
}

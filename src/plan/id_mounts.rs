//! Which ids an id-mapped bind mount shows: `mounts[].uidMappings` and `gidMappings`, the options `idmap` and `ridmap`, and
//! crun's `idmap=uids=...;gids=...`. Pure. Called by `mounts.rs`; carried out by `rootfs/idmap.rs`.
//!
//! A mapping reads as one of a user namespace: `containerID` is the id stored in the file system, `hostID` the one that the
//! mount shows to the host. In a container whose own mapping is the same, files so look as they are stored.

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;

use super::mount_options::IdmapOption;
use super::namespaces::{IdMap, id_map};

/// What an id-mapped mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMapped {
    pub(crate) mapping: Mapping,
    /// Also of the mounts below it.
    pub(crate) recursive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    Listed {
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    /// The one of the user namespace that the container joins, whatever it is.
    Joined,
}

/// The user namespace of the container as the config describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserNamespace {
    pub(crate) joined: bool,
    pub(crate) uids: Vec<IdMap>,
    pub(crate) gids: Vec<IdMap>,
}

/// `None` where the container shares the runtime's.
pub(super) fn user_namespace(linux: Option<&oci::Linux>) -> Option<UserNamespace> {
    let linux = linux?;
    let user = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|namespace| namespace.typ() == Type::User)?;
    Some(UserNamespace {
        joined: user
            .path()
            .as_ref()
            .is_some_and(|path| !path.as_os_str().is_empty()),
        uids: id_map(linux.uid_mappings().as_ref()),
        gids: id_map(linux.gid_mappings().as_ref()),
    })
}

/// Decides the mapping of one mount; `at` is where it stands in config.json. An empty list of mappings is none.
pub(super) fn plan(
    at: &str,
    mount: &oci::Mount,
    option: Option<&IdmapOption>,
    user: Option<&UserNamespace>,
) -> Result<Option<IdMapped>> {
    let uids = id_map(mount.uid_mappings().as_ref());
    let gids = id_map(mount.gid_mappings().as_ref());
    let listed = !uids.is_empty() || !gids.is_empty();
    for (field, list) in [("uidMappings", &uids), ("gidMappings", &gids)] {
        ensure!(
            !listed || !list.is_empty(),
            "{at}.{field}: an id-mapped mount needs both uidMappings and gidMappings"
        );
    }
    let text = option.and_then(|option| option.mapping.as_deref());
    let mapping = match (text, user) {
        (Some(_), _) if listed => {
            bail!("{at}.options: `idmap=` and {at}.uidMappings exclude each other")
        }
        (Some(text), _) => {
            parse(text, user).with_context(|| format!("{at}.options: `idmap={text}`"))?
        }
        (None, _) if listed => Mapping::Listed { uids, gids },
        (None, _) if option.is_none() => return Ok(None),
        (None, Some(user)) if user.joined => Mapping::Joined,
        (None, Some(user)) => Mapping::Listed {
            uids: user.uids.clone(),
            gids: user.gids.clone(),
        },
        (None, None) => bail!(
            "{at}.options: `idmap` without {at}.uidMappings and gidMappings takes the mapping of the container, \
             and linux.namespaces has no user namespace"
        ),
    };
    Ok(Some(IdMapped {
        mapping,
        recursive: option.is_some_and(|option| option.recursive),
    }))
}

/// crun's `uids=0-1-10#10-11-10;gids=0-100-10`: stored id, shown id, how many. With `@` before it the shown id is one of the
/// container's.
fn parse(text: &str, user: Option<&UserNamespace>) -> Result<Mapping> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';') {
        let (list, ranges, own) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges, user.map(|user| &user.uids)),
            Some(("gids", ranges)) => (&mut gids, ranges, user.map(|user| &user.gids)),
            _ => bail!("`{part}` is neither `uids=...` nor `gids=...`"),
        };
        ensure!(list.is_empty(), "`{part}` is a second list");
        for range in ranges.split('#') {
            list.push(self::range(range, own.map_or(&[], Vec::as_slice))?);
        }
    }
    ensure!(
        !uids.is_empty() && !gids.is_empty(),
        "both `uids=` and `gids=` are needed"
    );
    Ok(Mapping::Listed { uids, gids })
}

fn range(text: &str, own: &[IdMap]) -> Result<IdMap> {
    let (relative, numbers) = match text.strip_prefix('@') {
        Some(numbers) => (true, numbers),
        None => (false, text),
    };
    let parsed: Option<Vec<u32>> = numbers.split('-').map(|word| word.parse().ok()).collect();
    let Some(&[container, shown, size]) = parsed.as_deref() else {
        bail!("`{text}` is not of the form ID-ID-COUNT");
    };
    ensure!(size > 0, "`{text}` maps nothing");
    let host = if relative {
        // A range over two lines of the container's mapping would be continuous here and not there.
        let line = own.iter().find(|line| {
            shown >= line.container
                && u64::from(shown - line.container) + u64::from(size) <= u64::from(line.size)
        });
        let line = line.with_context(|| {
            format!("`{text}`: no single line of the container's own mapping has these ids")
        })?;
        line.host + (shown - line.container)
    } else {
        shown
    };
    ensure!(
        container.checked_add(size).is_some() && host.checked_add(size).is_some(),
        "`{text}` leaves the range of ids"
    );
    Ok(IdMap {
        container,
        host,
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: u32, host: u32, size: u32) -> IdMap {
        IdMap {
            container,
            host,
            size,
        }
    }

    fn own(joined: bool) -> UserNamespace {
        UserNamespace {
            joined,
            uids: vec![line(0, 0, 1), line(1, 2, 1000)],
            gids: vec![line(0, 500, 1000)],
        }
    }

    fn of(
        json: &str,
        option: Option<(bool, Option<&str>)>,
        user: Option<&UserNamespace>,
    ) -> Result<Option<IdMapped>> {
        let mount: oci::Mount = serde_json::from_str(json).unwrap();
        let option = option.map(|(recursive, mapping)| IdmapOption {
            recursive,
            mapping: mapping.map(str::to_owned),
        });
        plan("mounts[4]", &mount, option.as_ref(), user)
    }

    const PLAIN: &str = r#"{"destination":"/v","source":"/s"}"#;
    const LISTED: &str = r#"{"destination":"/v","source":"/s",
        "uidMappings":[{"containerID":0,"hostID":7,"size":2}],"gidMappings":[{"containerID":1,"hostID":8,"size":3}]}"#;

    #[test]
    fn a_mapping_of_the_mount_needs_no_option_and_wins() {
        let expected = Mapping::Listed {
            uids: vec![line(0, 7, 2)],
            gids: vec![line(1, 8, 3)],
        };
        for (option, recursive) in [
            (None, false),
            (Some((false, None)), false),
            (Some((true, None)), true),
        ] {
            let got = of(LISTED, option, Some(&own(false))).unwrap().unwrap();
            assert_eq!((got.mapping, got.recursive), (expected.clone(), recursive));
        }
    }

    #[test]
    fn the_option_alone_takes_the_container_s() {
        let mapping = |joined| {
            of(PLAIN, Some((false, None)), Some(&own(joined)))
                .unwrap()
                .unwrap()
                .mapping
        };
        let expected = Mapping::Listed {
            uids: own(false).uids,
            gids: own(false).gids,
        };
        assert_eq!(mapping(false), expected);
        assert_eq!(mapping(true), Mapping::Joined);
        assert_eq!(of(PLAIN, None, Some(&own(false))).unwrap(), None);
        let error = of(PLAIN, Some((false, None)), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no user namespace"), "{error}");
    }

    #[test]
    fn one_list_alone_is_refused() {
        let json = r#"{"destination":"/v","uidMappings":[{"containerID":0,"hostID":7,"size":2}],"gidMappings":[]}"#;
        let error = of(json, None, None).unwrap_err().to_string();
        assert!(error.starts_with("mounts[4].gidMappings: "), "{error}");
    }

    #[test]
    fn crun_s_words() {
        let container = own(false);
        let own = Some(&container);
        let words = |text, user| of(PLAIN, Some((false, Some(text))), user);
        let got = words("uids=0-1-10#10-11-10;gids=0-100-10", None).unwrap();
        let expected = Mapping::Listed {
            uids: vec![line(0, 1, 10), line(10, 11, 10)],
            gids: vec![line(0, 100, 10)],
        };
        assert_eq!(got.unwrap().mapping, expected);
        // The example of crun's manual: 3 of the container is 4 of the host.
        let got = words("uids=@1-3-10;gids=@0-0-1000", own).unwrap();
        let expected = Mapping::Listed {
            uids: vec![line(1, 4, 10)],
            gids: vec![line(0, 500, 1000)],
        };
        assert_eq!(got.unwrap().mapping, expected);
        for bad in [
            "",
            "uids=0-1-10",
            "uids=0-1;gids=0-1-1",
            "uids=0-1-0;gids=0-1-1",
            "uids=0-1-1;uids=0-1-1;gids=0-1-1",
            "uids=a-1-1;gids=0-1-1",
            "uids=@0-0-2;gids=0-1-1",
            "uids=0-4294967295-2;gids=0-1-1",
            "pids=0-0-1",
        ] {
            let error = words(bad, own).unwrap_err().to_string();
            assert!(
                error.starts_with("mounts[4].options: `idmap="),
                "{bad}: {error}"
            );
        }
        let both = of(LISTED, Some((false, Some("uids=0-1-1;gids=0-1-1"))), own);
        assert!(both.unwrap_err().to_string().contains("exclude"));
    }
}

//! What the kernel and other programs write: the mount table and the list of cgroups, against the crate `procfs`; statistics of
//! cgroups; /etc/passwd of a container; the log of CRIU.

use std::io::Cursor;
use std::path::Path;

use procfs::FromRead as _;
use procfs::ProcessCGroups;
use procfs::process::MountInfo;

use crate::cgroup::v2::stats::{add_device, parse_stall};
use crate::cgroup::{detect, stats as numbers};
use crate::criu::log::error_lines;
use crate::fs::passwd;
use crate::rootfs::mount_table::{ATTRIBUTES, Table};
use crate::rootfs::pivot::kernel_mounts;

/// A mount table, a null byte, a list of cgroups.
pub(super) fn mounts(bytes: &[u8]) {
    let (table, cgroups) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &b""[..]),
    };
    let parsed = Table::parse(table);
    let (Ok(table), Ok(cgroups)) = (std::str::from_utf8(table), std::str::from_utf8(cgroups))
    else {
        return;
    };
    for line in table.lines() {
        let Ok(theirs) = MountInfo::from_line(line) else {
            continue;
        };
        // Of two lines of one number the last one holds.
        let is_same = |other: &&str| {
            let number = other.split(' ').next().and_then(|word| word.parse().ok());
            number == Some(theirs.mnt_id)
        };
        if table.lines().filter(is_same).count() != 1 || !regular(line) {
            continue;
        }
        let ours = &parsed.0[&u64::try_from(theirs.mnt_id).unwrap()];
        assert_eq!(ours.device, theirs.majmin, "{line}");
        assert_eq!(ours.kind, theirs.fs_type, "{line}");
        for (bit, word) in ATTRIBUTES {
            assert_eq!(
                ours.attributes & bit != 0,
                theirs.mount_options.contains_key(word),
                "{word} of {line}"
            );
        }
        if !line.contains('\\') {
            assert_eq!(ours.root, Path::new(&theirs.root), "{line}");
            assert_eq!(ours.point, theirs.mount_point, "{line}");
        }
    }
    for point in kernel_mounts(table.as_bytes(), Path::new("/root")) {
        assert!(!point.starts_with("/root"));
    }
    drop(crate::rdt::find_mount(table.as_bytes()));
    let found = detect::parse(table.as_bytes(), cgroups);
    for hierarchy in &found {
        assert!(hierarchy.mount.starts_with("/sys/fs/cgroup"));
        assert!(
            !hierarchy.own.starts_with('/')
                && hierarchy
                    .own
                    .split('/')
                    .all(|part| part != ".." && part != ".")
        );
    }
    let Ok(theirs) = ProcessCGroups::from_read(Cursor::new(cgroups)) else {
        return;
    };
    // Ours is cleaned: `/a/b/.` is `a/b`.
    for hierarchy in found {
        assert!(
            theirs.0.iter().any(|group| {
                let listed = group.controllers.join(",") == hierarchy.controllers.join(",");
                listed
                    && group
                        .pathname
                        .contains(hierarchy.own.rsplit('/').next().unwrap_or_default())
            }),
            "{hierarchy:?} of {cgroups}"
        );
    }
}

/// A line as the kernel writes it: single blanks, all fields, a number without a sign.
fn regular(line: &str) -> bool {
    let Some((front, back)) = line.split_once(" - ") else {
        return false;
    };
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    front.len() >= 6
        && back.len() == 3
        && front
            .iter()
            .chain(&back)
            .all(|field| !field.is_empty() && *field != "-" && field.is_ascii())
        && !line.contains(|c: char| c.is_ascii_control())
        && front[..2]
            .iter()
            .all(|field| field.bytes().all(|byte| byte.is_ascii_digit()))
        && front[5].split(',').all(|option| !option.contains('='))
}

pub(super) fn stats(bytes: &[u8]) {
    drop(error_lines(&mut Cursor::new(bytes)));
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        drop(parse_stall(line));
        let mut out = numbers::Blkio::default();
        drop(add_device(&mut out, line));
        if let Ok(number) = numbers::parse(line) {
            let shown = line.trim();
            assert!(
                shown == "max"
                    || shown.starts_with('-')
                    || shown.trim_start_matches(['0', '+'])
                        == number.to_string().trim_start_matches('0'),
                "{line} is {number}"
            );
        }
    }
    for uid in [0, 1, 33, 1000] {
        for field in [0, 5] {
            if let Some(found) = passwd::find(&text, uid, field) {
                assert!(!found.contains(['\0', ':', '\n']));
            }
        }
    }
}

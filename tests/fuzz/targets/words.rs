//! Words of the command line and of single fields. The first byte says which parser gets the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::OnceLock;

use crate::cgroup::path::{self, SubPaths, Wanted};
use crate::cgroup::systemd::annotations;
use crate::cgroup::systemd::manager::Which;
use crate::cgroup::systemd::names::UnitName;
use crate::cgroup::systemd::properties::List;
use crate::cli::{self, duration, exec, grammar, kill, update};
use crate::container::store::check_id;
use crate::criu::options::PageServer;
use crate::plan::device_rule::{Access, DeviceRule};
use crate::plan::{id_list, mount_options};

pub(super) fn words(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    if which % 16 == 0 {
        return command_line(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match which % 16 {
        1 => user(text),
        2 => durations(text),
        3 => sizes(text),
        4 => signals(text),
        5 => lists(text),
        6 => groups(text),
        7 => units(text),
        8 => annotation(text),
        9 => device(text),
        10 => ids(text),
        11 => page_server(text),
        _ => {
            let args: Vec<String> = text.split('\0').map(str::to_owned).collect();
            if let Ok(SubPaths::Each(each)) = SubPaths::parse(&args) {
                let names: BTreeSet<&String> =
                    each.iter().map(|(controller, _)| controller).collect();
                assert_eq!(names.len(), each.len());
            }
        }
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn id(text: &str) -> Option<u32> {
    let number = text.parse().ok().filter(|number| *number != u32::MAX);
    number.filter(|_| all_digits(text))
}

fn user(text: &str) {
    let expected = match text.split_once(':') {
        Some((uid, gid)) => id(uid)
            .zip(id(gid))
            .map(|(uid, gid)| (Some(uid), Some(gid))),
        None => id(text).map(|uid| (Some(uid), None)),
    };
    assert_eq!(exec::parse_user(text).ok(), expected, "{text:?}");
}

/// One number and one unit, worked out in another way.
fn durations(text: &str) {
    let parsed = duration::parse(text);
    let units = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000_i128),
    ];
    for (unit, nanos) in units {
        let Some(number) = text
            .strip_suffix(unit)
            .filter(|number| all_digits(number) && number.len() < 20)
        else {
            continue;
        };
        let wanted = number.parse::<i128>().unwrap() * nanos;
        assert_eq!(
            parsed.as_ref().ok().copied(),
            i64::try_from(wanted).ok(),
            "{text:?}"
        );
    }
    if let Ok(positive) = parsed {
        assert_eq!(
            duration::parse(&format!("0s{text}")).unwrap_or(positive),
            positive
        );
    }
}

fn sizes(text: &str) {
    let parsed = update::bytes(text);
    if let Ok(bytes) = &parsed {
        assert!(*bytes >= 0 || text == "-1", "{text:?}");
    }
    if all_digits(text) {
        assert_eq!(parsed.ok(), text.parse().ok(), "{text:?}");
    }
}

fn signals(text: &str) {
    if let Ok(signal) = kill::signal_number(text) {
        assert!((0..=64).contains(&signal), "{text:?}");
        assert_eq!(kill::signal_number(&signal.to_string()).unwrap(), signal);
        assert_eq!(kill::signal_number(&text.to_lowercase()).ok(), Some(signal));
    }
}

fn lists(text: &str) {
    let Ok(mask) = id_list::parse(text) else {
        return;
    };
    let mut expected = BTreeSet::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().unwrap();
        expected.extend(number(first)..=number(last));
    }
    let found: BTreeSet<u32> = mask
        .iter()
        .enumerate()
        .flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| u32::try_from(word).unwrap() * 64 + bit)
        })
        .collect();
    assert_eq!(found, expected, "{text:?}");
    assert_ne!(mask.last(), Some(&0));
}

fn is_clean(path: &str) {
    assert!(
        path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | "..")),
        "{path:?}"
    );
}

fn groups(text: &str) {
    let clean = path::clean(text);
    is_clean(&clean);
    assert_eq!(path::clean(&clean), clean);
    if let Ok(Wanted::Absolute(path) | Wanted::Relative(path)) = Wanted::new(Some(text), "id") {
        is_clean(&path);
        assert!(!path.is_empty() && !path.contains(char::is_control));
    }
    if let Ok(below) = path::sub("base/of", text) {
        is_clean(&below);
        assert!(
            below == "base/of" || below.starts_with("base/of/"),
            "{text:?} is {below:?}"
        );
    }
}

fn units(text: &str) {
    let (path, id) = text.split_once('\0').unwrap_or((text, "id"));
    for which in [Which::System, Which::User] {
        if let Ok(name) = UnitName::new(Some(path), id, which) {
            is_clean(&name.path);
            assert!(!name.unit.contains('/') && name.unit.len() <= 255);
            assert!(name.unit.ends_with(".scope") || name.unit.ends_with(".slice"));
            assert!(name.slice.ends_with(".slice"));
            assert!(name.path.ends_with(&name.unit), "{name:?}");
        }
    }
}

fn annotation(text: &str) {
    let (name, value) = text.split_once('\0').unwrap_or(("Description", text));
    let annotations = BTreeMap::from([(format!("org.systemd.property.{name}"), value.to_owned())]);
    let mut list = List::default();
    if annotations::properties(&annotations, &mut list).is_ok() {
        assert_eq!(list.done().len(), 1);
    }
}

fn device(text: &str) {
    drop(Access::parse(text));
    if let Ok(rule) = DeviceRule::try_from(text.to_owned()) {
        let shown = String::from(rule.clone());
        assert_eq!(DeviceRule::try_from(shown).unwrap(), rule);
    }
}

fn ids(text: &str) {
    if check_id(text).is_ok() {
        assert!(
            !matches!(text, "" | "." | "..")
                && !text.contains(['/', '\0', '\n', ' '])
                && text.len() <= 255
        );
    }
}

fn page_server(text: &str) {
    if let Ok(server) = text.parse::<PageServer>() {
        assert!(server.port > 0 && !server.address.is_empty());
    }
}

/// Words that are separated by null bytes, after one that names the verb.
fn command_line(bytes: &[u8]) {
    static VERBS: OnceLock<Vec<cli::Definition>> = OnceLock::new();
    let verbs = VERBS.get_or_init(cli::definitions);
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let verb = &verbs[usize::from(*which) % verbs.len()];
    let args: Vec<OsString> = rest
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    for stop in [None, Some(1)] {
        let Ok(lexed) = grammar::lex(&verb.flags, &args, stop) else {
            continue;
        };
        let canonical = lexed.canonical();
        // The one form is a form: read again it is the same.
        let again = grammar::lex(&verb.flags, &canonical[1..], None)
            .unwrap()
            .canonical();
        assert_eq!(canonical, again);
        drop(verb.command.clone().try_get_matches_from(canonical));
    }
}

/// Words between commas.
pub(super) fn mount_options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let words: Vec<&str> = text.split(',').collect();
    let parsed = mount_options::parse(words.iter().copied());
    for change in [parsed.top, parsed.tree] {
        let atime = libc::MOUNT_ATTR__ATIME;
        assert_eq!(change.set & change.clear & !atime, 0, "{text:?}");
        if change.set & atime != 0 {
            assert_eq!(
                change.clear & atime,
                atime,
                "{text:?}: a mode of access times replaces the whole field"
            );
        }
    }
    for (key, value) in &parsed.data {
        let word = value
            .as_ref()
            .map_or(key.clone(), |value| format!("{key}={value}"));
        assert!(words.contains(&word.as_str()), "{word:?} of {text:?}");
    }
    // What was said last holds: said once more it is the same.
    let twice = mount_options::parse(words.iter().chain(&words).copied());
    assert_eq!(
        (twice.top, twice.tree),
        (parsed.top, parsed.tree),
        "{text:?}"
    );
    drop(mount_options::root_propagation(text));
}

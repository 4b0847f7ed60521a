//! Lists where the specification has objects. serde takes a list for a struct, its first element for the first field and so on, in an
//! order that is nobody's but the crate's: `"user": [0, 0]` would be read as something. Pure. Called by `spec` on what was parsed.

use super::locate::lists;

/// Where an object stands, of those that rundlet reads; `[]` is any element of a list, `*` any member.
const OBJECTS: &[&str] = &[
    "",
    "hooks",
    "hooks.*[]",
    "linux",
    "linux.devices[]",
    "linux.gidMappings[]",
    "linux.intelRdt",
    "linux.memoryPolicy",
    "linux.namespaces[]",
    "linux.netDevices.*",
    "linux.personality",
    "linux.resources",
    "linux.resources.blockIO",
    "linux.resources.blockIO.*[]",
    "linux.resources.cpu",
    "linux.resources.devices[]",
    "linux.resources.hugepageLimits[]",
    "linux.resources.memory",
    "linux.resources.network",
    "linux.resources.network.priorities[]",
    "linux.resources.pids",
    "linux.resources.rdma.*",
    "linux.seccomp",
    "linux.seccomp.syscalls[]",
    "linux.seccomp.syscalls[].args[]",
    "linux.timeOffsets.*",
    "linux.uidMappings[]",
    "mounts[]",
    "mounts[].gidMappings[]",
    "mounts[].uidMappings[]",
    "process",
    "process.capabilities",
    "process.consoleSize",
    "process.execCPUAffinity",
    "process.ioPriority",
    "process.rlimits[]",
    "process.scheduler",
    "process.user",
    "root",
];

/// Which part of config.json a document is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Document {
    Config,
    Process,
    Resources,
}

/// The path of the first list in the place of an object.
pub(super) fn misplaced(text: &[u8], document: Document) -> Option<String> {
    if !may_be_misplaced(text) {
        return None;
    }
    let base = match document {
        Document::Config => "",
        Document::Process => "process",
        Document::Resources => "linux.resources",
    };
    lists(text).find(|path| {
        let whole = match (base, path.as_str()) {
            ("", path) => path.to_owned(),
            (base, "") => base.to_owned(),
            (base, path) => format!("{base}.{path}"),
        };
        OBJECTS.iter().any(|pattern| matches(pattern, &whole))
    })
}

/// Cheap, for every document that there is: a list behind a colon whose key is the name of an object, behind another bracket or a
/// comma, or at the start.
fn may_be_misplaced(text: &[u8]) -> bool {
    let openings = text.iter().enumerate().filter(|(_, byte)| **byte == b'[');
    openings.into_iter().any(|(at, _)| {
        let before = text[..at].trim_ascii_end();
        let Some(key) = before.strip_suffix(b":") else {
            return true;
        };
        let Some(key) = key.trim_ascii_end().strip_suffix(b"\"") else {
            return true;
        };
        let start = key
            .iter()
            .rposition(|byte| *byte == b'"')
            .map_or(0, |quote| quote + 1);
        !LISTS.contains(&&key[start..])
    })
}

/// The names of lists: a document with no others needs no closer look.
const LISTS: &[&[u8]] = &[
    b"additionalGids",
    b"ambient",
    b"architectures",
    b"args",
    b"bounding",
    b"createContainer",
    b"createRuntime",
    b"devices",
    b"effective",
    b"env",
    b"flags",
    b"gidMappings",
    b"hugepageLimits",
    b"inheritable",
    b"maskedPaths",
    b"mounts",
    b"names",
    b"namespaces",
    b"options",
    b"permitted",
    b"poststart",
    b"poststop",
    b"prestart",
    b"priorities",
    b"readonlyPaths",
    b"rlimits",
    b"schemata",
    b"startContainer",
    b"syscalls",
    b"throttleReadBpsDevice",
    b"throttleReadIOPSDevice",
    b"throttleWriteBpsDevice",
    b"throttleWriteIOPSDevice",
    b"uidMappings",
    b"weightDevice",
];

fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('.'), path.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.ends_with(']') => {}
            (Some("*[]"), Some(part)) if part.ends_with(']') => {}
            (Some(one), Some(part)) => {
                let list = one.strip_suffix("[]");
                let name = part.split_once('[').filter(|_| part.ends_with(']'));
                let same = match (list, name) {
                    (Some(list), Some((name, rest))) => list == name && !rest.contains('['),
                    (None, None) => one == part,
                    _ => false,
                };
                if !same {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        misplaced(text.as_bytes(), Document::Config)
    }

    #[test]
    fn lists_of_objects_are_found_where_they_are_misplaced() {
        for (text, path) in [
            ("[]", ""),
            (r#" ["1.0.0"]"#, ""),
            (r#"{"process":{"args":["a"],"user":[0,0]}}"#, "process.user"),
            (r#"{"mounts":[{"destination":"/a"},["/b"]]}"#, "mounts[1]"),
            (
                r#"{"hooks":{"prestart":[{"path":"/a"}],"poststop":[["/b"]]}}"#,
                "hooks.poststop[0]",
            ),
            (
                r#"{"linux":{"netDevices":{"eth0":["x"]}}}"#,
                "linux.netDevices.eth0",
            ),
            (
                r#"{"linux":{"seccomp":{"syscalls":[{"args":[[1]]}]}}}"#,
                "linux.seccomp.syscalls[0].args[0]",
            ),
            (
                r#"{"linux":{"resources":{"cpu" : [ 1 ]}}}"#,
                "linux.resources.cpu",
            ),
        ] {
            assert_eq!(of(text).as_deref(), Some(path), "{text}");
        }
        let resources = misplaced(br#"{"memory":[1]}"#, Document::Resources);
        assert_eq!(resources.as_deref(), Some("memory"));
        assert_eq!(misplaced(b"[1]", Document::Process).as_deref(), Some(""));
    }

    /// Members that nobody asks for may be as deep as they like.
    #[test]
    fn depth_is_no_matter() {
        let deep = format!(
            r#"{{"x":{}{},"root":[]}}"#,
            "[".repeat(1_000_000),
            "]".repeat(1_000_000)
        );
        assert_eq!(of(&deep).as_deref(), Some("root"));
    }

    #[test]
    fn other_lists_are_let_through() {
        for text in [
            r#"{"process":{"args":["a","["],"env":[]}}"#,
            r#"{"annotations":{"a":"\"user\":[1]"},"x":{"user":[1],"list":[[1]]}}"#,
            r#"{"linux":{"resources":{"unified":{}},"intelRdt":{"schemata":["MB:0=1"]}}}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}

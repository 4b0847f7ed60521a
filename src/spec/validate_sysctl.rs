//! Which sysctls a container may set (Y1): those that a namespace of its own makes its own. Pure.
//! Called by `validate`. The key's form is checked here too; that it is opened safely is `init`'s part.

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::validate::HostFacts;
use super::validate::linux::has_namespace;

/// The System V IPC settings that live in the IPC namespace.
const IPC_KEYS: [&str; 11] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg_next_id",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
];

pub(super) fn check(linux: &Linux, facts: HostFacts) -> Result<()> {
    let Some(sysctls) = linux.sysctl() else {
        return Ok(());
    };
    // A map has no order; the same fault must read the same each time.
    let mut sorted: Vec<(&String, &String)> = sysctls.iter().collect();
    sorted.sort_unstable();
    for (key, value) in sorted {
        let path = format!("linux.sysctl[{key:?}]");
        ensure!(!value.contains('\0'), "{path}: contains a NUL byte");
        allowed(&path, &components(&path, key)?.join("."), linux, facts)?;
    }
    Ok(())
}

/// `net.ipv4.conf.eth0/1.x` and `net/ipv4/conf/eth0.1/x` are the same key: the first separator decides which
/// character separates, the other one then is part of a name, where only `.` may stand.
pub(crate) fn components(path: &str, key: &str) -> Result<Vec<String>> {
    let separator = key
        .find(['.', '/'])
        .map_or('.', |at| if key[at..].starts_with('.') { '.' } else { '/' });
    let parts: Vec<String> = key
        .split(separator)
        .map(|part| {
            if separator == '.' {
                part.replace('/', ".")
            } else {
                part.to_owned()
            }
        })
        .collect();
    for part in &parts {
        let plain = !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\n']);
        ensure!(plain, "{path}: not the name of a sysctl");
    }
    Ok(parts)
}

fn allowed(path: &str, key: &str, linux: &Linux, facts: HostFacts) -> Result<()> {
    let has = |kind| has_namespace(linux, kind);
    if IPC_KEYS.contains(&key) || key.starts_with("fs.mqueue.") {
        ensure!(
            has(LinuxNamespaceType::Ipc),
            "{path}: not allowed in the host's ipc namespace"
        );
    } else if key.starts_with("net.") {
        ensure!(
            has(LinuxNamespaceType::Network) && !facts.joined_network_is_own,
            "{path}: not allowed in the host's network namespace"
        );
    } else if key == "kernel.domainname" {
        ensure!(
            has(LinuxNamespaceType::Uts),
            "{path}: not allowed in the host's uts namespace"
        );
    } else if key == "kernel.hostname" {
        bail!("{path}: not allowed as it conflicts with the field `hostname`");
    } else if key.starts_with("user.") {
        ensure!(
            has(LinuxNamespaceType::User),
            "{path}: not allowed in the host's user namespace"
        );
    } else {
        bail!("{path}: is not in a separate kernel namespace");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(key: &str, namespaces: &[&str], facts: HostFacts) -> String {
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|kind| json!({"type": kind}))
            .collect();
        let linux: Linux =
            serde_json::from_value(json!({"namespaces": namespaces, "sysctl": {key: "1"}}))
                .unwrap();
        check(&linux, facts)
            .err()
            .map_or(String::new(), |error| format!("{error:#}"))
    }

    #[test]
    fn a_key_needs_its_namespace() {
        for (key, namespace) in [
            ("kernel.msgmax", "ipc"),
            ("kernel/shmmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/conf/eth0.100/rp_filter", "network"),
            ("kernel.domainname", "uts"),
            ("user.max_user_namespaces", "user"),
        ] {
            assert_eq!(
                refusal(key, &[namespace], HostFacts::default()),
                "",
                "{key}"
            );
            let without = refusal(key, &["pid"], HostFacts::default());
            assert!(
                without.starts_with(&format!("linux.sysctl[{key:?}]: not allowed")),
                "{without}"
            );
        }
    }

    #[test]
    fn the_hosts_own_network_is_refused_although_a_namespace_is_named() {
        let facts = HostFacts {
            joined_network_is_own: true,
            ..HostFacts::default()
        };
        assert!(refusal("net.ipv4.ip_forward", &["network"], facts).contains("network namespace"));
    }

    #[test]
    fn host_wide_keys_and_look_alikes_are_refused() {
        let all = ["ipc", "network", "uts", "user", "pid", "mount", "cgroup"];
        for key in [
            "kernel.core_pattern",
            "kernel.hostname",
            "vm.overcommit_memory",
            "fs.file-max",
            "netfoo.x",
            "net",
            "kernel.msgmaxx",
            "kernel.sem.x",
            "fs.mqueuex",
        ] {
            assert!(
                refusal(key, &all, HostFacts::default()).starts_with("linux.sysctl["),
                "{key}"
            );
        }
    }

    #[test]
    fn ways_out_of_the_tree_are_refused() {
        let all = ["ipc", "network", "uts", "user"];
        for key in [
            "net/../kernel/core_pattern",
            "net..kernel",
            "net/./x",
            "net//x",
            "",
            ".",
            "/",
            "net.ipv4.",
            "net.x/../y",
            "net.//.y",
            "net\0.x",
            "../x",
        ] {
            let text = refusal(key, &all, HostFacts::default());
            assert!(text.starts_with("linux.sysctl["), "{key}: {text}");
        }
    }

    #[test]
    fn both_spellings_give_the_same_components() {
        let dots = components("p", "net.ipv4.conf.eno2/100.rp_filter").unwrap();
        let slashes = components("p", "net/ipv4/conf/eno2.100/rp_filter").unwrap();
        assert_eq!(dots, slashes);
        assert_eq!(dots[3], "eno2.100");
    }
}

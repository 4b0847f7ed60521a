//! Every field of `linux` but its resources, set and looked at. For `conformance/fields.md`; the edges of each are in other
//! files, labels in `labels`.

use std::path::Path;

use serde_json::json;

use super::netdev;
use super::seccomp::names_up_to_302;
use crate::namespaces::{join, path_of};
use crate::support::agent::{Agent, Answer};
use crate::support::{Cx, tests};

tests! {
    host devices_paths_and_sysctls;
    host propagation_of_the_root = "runc 1.1.5 leaves it private";
    host namespaces_and_mappings;
    host the_path_of_the_cgroup;
    host clocks = "runc 1.1 has no time namespaces";
    host network_devices = "runc 1.1 does not know the field";
    host memory_policy = "runc 1.1 does not know the field";
    host personality_of_the_program = "runc 1.1.5 does not know it";
    host filter = "runc 1.1.5 takes no flags";
    host filter_by_default;
    host filter_with_an_agent;
    host resctrl = "runc 1.1.5 says it in other words";
}

fn devices_paths_and_sysctls(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/given", "type": "c", "major": 10, "minor": 229, "fileMode": 0o620, "uid": 3, "gid": 4}]),
    );
    bundle.set("/linux/sysctl", json!({"kernel.msgmax": "65000"}));
    bundle.set("/linux/maskedPaths", json!(["/proc/version"]));
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    cx.looks(
        &mut bundle,
        &[
            (
                &[
                    "linux.devices[].path",
                    "linux.devices[].type",
                    "linux.devices[].major",
                    "linux.devices[].minor",
                    "linux.devices[].fileMode",
                    "linux.devices[].uid",
                    "linux.devices[].gid",
                ],
                "stat -c '%F %t:%T %a %u:%g' /dev/given",
                "character special file a:e5 620 3:4",
            ),
            (&["linux.sysctl"], "cat /proc/sys/kernel/msgmax", "65000"),
            (&["linux.maskedPaths"], "wc -c </proc/version", "0"),
            (
                &["linux.readonlyPaths"],
                "echo 1 >/proc/sys/kernel/msgmax || echo failed",
                "sh: can't create /proc/sys/kernel/msgmax: Read-only file system\nfailed",
            ),
        ],
    );
}

fn propagation_of_the_root(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/rootfsPropagation", json!("shared"));
    let script = "awk '$5 == \"/\" { print $7 }' /proc/1/mountinfo | tr -d 0-9";
    cx.looks(
        &mut bundle,
        &[(&["linux.rootfsPropagation"], script, "shared:")],
    );
}

fn namespaces_and_mappings(cx: &Cx) {
    let first = cx.sleeper();
    let mut bundle = cx.named_bundle("second");
    join(&mut bundle, "ipc", &path_of(&first, "ipc"));
    bundle.sh("exec sleep 1000");
    let second = cx.start(&bundle);
    let ns = |pid: i64, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    assert_eq!(ns(first.pid(), "ipc"), ns(second.pid(), "ipc"));
    assert_ne!(ns(first.pid(), "uts"), ns(second.pid(), "uts"));
    let mut only = cx.named_bundle("only");
    let joined = json!([{"type": "ipc", "path": "/proc/PID/ns/ipc"}]);
    only.set("/linux/namespaces", joined);
    cx.observed(
        &only,
        &["linux.namespaces[].type", "linux.namespaces[].path"],
        "`/proc/PID/ns/ipc` of both containers is the same, `/proc/PID/ns/uts`, asked for without a path, is not",
    );
    second.end();
    first.end();

    let mut bundle = cx.named_bundle("mapped");
    bundle.user_namespace();
    bundle.set(
        "/linux/gidMappings",
        json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]),
    );
    let side =
        |name: &str| ["containerID", "hostID", "size"].map(|key| format!("linux.{name}[].{key}"));
    let (uids, gids) = (side("uidMappings"), side("gidMappings"));
    cx.looks(
        &mut bundle,
        &[
            (
                &uids.each_ref().map(String::as_str),
                "awk '{ print $1, $2, $3 }' /proc/1/uid_map",
                "0 100000 65536",
            ),
            (
                &gids.each_ref().map(String::as_str),
                "awk '{ print $1, $2, $3 }' /proc/1/gid_map",
                "0 200000 1000",
            ),
        ],
    );
}

fn the_path_of_the_cgroup(cx: &Cx) {
    let bundle = cx.bundle();
    let container = cx.start(&bundle);
    let path = bundle.config["linux"]["cgroupsPath"].as_str().unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(groups.lines().any(|line| line.ends_with(path)), "{groups}");
    cx.observed(
        &bundle,
        &["linux.cgroupsPath"],
        &format!("a line of `/proc/PID/cgroup` ends in `{path}`"),
    );
    container.end();
}

fn clocks(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 86400, "nanosecs": 3}, "boottime": {"secs": 172_800, "nanosecs": 5}}),
    );
    let script =
        |clock: &str| format!("awk '$1 == \"{clock}\" {{ print $2, $3 }}' /proc/1/timens_offsets");
    cx.looks(
        &mut bundle,
        &[
            (
                &[
                    "linux.timeOffsets.monotonic.secs",
                    "linux.timeOffsets.monotonic.nanosecs",
                ],
                &script("monotonic"),
                "86400 3",
            ),
            (
                &[
                    "linux.timeOffsets.boottime.secs",
                    "linux.timeOffsets.boottime.nanosecs",
                ],
                &script("boottime"),
                "172800 5",
            ),
        ],
    );
}

fn network_devices(cx: &Cx) {
    netdev::network(cx);
    let mut bundle = cx.bundle();
    bundle.set("/linux/netDevices", json!({"left0": {"name": "inside0"}}));
    let script = "ip -o -4 addr show dev inside0 | awk '$4 ~ /^192/ { print $4 }'";
    cx.looks(
        &mut bundle,
        &[(&["linux.netDevices.*.name"], script, "192.0.2.7/24")],
    );
}

fn memory_policy(cx: &Cx) {
    let fields = [
        "linux.memoryPolicy.mode",
        "linux.memoryPolicy.nodes",
        "linux.memoryPolicy.flags",
    ];
    if !Path::new("/proc/self/numa_maps").exists() {
        cx.not_here(&fields, "a kernel without NUMA");
        return;
    }
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
    );
    let script = "head -n 1 /proc/1/numa_maps | cut -d' ' -f2";
    cx.looks(&mut bundle, &[(&fields, script, "bind=static:0")]);
}

fn personality_of_the_program(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    cx.looks(
        &mut bundle,
        &[(
            &["linux.personality.domain"],
            "cat /proc/1/personality",
            "00000008",
        )],
    );
    bundle.set("/linux/personality/flags", json!(["ADDR_NO_RANDOMIZE"]));
    cx.run(&bundle).is(1).says("linux.personality.flags: ");
    cx.observed(
        &bundle,
        &["linux.personality.flags"],
        "refused: the runtime-spec defines no flag",
    );
}

fn filter(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/process/noNewPrivileges", json!(true));
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [
                {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                 "args": [{"index": 1, "value": 0o7700, "valueTwo": 0o5500, "op": "SCMP_CMP_MASKED_EQ"}]},
            ]
        }),
    );
    let call = "linux.seccomp.syscalls[]";
    let all: Vec<String> = ["names", "action", "errnoRet"]
        .map(|key| format!("{call}.{key}"))
        .into_iter()
        .chain(["index", "value", "valueTwo", "op"].map(|key| format!("{call}.args[].{key}")))
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    cx.looks(
        &mut bundle,
        &[
            (
                &all,
                "touch /tmp/f; chmod 5577 /tmp/f; chmod 4577 /tmp/f && stat -c %a /tmp/f",
                "chmod: /tmp/f: No space left on device\n4577",
            ),
            (
                &["linux.seccomp.architectures"],
                "grep ^Seccomp: /proc/1/status | tr -dc 0-9",
                "2",
            ),
        ],
    );
    // What the kernel was asked to install, with its flags.
    let trace = cx.dir.join("trace");
    bundle.sh("true");
    bundle.write();
    let mut command = std::process::Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=seccomp", "-o"])
        .arg(&trace)
        .arg(&cx.runtime)
        .arg("--root")
        .arg(cx.root())
        .args(["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id]);
    cx.spawn(command).wait().ok();
    let trace = std::fs::read_to_string(trace).unwrap();
    let wanted = "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, ";
    assert!(trace.contains(wanted), "{trace}");
    cx.observed(
        &bundle,
        &["linux.seccomp.flags"],
        "asked of the kernel: `seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, ...)`",
    );
}

fn filter_by_default(cx: &Cx) {
    let newer = [
        "rseq",
        "getrandom",
        "statx",
        "clone3",
        "openat2",
        "pidfd_open",
        "prlimit64",
        "faccessat2",
        "close_range",
        "execveat",
    ];
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 28,
            "syscalls": [{"names": names_up_to_302(), "action": "SCMP_ACT_ALLOW"},
                         {"names": newer, "action": "SCMP_ACT_ALLOW"}]
        }),
    );
    cx.looks(
        &mut bundle,
        &[(
            &[
                "linux.seccomp.defaultAction",
                "linux.seccomp.defaultErrnoRet",
            ],
            // setns(2), which is not in the list.
            "nsenter -t 1 -u true || echo failed",
            "nsenter: setns(): can't reassociate to namespace 'uts': No space left on device\nfailed",
        )],
    );
}

fn filter_with_an_agent(cx: &Cx) {
    let agent = Agent::start(cx, Answer::Errno(libc::ENOSPC));
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.path, "listenerMetadata": "who asks",
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    cx.looks(
        &mut bundle,
        &[(
            &["linux.seccomp.listenerPath"],
            "mkdir /tmp/x || echo failed",
            "mkdir: can't create directory '/tmp/x': No space left on device\nfailed",
        )],
    );
    let state = &agent.states(1)[0];
    assert_eq!(state["metadata"], "who asks", "{state}");
    cx.observed(
        &bundle,
        &["linux.seccomp.listenerMetadata"],
        "the agent got it with the descriptor: `\"metadata\": \"who asks\"`",
    );
}

fn resctrl(cx: &Cx) {
    let fields = [
        "linux.intelRdt.closID",
        "linux.intelRdt.schemata",
        "linux.intelRdt.l3CacheSchema",
        "linux.intelRdt.memBwSchema",
        "linux.intelRdt.enableMonitoring",
        "linux.intelRdt.enableCMT",
        "linux.intelRdt.enableMBM",
    ];
    if Path::new("/sys/fs/resctrl").exists() {
        cx.skip("this test is for machines without resctrl");
    }
    let mut bundle = cx.script("true");
    bundle.set(
        "/linux/intelRdt",
        json!({"closID": "gold", "schemata": ["L3:0=f"]}),
    );
    cx.run(&bundle).is(1).says("linux.intelRdt");
    cx.not_here(
        &fields,
        "no CPU with resctrl; asked for, it is refused by name. The files that are written are those of the unit tests of `rdt`",
    );
}

//! Mistakes in config.json and in what it names, for `error_catalogue`.

use std::fs;

use serde_json::{Value, json};

use super::error_catalogue::Catalogue;
use crate::support::{Bundle, Cx};

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

/// In config.json's process and mounts.
pub(super) fn process_and_mounts(all: &mut Catalogue<'_>) {
    all.create("two_programs_in_one_string", |_, b| b.args(&["ls -l"]));
    all.create("unknown_scheduler", |_, b| {
        b.set("/process/scheduler", json!({"policy": "SCHED_MAYBE"}))
    });
    all.create("unknown_io_class", |_, b| {
        b.set(
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_X", "priority": 1}),
        )
    });
    let landlock = |key: &str, value: &str| {
        let (key, value) = (format!("org.rundlet.landlock.{key}"), json!(value));
        move |_: &Cx, b: &mut Bundle| b.config["annotations"][&key] = value.clone()
    };
    all.create("unknown_landlock_annotation", landlock("fs.write", "/"));
    all.create("landlock_path_that_is_missing", landlock("fs.ro", "/none"));
    all.create("landlock_port_by_name", landlock("net.bind", "http"));
    all.create("terminal_without_console_socket", |_, b| {
        b.set("/process/terminal", json!(true))
    });
    all.create("proc_is_a_link", |_, b| {
        fs::remove_dir(b.rootfs().join("proc")).unwrap();
        std::os::unix::fs::symlink("tmp", b.rootfs().join("proc")).unwrap();
    });
    all.create("bind_over_proc", |cx, b| b.bind(&cx.dir, "/proc", &[]));
    all.create("bind_below_proc", |cx, b| {
        b.bind(&cx.file("x", ""), "/proc/version", &[])
    });
    all.create("unknown_mount_option", |_, b| {
        b.push(
            "/mounts",
            mount("/data", "bind", "/tmp", &["rbind", "rsync"]),
        )
    });
    all.create("option_that_the_file_system_lacks", |_, b| {
        b.push(
            "/mounts",
            mount("/data", "tmpfs", "tmpfs", &["nosuchoption"]),
        )
    });
    all.create("mount_without_source", |_, b| {
        b.push("/mounts", json!({"destination": "/data", "type": "bind"}))
    });
    all.create("ids_mapped_on_a_tmpfs", |_, b| {
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        b.push("/mounts", json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "uidMappings": map, "gidMappings": map}));
    });
}

/// In what the kernel is asked for beside mounts.
pub(super) fn attributes(all: &mut Catalogue<'_>) {
    all.create("masked_path_without_mount_namespace", |_, b| {
        b.without_namespace("mount");
    });
    all.create("time_offsets_without_time_namespace", |_, b| {
        b.set(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1, "nanosecs": 0}}),
        )
    });
    all.create("unknown_seccomp_architecture", |_, b| {
        b.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}),
        );
    });
    all.create("unknown_seccomp_operator", |_, b| {
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_X"}]}]}));
    });
    all.create("seccomp_argument_that_no_call_has", |_, b| {
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}));
    });
    all.create("seccomp_notify_without_agent", |_, b| {
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}));
    });
    all.create("no_such_network_device", |_, b| {
        b.set("/linux/netDevices", json!({"nosuch0": {}}))
    });
    all.create("unknown_memory_policy", |_, b| {
        b.set(
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_X", "nodes": "0"}),
        )
    });
}

/// In limits, hooks and the file as a whole.
pub(super) fn limits_and_hooks(all: &mut Catalogue<'_>) {
    all.create("swap_below_the_limit", |_, b| {
        b.set(
            "/linux/resources/memory",
            json!({"limit": 20_000_000, "swap": 10_000_000}),
        )
    });
    all.create("memory_limit_too_small_to_start", |_, b| {
        b.set("/linux/resources/memory", json!({"limit": 4096}))
    });
    all.create("cpus_that_are_not_there", |_, b| {
        b.set("/linux/resources/cpu", json!({"cpus": "4000"}))
    });
    all.create("cpus_not_a_list", |_, b| {
        b.set("/linux/resources/cpu", json!({"cpus": "x"}))
    });
    all.create("cpu_quota_too_small", |_, b| {
        b.set(
            "/linux/resources/cpu",
            json!({"quota": 1, "period": 100_000}),
        )
    });
    all.create("hugepages_of_no_size", |_, b| {
        b.set(
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
        )
    });
    all.create("hook_that_is_missing", |_, b| {
        b.set(
            "/hooks",
            json!({"createRuntime": [{"path": "/no/such/hook"}]}),
        )
    });
    all.create("hook_with_relative_path", |_, b| {
        b.set("/hooks", json!({"createRuntime": [{"path": "hook"}]}))
    });
    all.create("hook_that_fails", |_, b| {
        b.set("/hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]}));
    });
    all.create("hook_that_takes_too_long", |_, b| {
        b.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}));
    });
    all.create("hook_in_the_container_that_fails", |_, b| {
        b.set(
            "/hooks",
            json!({"createContainer": [{"path": "/bin/false"}]}),
        );
    });
    all.create("annotation_that_is_no_text", |_, b| {
        b.config["annotations"] = json!({"a": 1})
    });
    all.create("config_is_not_json", |_, b| {
        fs::write(b.path.join("config.json"), "{,}").unwrap()
    });
    all.create("config_is_empty", |_, b| {
        fs::write(b.path.join("config.json"), "").unwrap()
    });
}

/// Programs that are there and may be executed, but that the kernel does not take: found only at the very end.
pub(super) fn programs(all: &mut Catalogue<'_>) {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, content) in [
        (
            "script_whose_interpreter_is_missing",
            "#!/no/such/interpreter\n",
        ),
        ("program_of_no_known_kind", "neither script nor program\n"),
    ] {
        let _ = fs::remove_dir_all(all.cx.dir.join("bundle-c"));
        let mut bundle = all.cx.bundle();
        let file = bundle.rootfs().join("mnt/program");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        bundle.args(&["/mnt/program"]);
        bundle.write();
        all.note(
            name,
            &["run", "--bundle", bundle.path.to_str().unwrap(), &bundle.id],
        );
    }
}

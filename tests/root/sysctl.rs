//! linux.sysctl: what each namespace allows, and what is refused (Y1).

use serde_json::json;

use crate::support::{Cx, tests};

tests! {
    host of_the_network;
    host of_ipc;
    host of_mqueue;
    host several_at_once;
    host value_with_blanks;
    host slashes_as_separators;
    host the_hosts_own_values_stay;
    host in_a_user_namespace;
    host with_a_joined_network;
    host refused_names;
    host refused_without_the_namespace;
    host refused_with_the_hosts_network_by_path;
    host refused_value_names_the_reason;
}

fn of_the_network(cx: &Cx) {
    cx.sh("cat /proc/sys/net/ipv4/ip_forward", |b| {
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
    })
    .prints("1");
}

fn of_ipc(cx: &Cx) {
    cx.sh("cat /proc/sys/kernel/msgmax /proc/sys/kernel/shmmni", |b| {
        b.set(
            "/linux/sysctl",
            json!({"kernel.msgmax": "12345", "kernel.shmmni": "99"}),
        );
    })
    .prints("12345\n99");
}

fn of_mqueue(cx: &Cx) {
    cx.sh("cat /proc/sys/fs/mqueue/queues_max", |b| {
        b.set("/linux/sysctl", json!({"fs.mqueue.queues_max": "77"}))
    })
    .prints("77");
}

fn several_at_once(cx: &Cx) {
    let mut values = serde_json::Map::new();
    values.insert("net.core.somaxconn".into(), json!("1111"));
    values.insert("net.ipv4.ip_unprivileged_port_start".into(), json!("80"));
    values.insert("kernel.msgmnb".into(), json!("22222"));
    cx.sh(
        "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmnb",
        |b| b.set("/linux/sysctl", json!(values)),
    )
    .prints("1111\n80\n22222");
}

fn value_with_blanks(cx: &Cx) {
    cx.sh(
        "tr '\\t' ' ' </proc/sys/net/ipv4/ip_local_port_range",
        |b| {
            b.set(
                "/linux/sysctl",
                json!({"net.ipv4.ip_local_port_range": "20000 30000"}),
            );
        },
    )
    .prints("20000 30000");
}

fn slashes_as_separators(cx: &Cx) {
    cx.sh("cat /proc/sys/net/ipv4/conf/lo/forwarding", |b| {
        b.set("/linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}));
    })
    .prints("1");
}

fn the_hosts_own_values_stay(cx: &Cx) {
    let read = || std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let before = read();
    cx.sh("true", |b| {
        b.set("/linux/sysctl", json!({"kernel.msgmax": "4321"}))
    });
    assert_eq!(read(), before);
}

fn in_a_user_namespace(cx: &Cx) {
    cx.sh("cat /proc/sys/net/ipv4/ip_forward", |b| {
        b.user_namespace();
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    })
    .prints("1");
}

fn with_a_joined_network(cx: &Cx) {
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = cx.named_bundle("second");
    bundle.without_namespace("network");
    bundle.push(
        "/linux/namespaces",
        json!({"type": "network", "path": format!("/proc/{}/ns/net", first.pid())}),
    );
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.sh("true");
    cx.run(&bundle).ok();
    first
        .exec(&["cat", "/proc/sys/net/ipv4/ip_forward"])
        .ok()
        .prints("1");
    first.end();
}

fn refused(cx: &Cx, name: &str, key: &str, edit: impl FnOnce(&mut crate::support::Bundle)) {
    let mut bundle = cx.named_bundle(name);
    // The host's own: a runtime that wrote it would change nothing.
    let file = format!("/proc/sys/{}", key.replace('.', "/"));
    let value = std::fs::read_to_string(file).unwrap_or_else(|_| "1".to_owned());
    bundle.set("/linux/sysctl", json!({key: value.trim()}));
    edit(&mut bundle);
    let output = cx.try_create(&bundle).is(1);
    assert!(output.stderr.contains(key) || !cx.is_rundlet(), "{output}");
}

fn refused_names(cx: &Cx) {
    let keys = [
        "kernel.panic",
        "vm.overcommit_memory",
        "fs.file-max",
        "kernel.core_pattern",
        "nonsense",
        "kernel..msgmax",
        "net..ipv4",
        "../kernel/panic",
        "net/../kernel/panic",
        "",
        "net.no.such.key",
    ];
    for (number, key) in keys.into_iter().enumerate() {
        refused(cx, &format!("b{number}"), key, |_| ());
    }
}

fn refused_without_the_namespace(cx: &Cx) {
    refused(cx, "net", "net.ipv4.ip_forward", |b| {
        b.without_namespace("network")
    });
    refused(cx, "ipc", "kernel.msgmax", |b| {
        b.without_namespace("ipc");
        b.without_mount("/dev/mqueue");
    });
}

fn refused_with_the_hosts_network_by_path(cx: &Cx) {
    refused(cx, "net", "net.ipv4.ip_forward", |b| {
        b.without_namespace("network");
        b.push(
            "/linux/namespaces",
            json!({"type": "network", "path": "/proc/self/ns/net"}),
        );
    });
}

fn refused_value_names_the_reason(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/sysctl", json!({"kernel.msgmax": "not a number"}));
    let output = cx.try_create(&bundle).is(1);
    assert!(
        output.stderr.to_lowercase().contains("invalid argument"),
        "{output}"
    );
}

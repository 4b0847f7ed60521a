//! Network devices moved into a container: name, addresses, state, and the way back when the container fails.

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::namespaces::{join, path_of};
use crate::support::{Bundle, Cx, tests};

tests! {
    both moved_with_its_addresses = "runc 1.1 does not know the field";
    host renamed_on_the_way = "runc 1.1 does not know the field";
    host several_devices = "runc 1.1 does not know the field";
    host into_a_user_namespace = "runc 1.1 does not know the field";
    host into_a_joined_namespace = "runc 1.1 does not know the field";
    host the_number_is_taken_there = "runc 1.1 does not know the field";
    host a_failing_container_gives_them_back = "runc 1.1 does not know the field";
    host one_of_two_missing_gives_the_other_back = "runc 1.1 does not know the field";
    host a_taken_name_is_refused = "runc 1.1 does not know the field";
    host loopback_stays = "runc 1.1 does not know the field";
    host the_runtimes_own_namespace_is_refused = "runc 1.1 does not know the field";
    host without_a_network_namespace_it_is_refused = "runc 1.1 does not know the field";
}

/// The "host" of the test is a network namespace of its own with a pair of devices, `left0` up and with addresses.
pub(super) fn network(cx: &Cx) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    cx.host(
        "ip link set lo up && ip link add left0 type veth peer name right0 && ip link set right0 up && \
         ip addr add 192.0.2.7/24 brd + dev left0 && ip addr add 198.51.100.9/32 dev left0 && \
         ip addr add 2001:db8::7/64 dev left0 nodad && ip link set left0 mtu 1400 up",
    )
    .ok();
}

fn with_devices(cx: &Cx, script: &str, devices: Value) -> Bundle {
    let mut bundle = cx.script(script);
    bundle.set("/linux/netDevices", devices);
    bundle
}

/// Addresses of global scope and the state of a device.
fn show(device: &str) -> String {
    format!(
        "ip -o addr show dev {device} | grep 'scope global' | awk '{{ print $4 }}' | sort; ip link show dev {device} | \
         grep -o -E 'mtu [0-9]+|[<,]UP[,>]' | tr -d '<,>' | sort"
    )
}

const ADDRESSES: &str = "192.0.2.7/24\n198.51.100.9/32\n2001:db8::7/64\nUP\nmtu 1400";

#[track_caller]
fn is_back(cx: &Cx) {
    cx.host(&show("left0")).ok().prints(ADDRESSES);
}

fn moved_with_its_addresses(cx: &Cx) {
    network(cx);
    let mut bundle = cx.bundle();
    bundle.set("/linux/netDevices", json!({"left0": {}}));
    let container = cx.start(&bundle);
    container.exec_sh(&show("left0")).ok().prints(ADDRESSES);
    container
        .exec_sh("ip -o -4 addr show dev left0 | grep -o 'brd [0-9.]*'")
        .ok()
        .prints("brd 192.0.2.255");
    assert_ne!(cx.host("ip link show dev left0").code, 0);
    // Traffic goes through it.
    cx.host("ip addr add 192.0.2.8/24 dev right0").ok();
    container
        .exec(&["ping", "-c", "1", "-w", "10", "192.0.2.8"])
        .ok();
    container.end();
}

fn renamed_on_the_way(cx: &Cx) {
    network(cx);
    // On the host there is a device of the new name, and in the container none of the old one.
    cx.host("ip link add eth0 type veth peer name other0").ok();
    let bundle = with_devices(cx, &show("eth0"), json!({"left0": {"name": "eth0"}}));
    cx.run(&bundle).ok().prints(ADDRESSES);
}

fn several_devices(cx: &Cx) {
    network(cx);
    let devices = json!({"left0": {"name": "right0"}, "right0": {"name": "left0"}});
    let bundle = with_devices(cx, &show("right0"), devices);
    cx.run(&bundle).ok().prints(ADDRESSES);
}

fn into_a_user_namespace(cx: &Cx) {
    network(cx);
    let mut bundle = with_devices(cx, &show("left0"), json!({"left0": null}));
    bundle.user_namespace();
    cx.run(&bundle).ok().prints(ADDRESSES);
}

fn into_a_joined_namespace(cx: &Cx) {
    network(cx);
    let first = cx.start(&cx.named_bundle("first"));
    let mut bundle = with_devices(cx, &show("lan0"), json!({"left0": {"name": "lan0"}}));
    join(&mut bundle, "network", &path_of(&first, "net"));
    cx.run(&bundle).ok().prints(ADDRESSES);
    // It belongs to that namespace now.
    first.exec_sh(&show("lan0")).ok().prints(ADDRESSES);
    first.end();
}

fn the_number_is_taken_there(cx: &Cx) {
    network(cx);
    let first = cx.start(&cx.named_bundle("first"));
    let path = path_of(&first, "net");
    cx.host(&format!(
        "nsenter --net={path} ip link add p0 type veth peer name p1"
    ))
    .ok();
    let mut bundle = with_devices(cx, &show("left0"), json!({"left0": {}}));
    join(&mut bundle, "network", &path);
    cx.run(&bundle).ok().prints(ADDRESSES);
    first.end();
}

fn a_failing_container_gives_them_back(cx: &Cx) {
    network(cx);
    let mut bundle = with_devices(cx, "true", json!({"left0": {"name": "eth0"}}));
    bundle.args(&["/no/such/program"]);
    cx.run(&bundle).is(1);
    is_back(cx);
    cx.host("ip link set left0 down").ok();
    cx.run(&bundle).is(1);
    // What was down comes back down.
    let down = ADDRESSES.replace("UP\n", "");
    cx.host(&show("left0"))
        .ok()
        .prints(&down.replace("2001:db8::7/64\n", ""));
}

fn one_of_two_missing_gives_the_other_back(cx: &Cx) {
    network(cx);
    let bundle = with_devices(cx, "true", json!({"left0": {}, "nothing0": {}}));
    cx.run(&bundle)
        .is(1)
        .says("linux.netDevices[\\\"nothing0\\\"]: find the network device")
        .says("no such device");
    is_back(cx);
}

fn a_taken_name_is_refused(cx: &Cx) {
    network(cx);
    let bundle = with_devices(cx, "true", json!({"left0": {"name": "lo"}}));
    cx.run(&bundle)
        .is(1)
        .says(
            "linux.netDevices[\\\"left0\\\"]: a network device `lo` is already in the container's",
        )
        .says("file exists");
    is_back(cx);
}

fn loopback_stays(cx: &Cx) {
    network(cx);
    let bundle = with_devices(cx, "true", json!({"lo": {"name": "lo1"}}));
    cx.run(&bundle)
        .is(1)
        .says("linux.netDevices[\\\"lo\\\"]: move it to the container's network namespace")
        .says("invalid argument");
    cx.host("ip -o addr show lo | grep -o 127.0.0.1/8")
        .ok()
        .prints("127.0.0.1/8");
    cx.host("ip link show lo | grep -q LOOPBACK,UP").ok();
}

fn the_runtimes_own_namespace_is_refused(cx: &Cx) {
    network(cx);
    let mut bundle = with_devices(cx, "true", json!({"left0": {"name": "eth0"}}));
    join(&mut bundle, "network", "/proc/self/ns/net");
    cx.run(&bundle).is(1).says("linux.netDevices: ");
    is_back(cx);
}

fn without_a_network_namespace_it_is_refused(cx: &Cx) {
    network(cx);
    let mut bundle = with_devices(cx, "true", json!({"left0": {}}));
    bundle.without_namespace("network");
    bundle.without_mount("/sys");
    cx.run(&bundle).is(1).says("linux.netDevices: ");
    is_back(cx);
}

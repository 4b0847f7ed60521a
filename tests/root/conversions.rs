//! Every field of linux.resources, also with odd values, and sequences of updates: their effect is that of the host's runc, file
//! by file, but where the table says why not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::beside_runc::Meant::{Done, Files, Refused, Same};
use super::beside_runc::{Meant, Side, all_created, compare, created, runc, settings};
use super::cgroups::MIB;
use crate::support::{Container, Cx, tests};

tests! {
    host cpu_values_are_runcs;
    host memory_values_are_runcs;
    host other_values_are_runcs;
    host device_rules_are_runcs;
    host updates_are_runcs;
    v2 huge_pages_and_unified_are_runcs;
}

/// Debian's 1.1 has the old, linear formula; later ones the curve.
const WEIGHT: Meant = Files(
    &["cpu.weight", "cpu.weight.nice"],
    "runc 1.1 has the linear formula",
);

fn cpu_values_are_runcs(cx: &Cx) {
    let v2 = cx.is_v2();
    let on_v2 = |meant| if v2 { meant } else { Same };
    let cpu = |value: Value| json!({ "cpu": value });
    all_created(
        cx,
        &[
            (cpu(json!({})), Same),
            (
                cpu(json!({"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""})),
                Same,
            ),
            (cpu(json!({"shares": 2})), Same),
            (cpu(json!({"shares": 3})), on_v2(WEIGHT)),
            (cpu(json!({"shares": 512})), on_v2(WEIGHT)),
            (cpu(json!({"shares": 1024})), on_v2(WEIGHT)),
            (cpu(json!({"shares": 100_000})), on_v2(WEIGHT)),
            (cpu(json!({"shares": 262_144})), Same),
            // Out of the kernel's range: an error on v1.
            (
                cpu(json!({"shares": 1})),
                on_v2(Done("runc 1.1 computes a weight of 0 or an overflow")),
            ),
            (
                cpu(json!({"shares": 300_000})),
                on_v2(Done("runc 1.1 computes a weight of 11442")),
            ),
            (cpu(json!({"quota": 20_000})), Same),
            (cpu(json!({"quota": 20_000, "period": 50_000})), Same),
            (cpu(json!({"quota": 1_000, "period": 1_000})), Same),
            (cpu(json!({"quota": 150_000, "period": 1_000_000})), Same),
            (cpu(json!({"quota": -1, "period": 50_000})), Same),
            (cpu(json!({"quota": -1})), Same),
            (cpu(json!({"quota": -7})), on_v2(Same)),
            (cpu(json!({"period": 50_000})), Same),
            (cpu(json!({"quota": 999})), Same),
            (cpu(json!({"period": 999})), Same),
            (cpu(json!({"period": 1_000_001})), Same),
            (cpu(json!({"cpus": "0", "mems": "0"})), Same),
            (cpu(json!({"cpus": " 0 "})), Same),
            (cpu(json!({"cpus": "0-"})), Same),
            (cpu(json!({"cpus": "4000"})), Same),
            (cpu(json!({"mems": "900"})), Same),
            (
                cpu(json!({"realtimePeriod": 900_000})),
                on_v2(Refused("not available on cgroup v2", "runc drops it")),
            ),
            (
                cpu(json!({"realtimeRuntime": 1000, "realtimePeriod": 900_000})),
                on_v2(Refused("not available on cgroup v2", "runc drops it")),
            ),
        ],
    );
}

fn memory_values_are_runcs(cx: &Cx) {
    let v2 = cx.is_v2();
    let v1_only = || {
        if v2 {
            Refused("not available on cgroup v2", "runc drops it")
        } else {
            Same
        }
    };
    let memory = |value: Value| json!({ "memory": value });
    all_created(
        cx,
        &[
            (memory(json!({})), Same),
            (
                memory(json!({"limit": 0, "swap": 0, "reservation": 0})),
                Same,
            ),
            (memory(json!({"limit": 64 * MIB})), Same),
            // Rounded by the kernel.
            (
                memory(json!({"limit": 64 * MIB + 5000, "reservation": 5001})),
                Same,
            ),
            (memory(json!({"limit": -1})), Same),
            (memory(json!({"limit": 64 * MIB, "swap": 64 * MIB})), Same),
            (memory(json!({"limit": 64 * MIB, "swap": 96 * MIB})), Same),
            (memory(json!({"limit": 64 * MIB, "swap": -1})), Same),
            (memory(json!({"limit": -1, "swap": -1})), Same),
            (memory(json!({"limit": -1, "swap": 64 * MIB})), Same),
            (memory(json!({"limit": 64 * MIB, "swap": 32 * MIB})), Same),
            (memory(json!({"swap": 96 * MIB})), Same),
            (memory(json!({"swap": -1})), Same),
            (memory(json!({"reservation": 32 * MIB})), Same),
            (memory(json!({"reservation": -1})), Same),
            (
                memory(json!({"limit": 64 * MIB, "reservation": 128 * MIB})),
                Same,
            ),
            (
                memory(json!({"limit": 64 * MIB, "kernel": 32 * MIB, "kernelTCP": 16 * MIB})),
                Same,
            ),
            (
                memory(json!({"limit": 64 * MIB, "useHierarchy": true})),
                Same,
            ),
            (
                memory(json!({"limit": 64 * MIB, "checkBeforeUpdate": true})),
                Same,
            ),
            (memory(json!({"swappiness": 0})), v1_only()),
            (memory(json!({"swappiness": 100})), v1_only()),
            (
                memory(json!({"swappiness": 101})),
                if v2 {
                    Refused("101 is outside 0 to 100", "runc drops it")
                } else {
                    Same
                },
            ),
            (memory(json!({"disableOOMKiller": true})), v1_only()),
            (memory(json!({"disableOOMKiller": false})), Same),
        ],
    );
}

/// The disk under the test's directory, as a pair.
fn disk(cx: &Cx) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(&cx.dir).unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let whole = !Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists();
    (major != 0 && whole).then_some((major, minor))
}

fn other_values_are_runcs(cx: &Cx) {
    let v2 = cx.is_v2();
    let v1_only = || {
        if v2 {
            Refused("not available on cgroup v2", "runc drops it")
        } else {
            Same
        }
    };
    let io = |value: Value| json!({ "blockIO": value });
    let mut table = vec![
        (json!({"pids": {"limit": -1}}), Same),
        (json!({"pids": {"limit": 7}}), Same),
        (
            json!({"pids": {"limit": 0}}),
            Files(
                &["pids.max"],
                "runc reads 0 as 1 since 1.4, as unset before",
            ),
        ),
        (json!({"pids": {"limit": 5_000_000_000u64}}), Same),
        (io(json!({"weight": 0})), Same),
        (io(json!({"weight": 10})), Same),
        (io(json!({"weight": 500})), Same),
        (io(json!({"weight": 1000})), Same),
        (io(json!({"leafWeight": 300})), v1_only()),
        (
            io(json!({"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 5}]})),
            Same,
        ),
        (
            json!({"network": {"classID": 1_048_577}}),
            if v2 {
                v1_only()
            } else {
                Refused("net_cls", "runc drops it where the controller is missing")
            },
        ),
        (
            json!({"network": {"priorities": [{"name": "lo", "priority": 3}]}}),
            if v2 {
                v1_only()
            } else {
                Refused("net_prio", "runc drops it where the controller is missing")
            },
        ),
        (
            json!({"rdma": {"nosuch0": {"hcaHandles": 3, "hcaObjects": 10}}}),
            Refused("rdma", "runc drops it where the controller is missing"),
        ),
    ];
    if let Some((major, minor)) = disk(cx) {
        let one = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        for field in [
            "throttleReadBpsDevice",
            "throttleWriteBpsDevice",
            "throttleReadIOPSDevice",
            "throttleWriteIOPSDevice",
        ] {
            for rate in [1, 1_048_576, 4_294_967_295] {
                table.push((io(json!({ field: one(rate) })), Same));
            }
            table.push((
                io(json!({ field: one(0) })),
                if v2 {
                    Done("runc writes 0, which io.max refuses")
                } else {
                    Same
                },
            ));
        }
        table.push((
            io(json!({"throttleReadBpsDevice": one(5000), "throttleWriteIOPSDevice": one(9)})),
            Same,
        ));
        table.push((
            io(json!({"weight": 100, "weightDevice": [{"major": major, "minor": minor, "weight": 300}]})),
            Same,
        ));
    }
    all_created(cx, &table);
}

fn device_rules_are_runcs(cx: &Cx) {
    let none = json!({"allow": false, "access": "rwm"});
    let rule = |allow, major: i64, minor: i64, access: &str| json!({"allow": allow, "type": "c", "major": major, "minor": minor, "access": access});
    let list = |rules: Value| json!({ "devices": rules });
    all_created(
        cx,
        &[
            (list(json!([])), Same),
            (list(json!([none])), Same),
            (list(json!([none, rule(true, 10, 229, "rwm")])), Same),
            (
                list(json!([
                    none,
                    rule(true, 10, 229, "r"),
                    rule(true, 10, 229, "w")
                ])),
                Same,
            ),
            (
                list(json!([
                    none,
                    rule(true, 10, -1, "rw"),
                    rule(true, -1, 7, "m")
                ])),
                Same,
            ),
            (
                list(
                    json!([none, {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rm"}]),
                ),
                Same,
            ),
            (list(json!([rule(true, 10, 229, "rwm"), none])), Same),
            (
                list(json!([
                    none,
                    rule(true, 10, 229, "rwm"),
                    rule(false, 10, 229, "w")
                ])),
                Same,
            ),
            (list(json!([{"allow": true, "access": "rwm"}])), Same),
            (
                list(json!([none, rule(true, 10, 229, "x")])),
                if cx.is_v2() {
                    Refused("access: `x`", "runc drops it")
                } else {
                    Same
                },
            ),
        ],
    );
}

fn huge_pages_and_unified_are_runcs(cx: &Cx) {
    let pages =
        |size: &str, limit: u64| json!({"hugepageLimits": [{"pageSize": size, "limit": limit}]});
    let rsvd = || {
        Files(
            &["hugetlb.2MB.rsvd.max", "hugetlb.1GB.rsvd.max"],
            "runc 1.1 does not limit reservations",
        )
    };
    let mut table = vec![
        (pages("2MB", 4 * MIB), rsvd()),
        (pages("2MB", 0), rsvd()),
        (pages("2MB", 5_000_000), rsvd()),
        (pages("1GB", 1 << 30), rsvd()),
        (pages("3MB", 1), Same),
        (
            json!({"unified": {"hugetlb.2MB.max": "2097152", "cgroup.max.depth": "5"}}),
            Same,
        ),
        (json!({"unified": {"hugetlb.2MB.max": "max"}}), Same),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}], "unified": {"hugetlb.2MB.max": "2097152"}}),
            rsvd(),
        ),
    ];
    let available = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    if !available.contains("hugetlb") {
        table.retain(|(resources, _)| {
            !resources.to_string().contains("hugetlb") && resources.get("hugepageLimits").is_none()
        });
    }
    if available.contains("memory") {
        table.push((json!({"unified": {"memory.high": "33554432", "memory.max": "max", "memory.oom.group": "1"}}), Same));
        table.push((
            json!({"memory": {"limit": 64 * MIB}, "unified": {"memory.max": "33554432"}}),
            Same,
        ));
        table.push((json!({"unified": {"memory.nosuch": "1"}}), Same));
    }
    if available.contains("cpu") {
        table.push((
            json!({"unified": {"cpu.weight": "77", "cpu.max": "5000 10000"}}),
            Same,
        ));
    }
    if available.contains("misc") {
        table.push((json!({"unified": {"misc.max": "nosuch 1"}}), Same));
    }
    table.push((json!({"unified": {"nosuch.max": "1"}}), Same));
    table.push((json!({"unified": {"a/b.max": "1"}}), Same));
    all_created(cx, &table);
}

/// Both runtimes get the same updates, one after the other, and are compared after each.
fn updates_are_runcs(cx: &Cx) {
    let reference = runc(cx);
    let start = |cx: &Cx, name: &str| {
        let mut bundle = cx.named_bundle(name);
        bundle.set(
            "/linux/resources/memory",
            json!({"limit": 128 * MIB, "swap": 256 * MIB}),
        );
        bundle.set(
            "/linux/resources/cpu",
            json!({"shares": 1024, "quota": 20_000, "period": 50_000}),
        );
        bundle.set("/linux/resources/pids", json!({"limit": 50}));
        cx.start(&bundle).id
    };
    let v2 = cx.is_v2();
    let weight = || if v2 { WEIGHT } else { Same };
    // Set first, so that the formula is out of the way from there on.
    let shares = json!({"cpu": {"shares": 262_144}});
    let swap = &["memory.swap.max"];
    let table = [
        (shares, Same),
        (json!({}), Same),
        (
            json!({"memory": {"limit": 0}, "cpu": {"quota": 0, "shares": 0}}),
            Same,
        ),
        (json!({"pids": {"limit": 20}}), Same),
        (json!({"pids": {"limit": -1}}), Same),
        (
            json!({"cpu": {"quota": 30_000}}),
            Files(
                &["cpu.max"],
                "runc 1.1 forgets a period at the first update that has none",
            ),
        ),
        (json!({"cpu": {"period": 100_000}}), Same),
        (json!({"cpu": {"quota": 5000, "period": 10_000}}), Same),
        (json!({"cpu": {"quota": -1}}), Same),
        (json!({"cpu": {"quota": 999}}), Same),
        (json!({"cpu": {"cpus": "0"}}), Same),
        (json!({"cpu": {"mems": "0"}}), Same),
        (json!({"cpu": {"cpus": "4000"}}), Same),
        (
            json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}),
            Same,
        ),
        (
            json!({"memory": {"limit": 96 * MIB, "swap": 160 * MIB}}),
            Same,
        ),
        (
            json!({"memory": {"limit": 64 * MIB}}),
            if v2 {
                Files(
                    swap,
                    "memory and swap together stay 160 MiB; runc 1.1 leaves 64 MiB of swap",
                )
            } else {
                Same
            },
        ),
        (
            json!({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}),
            if v2 { Files(swap, "as before") } else { Same },
        ),
        (json!({"memory": {"swap": -1}}), Same),
        (json!({"memory": {"limit": -1}}), Same),
        (json!({"memory": {"reservation": 32 * MIB}}), Same),
        (
            json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "checkBeforeUpdate": true}}),
            Same,
        ),
        (json!({"blockIO": {"weight": 300}}), Same),
        (json!({"blockIO": {"weight": 1000}}), Same),
        (json!({"cpu": {"shares": 512}}), weight()),
        (json!({"pids": {"limit": "x"}}), Same),
    ];
    let unset = created(&reference, "unset", &json!({})).unwrap();
    let (ours, theirs) = (start(cx, "ours"), start(&reference, "theirs"));
    for (resources, meant) in &table {
        let update = |cx: &Cx, id: &str| -> Side {
            let command = cx.command(&["update", "--resources=-", id]);
            // Of runc's own panics only that they are failures counts.
            let mut asked = json!({"memory": {}, "cpu": {}, "blockIO": {}, "pids": {}});
            for (key, value) in resources.as_object().unwrap() {
                asked[key] = value.clone();
            }
            let output = cx.spawn_with_input(command, &asked.to_string()).wait();
            let settings = settings(cx, id);
            if output.code == 0 {
                Ok(settings)
            } else {
                Err(format!("linux.resources. {settings:?}"))
            }
        };
        let (a, b) = (update(cx, &ours), update(&reference, &theirs));
        compare(&format!("update {resources}"), &a, &b, &unset, meant);
    }
    println!("{} updates", table.len());
    for (cx, id) in [(cx, ours), (&reference, theirs)] {
        Container { cx, id }.end();
    }
}

//! Every field of `linux.resources.blockIO`, set and read back from the kernel's file. For `conformance/fields.md`; that the
//! limits bite is shown by `fields` and `v2_io`.

use std::fs;

use serde_json::{Value, json};

use super::cgroups::{limited, need};
use super::field_resources::refused;
use super::fields::whole_disk;
use super::limits::value;
use crate::support::{Bundle, Cx, tests};

tests! {
    host throttles;
    host weights = "runc 1.1.5 skips some";
    host leaf_weights = "runc 1.1.5 skips them";
}

fn controller_of_disks(cx: &Cx) -> &'static str {
    if cx.is_v2() { "io" } else { "blkio" }
}

/// Device numbers differ from machine to machine: `DISK` in the file.
fn with_disk(cx: &Cx, make: impl Fn(u64, u64) -> Value) -> Option<(Bundle, Bundle, String)> {
    let (major, minor) = whole_disk(cx)?;
    let mut shown = cx.named_bundle("shown");
    shown.set("/linux/resources/blockIO", make(8, 0));
    Some((
        limited(cx, "blockIO", make(major, minor)),
        shown,
        format!("{major}:{minor}"),
    ))
}

const THROTTLES: [(&str, &str, &str, u64); 4] = [
    (
        "throttleReadBpsDevice",
        "blkio.throttle.read_bps_device",
        "rbps",
        1_048_576,
    ),
    (
        "throttleWriteBpsDevice",
        "blkio.throttle.write_bps_device",
        "wbps",
        2_097_152,
    ),
    (
        "throttleReadIOPSDevice",
        "blkio.throttle.read_iops_device",
        "riops",
        77,
    ),
    (
        "throttleWriteIOPSDevice",
        "blkio.throttle.write_iops_device",
        "wiops",
        88,
    ),
];

fn throttles(cx: &Cx) {
    need(cx, controller_of_disks(cx));
    let all = |major: u64, minor: u64| {
        let mut all = json!({});
        for (field, _, _, rate) in THROTTLES {
            all[field] = json!([{"major": major, "minor": minor, "rate": rate}]);
        }
        all
    };
    let Some((bundle, shown, disk)) = with_disk(cx, all) else {
        cx.skip("the test's directory is not on a whole disk")
    };
    let container = cx.start(&bundle);
    for (field, v1, key, rate) in THROTTLES {
        let seen = value(&container, controller_of_disks(cx), v1, "io.max");
        let (file, wanted) = if cx.is_v2() {
            ("io.max", format!("{key}={rate}"))
        } else {
            (v1, rate.to_string())
        };
        let line = seen.lines().find(|line| line.starts_with(&disk));
        let words = line.unwrap_or_default().split(' ').skip(1);
        assert!(
            words.into_iter().any(|word| word == wanted),
            "{file}: {seen}"
        );
        let fields = ["major", "minor", "rate"]
            .map(|key| format!("linux.resources.blockIO.{field}[].{key}"));
        cx.observed_by_version(
            &shown,
            &fields.each_ref().map(String::as_str),
            &format!("the disk's line of `{file}` has `{wanted}`"),
        );
    }
    container.end();
}

/// Whether a group of this machine has the file.
fn has(cx: &Cx, names: &[&str]) -> bool {
    let container = cx.start(&cx.named_bundle("probe"));
    let dir = cx.cgroup_dir(controller_of_disks(cx), &container.id);
    let found = names.iter().any(|name| dir.join(name).exists());
    container.end();
    found
}

fn weights(cx: &Cx) {
    need(cx, controller_of_disks(cx));
    let one = |major: u64, minor: u64| json!({"weight": 200, "weightDevice": [{"major": major, "minor": minor, "weight": 300}]});
    let Some((bundle, shown, disk)) = with_disk(cx, one) else {
        cx.skip("the test's directory is not on a whole disk")
    };
    let of_device = ["major", "minor", "weight"]
        .map(|key| format!("linux.resources.blockIO.weightDevice[].{key}"));
    let of_device = of_device.each_ref().map(String::as_str);
    let weight = ["linux.resources.blockIO.weight"];
    let files = if cx.is_v2() {
        ["io.bfq.weight", "io.weight"]
    } else {
        ["blkio.weight", "blkio.bfq.weight"]
    };
    if !has(cx, &files) {
        let output = cx.try_create(&bundle).is(1);
        assert!(
            output.stderr.contains("linux.resources.blockIO.weight"),
            "{output}"
        );
        let reason = format!(
            "a kernel without `{}` and `{}`; asked for, it is refused by name",
            files[0], files[1]
        );
        cx.not_here(&weight, &reason);
        return cx.not_here(&of_device, &reason);
    }
    // On v2 1 + (w - 10) * 9999 / 990, in whole numbers, where it is not BFQ's file.
    let in_file = |file: &str, weight: u64| match file {
        "io.weight" => 1 + (weight - 10) * 9999 / 990,
        _ => weight,
    };
    let mut alone = cx.named_bundle("alone");
    alone.set("/linux/resources/blockIO", json!({"weight": 200}));
    let container = cx.start(&alone);
    let dir = cx.cgroup_dir(controller_of_disks(cx), &container.id);
    let file = files.into_iter().find(|file| dir.join(file).exists());
    let file = file.unwrap();
    let seen = fs::read_to_string(dir.join(file)).unwrap();
    let wanted = in_file(file, 200).to_string();
    let plain = |line: &str| line.trim_start_matches("default ") == wanted;
    assert!(seen.lines().any(plain), "{seen}");
    cx.observed_by_version(&shown, &weight, &format!("`{file}` is `{wanted}`"));
    container.end();
    let output = cx.try_create(&bundle);
    if output.code != 0 {
        let field = "linux.resources.blockIO.weightDevice[0].weight";
        assert!(output.stderr.contains(field), "{output}");
        return cx.not_here(
            &of_device,
            "the disk's scheduler takes no weight of its own; asked for, it is refused by name",
        );
    }
    let container = cx.container(&bundle.id);
    let file = if cx.is_v2() {
        file.to_owned()
    } else {
        format!("{file}_device")
    };
    let dir = cx.cgroup_dir(controller_of_disks(cx), &container.id);
    let seen = fs::read_to_string(dir.join(&file)).unwrap();
    let wanted = in_file(&file, 300);
    let line = format!("{disk} {wanted}");
    assert!(seen.lines().any(|found| found == line), "{seen}");
    let text = format!("the disk's line of `{file}` has `{wanted}`");
    cx.observed_by_version(&shown, &of_device, &text);
    container.end();
}

fn leaf_weights(cx: &Cx) {
    need(cx, controller_of_disks(cx));
    let fields = [
        "linux.resources.blockIO.leafWeight",
        "linux.resources.blockIO.weightDevice[].leafWeight",
    ];
    let bundle = limited(
        cx,
        "blockIO",
        json!({"leafWeight": 200, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 300}]}),
    );
    if cx.is_v2() {
        return refused(cx, &bundle, &fields);
    }
    if has(cx, &["blkio.leaf_weight"]) {
        cx.skip("this test is for kernels since 5.0");
    }
    let output = cx.try_create(&bundle).is(1);
    assert!(
        output.stderr.contains("linux.resources.blockIO.leafWeight"),
        "{output}"
    );
    cx.not_here(
        &fields,
        "no kernel since 5.0 has `blkio.leaf_weight`; asked for, it is refused by name",
    );
}

//! What `events`, `ps`, `state` and `list` print, field by field beside runc.
//!
//! One bundle is run by both runtimes under one id, each with a state root of its own, and so in one cgroup: both read the
//! same files. Paused, its counters stand still, and every number must be the same.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::cgroups::MIB;
use crate::support::{Bundle, Container, Cx, eventually, tests};

tests! {
    both events_of_one_cgroup;
    both ps_of_one_cgroup;
    both state_and_list_of_one_bundle;
}

/// runc, with a state root of its own.
fn reference(cx: &Cx) -> Cx {
    let dir = cx.dir.join("reference");
    std::fs::create_dir(&dir).unwrap();
    cx.on_runc(dir)
}

/// The same container twice: here and at runc.
fn both<'a>(cx: &'a Cx, other: &'a Cx, bundle: &Bundle) -> (Container<'a>, Container<'a>) {
    let ready = bundle.rootfs().join("mnt/ready");
    let ours = cx.start(bundle);
    eventually("the container is ready", 15, || ready.exists());
    std::fs::remove_file(&ready).unwrap();
    // runc warns that the cgroup is in use, and takes it.
    let theirs = other.start(bundle);
    eventually("runc's container is ready", 15, || ready.exists());
    (ours, theirs)
}

fn end(ours: Container<'_>, theirs: &Container<'_>) {
    theirs.kill("KILL").ok();
    theirs.wait_for("stopped");
    ours.end();
    theirs.call("delete").ok();
}

/// Every leaf by its JSON pointer; an empty object or array is a leaf.
fn leaves(value: &Value, at: &str, out: &mut BTreeMap<String, Value>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, v)| (key.clone(), v)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    if children.is_empty() {
        out.insert(at.to_owned(), value.clone());
    }
    for (key, child) in children {
        leaves(child, &format!("{at}/{key}"), out);
    }
}

/// `/pointer: ours, theirs` wherever they are not equal, but for what `explained` names by a beginning.
fn differences(ours: &Value, theirs: &Value, explained: &[&str]) -> Vec<String> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    leaves(ours, "", &mut left);
    leaves(theirs, "", &mut right);
    let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
    keys.sort();
    keys.dedup();
    let shown = |side: &BTreeMap<String, Value>, key: &str| {
        side.get(key).map_or("nothing".to_owned(), Value::to_string)
    };
    keys.into_iter()
        .filter(|key| left.get(*key) != right.get(*key))
        .filter(|key| !explained.iter().any(|beginning| key.starts_with(beginning)))
        .map(|key| format!("{key}: {}, runc {}", shown(&left, key), shown(&right, key)))
        .collect()
}

fn json_of(container: &Container<'_>, args: &[&str]) -> Value {
    let output = container.cx.call(args).ok();
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

fn has_controller(cx: &Cx, name: &str) -> bool {
    if cx.is_v2() {
        let all = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        all.split_whitespace().any(|word| word == name)
    } else {
        Path::new("/sys/fs/cgroup").join(name).exists()
    }
}

/// With every limit that the host has a controller for.
fn set_limits(cx: &Cx, bundle: &mut Bundle) {
    for (controller, pointer, limits) in [
        (
            "memory",
            "memory",
            json!({"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}),
        ),
        ("pids", "pids", json!({"limit": 42})),
        (
            "cpu",
            "cpu",
            json!({"quota": 10000, "period": 50000, "shares": 512}),
        ),
        (
            "hugetlb",
            "hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 4 * MIB}]),
        ),
    ] {
        if has_controller(cx, controller) {
            bundle.set(&format!("/linux/resources/{pointer}"), limits);
        }
    }
}

/// Time, memory, a file on a disk; then rest.
const WORK: &str = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; \
     dd if=/dev/zero of=/mnt/f bs=64k count=4 conv=fsync 2>/dev/null; \
     dd if=/dev/zero of=/dev/shm/f bs=1M count=4 2>/dev/null; \
     sleep 1000 & : >/mnt/ready; wait";

fn events_of_one_cgroup(cx: &Cx) {
    let other = reference(cx);
    for limits in [true, false] {
        let mut bundle = cx.named_bundle(if limits { "l" } else { "u" });
        bundle.sh(WORK);
        if limits {
            set_limits(cx, &mut bundle);
        }
        let (ours, theirs) = both(cx, &other, &bundle);
        ours.call("pause").ok();
        assert_eq!(theirs.status(), "paused");
        let args = ["events", "--stats", &ours.id];
        let mut explained = Vec::new();
        if cx.is_v2() {
            let reference = json_of(&theirs, &args);
            // runc looks for `hugetlb.SIZE.rsvd.events`, which no kernel has, and then shows no size at all.
            if reference["data"]["hugetlb"] == json!({}) {
                explained.push("/data/hugetlb");
            }
        }
        // The kernel sums some counters up only every two seconds.
        let mut left = Vec::new();
        let mut round = || {
            let mut reference = json_of(&theirs, &args);
            let mut own = json_of(&ours, &args);
            comparable(&mut own, &mut reference);
            left = differences(&own, &reference, &explained);
            left.is_empty()
        };
        let end_of_time = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while !round() && std::time::Instant::now() < end_of_time {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(left.is_empty(), "limits {limits}:\n{}", left.join("\n"));
        let own = json_of(&ours, &args);
        if cx.is_rundlet() {
            shape_of_explained(cx, &ours, &own);
        }
        ours.call("resume").ok();
        end(ours, &theirs);
    }
}

/// runc has pressure from 1.2 on, and lists the devices of v2 in any order.
fn comparable(own: &mut Value, reference: &mut Value) {
    if reference.pointer("/data/cpu/psi").is_none() {
        for part in ["cpu", "memory", "blkio"] {
            own["data"][part].as_object_mut().unwrap().remove("psi");
        }
    }
    for side in [own, reference] {
        for (_, list) in side["data"]["blkio"].as_object_mut().unwrap() {
            if let Some(entries) = list.as_array_mut() {
                entries.sort_by_key(Value::to_string);
            }
        }
    }
}

/// What runc does not print has the shape that a newer one prints.
fn shape_of_explained(cx: &Cx, container: &Container<'_>, event: &Value) {
    let dir = cx.cgroup_dir("memory", &container.id);
    for (file, pointer) in [
        ("cpu.pressure", "/data/cpu/psi"),
        ("memory.pressure", "/data/memory/psi"),
        ("io.pressure", "/data/blkio/psi"),
    ] {
        let psi = event.pointer(pointer);
        // Without pressure accounting the file is missing, or cannot be read.
        let counted = std::fs::read_to_string(dir.join(file)).is_ok();
        assert_eq!(psi.is_some(), counted && cx.is_v2(), "{pointer}");
        for kind in psi.iter().flat_map(|psi| [&psi["some"], &psi["full"]]) {
            for key in ["avg10", "avg60", "avg300", "total"] {
                assert!(kind[key].is_number(), "{pointer}: {kind}");
            }
        }
    }
    let sizes = event["data"]["hugetlb"].as_object().unwrap();
    for (size, counters) in sizes {
        let limit = dir.join(format!("hugetlb.{size}.max"));
        assert!(limit.exists() || !cx.is_v2(), "{size}");
        assert!(counters["failcnt"].is_u64(), "{counters}");
    }
}

fn ps_of_one_cgroup(cx: &Cx) {
    let other = reference(cx);
    let mut bundle = cx.bundle();
    bundle.sh("sleep 1000 & sleep 1001 & : >/mnt/ready; wait");
    let (ours, theirs) = both(cx, &other, &bundle);
    let print = |container: &Container<'_>, args: &[&str]| {
        let output = container.cx.call(args);
        (output.code, output.stdout)
    };
    let same = |args: &[&str]| {
        let (code, text) = print(&ours, args);
        assert_eq!((code, &text), (0, &print(&theirs, args).1), "{args:?}");
        text
    };
    let id = ours.id.as_str();
    // Six processes, in one line of JSON.
    let text = same(&["ps", "--format", "json", id]);
    let pids: Vec<i64> = serde_json::from_str(&text).unwrap();
    assert_eq!(pids.len(), 6, "{text}");
    assert_eq!(text, same(&["ps", "-f", "json", id]));
    for options in [
        &["-o", "pid,ppid,comm,args"][..],
        &["-A", "-o", "user,ppid,pid,args"],
        &["ax", "-o", "comm,pid"],
    ] {
        let args = [&["ps", id], options].concat();
        let rows = same(&args).lines().count();
        assert!(rows >= 1, "{args:?}");
    }
    // Times in the default table go on meanwhile: its title and its processes are compared.
    let columns = |container: &Container<'_>, args: &[&str]| -> (String, Vec<String>) {
        let (code, text) = print(container, args);
        assert_eq!(code, 0, "{args:?}");
        let title = text.lines().next().unwrap().to_owned();
        let at = title.split_whitespace().position(|word| word == "PID");
        let pid = |line: &str| line.split_whitespace().nth(at.unwrap()).unwrap().to_owned();
        (title, text.lines().skip(1).map(pid).collect())
    };
    for args in [&["ps", id][..], &["ps", id, "aux"], &["ps", id, "-ef"]] {
        let (title, rows) = columns(&ours, args);
        assert_eq!((title, rows.clone()), columns(&theirs, args), "{args:?}");
        assert_eq!(rows.len(), 6, "{args:?}");
    }
    // A first column with blanks in it misleads both; runc has printed the title by then.
    let args = ["ps", id, "-A", "-o", "args,pid"];
    cx.call(&args).is(1).says("unable to parse pid");
    other.call(&args).is(1).says("unable to parse pid");
    for (args, says) in [
        (&["ps", "--format", "yaml", id][..], "invalid format option"),
        (
            &["ps", id, "-A", "-o", "comm"],
            "couldn't find PID field in ps output",
        ),
    ] {
        cx.call(args).is(1).says(says);
        other.call(args).is(1).says(says);
    }
    // Both take a container that has no process any more.
    theirs.kill("KILL").ok();
    theirs.wait_for("stopped");
    ours.kill("KILL").ok();
    ours.wait_for("stopped");
    assert_eq!(same(&["ps", "--format", "json", id]), "null\n");
    ours.call("delete").ok();
    theirs.call("delete").ok();
}

fn state_and_list_of_one_bundle(cx: &Cx) {
    let other = reference(cx);
    for list in [&["list"][..], &["list", "-f", "json"], &["list", "-q"]] {
        assert_eq!(
            cx.call(list).ok().stdout,
            other.call(list).ok().stdout,
            "{list:?}"
        );
    }
    let mut bundle = cx.bundle();
    bundle.sh(": >/mnt/ready; exec sleep 1000");
    bundle.config["annotations"] = json!({"org.example/a": "1", "empty": ""});
    let (ours, theirs) = both(cx, &other, &bundle);
    // The process, the time, and the version of the specification that each runtime has in itself.
    let explained = ["/pid", "/created", "/ociVersion"];
    let compare = |status: &str| {
        let state = ["state", ours.id.as_str()];
        let (own, reference) = (json_of(&ours, &state), json_of(&theirs, &state));
        assert_eq!(own["status"], status);
        assert_eq!(
            differences(&own, &reference, &explained),
            [""; 0],
            "{status}"
        );
        let types = |value: &Value| {
            ["pid", "created", "ociVersion"].map(|key| std::mem::discriminant(&value[key]))
        };
        assert_eq!(types(&own), types(&reference));
        assert_eq!(own["pid"] == 0, reference["pid"] == 0, "{status}");

        let list = ["list", "--format", "json"];
        let (own, reference) = (json_of(&ours, &list), json_of(&theirs, &list));
        assert_eq!(
            differences(&own[0], &reference[0], &explained),
            [""; 0],
            "{status}"
        );
        assert_eq!(own.as_array().unwrap().len(), 1);
        assert_eq!(
            cx.call(&["list", "-q"]).stdout,
            other.call(&["list", "-q"]).stdout
        );

        let table = |cx: &Cx| {
            let text = cx.call(&["list"]).ok().stdout;
            let rows = text.lines().map(|line| {
                let cells: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                let starts = ["STATUS", status].map(|word| line.find(word));
                (cells, starts[0].or(starts[1]))
            });
            rows.collect::<Vec<_>>()
        };
        let (own, reference) = (table(cx), table(&other));
        // The title, then all cells but PID and CREATED.
        assert_eq!(own[0].0, reference[0].0);
        for at in [0, 2, 3, 5] {
            assert_eq!(own[1].0[at], reference[1].0[at], "{status}");
        }
        assert_eq!(own[0].1, own[1].1, "columns line up");
    };
    compare("running");
    ours.call("pause").ok();
    compare("paused");
    ours.call("resume").ok();
    theirs.kill("KILL").ok();
    theirs.wait_for("stopped");
    ours.kill("KILL").ok();
    ours.wait_for("stopped");
    compare("stopped");
    ours.call("delete").ok();
    theirs.call("delete").ok();
    // In the words engines look for.
    for cx in [cx, &other] {
        cx.call(&["state", &bundle.id]).is(1).says("does not exist");
    }
}

//! `--timings`: the phases add up to the whole, the steps stand beside them, and nothing of it without the option.

use std::path::Path;

use serde_json::Value;

use crate::support::{Cx, tests};

tests! {
    both the_phases_of_a_run_add_up_to_the_whole = "--timings is rundlet's";
    host create_start_exec_and_delete_are_timed = "--timings is rundlet's";
    host trace_events_have_a_trace_parent = "--timings is rundlet's";
    host a_file_that_cannot_be_made_fails_before_anything_is_made = "--timings is rundlet's";
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Microseconds of the spans of one process, and their names.
fn sum<'a>(timings: &'a Value, process: &str) -> (f64, Vec<&'a str>) {
    let spans = timings["spans"].as_array().unwrap();
    let own = spans.iter().filter(|span| span["process"] == process);
    own.map(|span| {
        assert!(span["begin_us"].as_f64().unwrap() >= 0.0, "{span}");
        let took = span["duration_us"].as_f64().unwrap();
        assert!(took >= 0.0, "{span}");
        (took, span["name"].as_str().unwrap())
    })
    .fold((0.0, Vec::new()), |(sum, mut names), (took, name)| {
        names.push(name);
        (sum + took, names)
    })
}

fn the_phases_of_a_run_add_up_to_the_whole(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/bin/true"]);
    bundle.write();
    let file = cx.dir.join("timings.json");
    let begin = std::time::Instant::now();
    cx.call(&[
        "--timings",
        file.to_str().unwrap(),
        "run",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ])
    .ok();
    let wall = begin.elapsed().as_secs_f64() * 1e6;
    let timings = read(&file);
    assert_eq!(timings["command"], "run");
    let total = timings["total_us"].as_f64().unwrap();
    assert!(total <= wall, "{total} of {wall} us: {timings}");
    let (phases, names) = sum(&timings, "runtime");
    assert!(
        (phases - total).abs() <= total * 0.05,
        "{phases} of {total}"
    );
    for name in [
        "protect",
        "config.json",
        "cgroup",
        "clone",
        "wait for init",
        "container",
        "removal",
    ] {
        assert!(names.contains(&name), "no `{name}` in {names:?}");
    }
    // One after the other as well, from its birth to its program.
    let (steps, names) = sum(&timings, "init");
    let spans = timings["spans"].as_array().unwrap();
    let of_init = spans.iter().filter(|span| span["process"] == "init");
    let edges = of_init.map(|span| {
        let begin = span["begin_us"].as_f64().unwrap();
        (begin, begin + span["duration_us"].as_f64().unwrap())
    });
    let (first, last) = edges.fold((f64::MAX, 0.0_f64), |(first, last), (begin, end)| {
        (first.min(begin), last.max(end))
    });
    let whole = last - first;
    assert!((steps - whole).abs() <= whole * 0.05, "{steps} of {whole}");
    for name in [
        "session",
        "rootfs",
        "pivot",
        "user and capabilities",
        "start",
        "exec",
    ] {
        assert!(names.contains(&name), "no `{name}` in {names:?}");
    }
}

fn create_start_exec_and_delete_are_timed(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let file = cx.dir.join("timings.json");
    let id = bundle.id.as_str();
    for (words, process) in [
        (vec!["create", "--bundle", path, id], Some("init")),
        (vec!["start", id], None),
        (vec!["exec", id, "/bin/true"], Some("stage")),
        (vec!["delete", "--force", id], None),
    ] {
        let mut line = vec!["--timings", file.to_str().unwrap()];
        line.extend(&words);
        cx.call(&line).ok();
        let timings = read(&file);
        assert_eq!(timings["command"], words[0]);
        let (phases, _) = sum(&timings, "runtime");
        let total = timings["total_us"].as_f64().unwrap();
        assert!(
            (phases - total).abs() <= total * 0.05,
            "{words:?}: {timings}"
        );
        if let Some(process) = process {
            assert!(!sum(&timings, process).1.is_empty(), "{words:?}: {timings}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}

fn trace_events_have_a_trace_parent(cx: &Cx) {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let file = cx.dir.join("out.trace");
    let mut command = cx.command(&["list"]);
    command
        .env("RUNDLET_TIMINGS", &file)
        .env("TRACEPARENT", parent);
    cx.spawn(command).wait().ok();
    let trace = read(&file);
    assert_eq!(trace["otherData"]["traceparent"], parent);
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(!events.is_empty(), "{trace}");
    for event in events {
        assert_eq!(event["ph"], "X", "{event}");
        assert!(
            event["ts"].is_number() && event["dur"].is_number(),
            "{event}"
        );
    }
    let refused = cx.call(&["--timings", "x", "--timings-format", "xml", "list"]);
    refused.is(1).says("invalid timings-format: xml");
}

fn a_file_that_cannot_be_made_fails_before_anything_is_made(cx: &Cx) {
    let bundle = cx.bundle();
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let refused = cx.call(&[
        "--timings",
        "/none/there",
        "create",
        "--bundle",
        path,
        &bundle.id,
    ]);
    refused
        .is(1)
        .says("--timings: make `/none/there`: no such file or directory");
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

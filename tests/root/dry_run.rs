//! `create --dry-run`: nothing is made, and what it tells is what `create` then does.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bundle, Cx, tests};

tests! {
    both nothing_is_made = "runc has no such flag";
    both the_plan_is_what_happens = "runc has no such flag";
    host mistakes_are_those_of_create = "runc has no such flag";
}

fn plan(cx: &Cx, bundle: &Bundle) -> Vec<Value> {
    bundle.write();
    let args = [
        "create",
        "--dry-run",
        "--format",
        "json",
        "--bundle",
        bundle.path.to_str().unwrap(),
        &bundle.id,
    ];
    serde_json::from_str(&cx.call(&args).ok().stdout).unwrap()
}

fn nothing_is_made(cx: &Cx) {
    let mut bundle = cx.bundle();
    let mark = cx.dir.join("hook-ran");
    bundle.set(
        "/hooks",
        json!({"createRuntime": [{"path": "/bin/touch", "args": ["touch", mark]}]}),
    );
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let actions = plan(cx, &bundle);
    assert!(actions.len() > 30, "{}", actions.len());
    let text = cx
        .call(&[
            "create",
            "--dry-run",
            "--bundle",
            bundle.path.to_str().unwrap(),
            &bundle.id,
        ])
        .ok();
    assert_eq!(text.stdout.lines().count(), actions.len());
    assert!(
        text.stdout
            .contains("hooks: run the createRuntime hook `/bin/touch`\n"),
        "{text}"
    );
    assert!(!cx.root().exists() && !mark.exists());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    cx.call(&["state", &bundle.id]).is(1).says("does not exist");
}

fn the_plan_is_what_happens(cx: &Cx) {
    let mut bundle = cx.bundle();
    fs::create_dir(cx.dir.join("volume")).unwrap();
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    bundle.bind(&cx.dir.join("volume"), "/data", &["ro", "nosuid", "noexec"]);
    bundle.set(
        "/linux/maskedPaths",
        json!(["/proc/version", "/proc/no-such-file", "/sys/fs"]),
    );
    bundle.set("/process/oomScoreAdj", json!(500));
    bundle.set("/hostname", json!("dry"));
    bundle.args(&["sleep", "1000"]);
    let actions = plan(cx, &bundle);
    let container = cx.start(&bundle);
    let pid = container.pid();
    let mounted = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let options = |path: &str| {
        let lines: Vec<Vec<&str>> = mounted
            .lines()
            .map(|line| line.split(' ').collect())
            .collect();
        lines
            .iter()
            .rev()
            .find(|line| line[4] == path)
            .map(|line| line[5].to_owned())
    };
    let mut mounts = 0;
    for action in actions
        .iter()
        .filter(|action| action["detail"]["destination"].is_string())
    {
        let path = action["detail"]["destination"].as_str().unwrap();
        let real = options(path).unwrap_or_else(|| panic!("{path} is not mounted: {mounted}"));
        for flag in action["detail"]["flags"].as_array().unwrap() {
            let flag = flag.as_str().unwrap();
            if ["ro", "nosuid", "nodev", "noexec", "relatime"].contains(&flag) {
                assert!(
                    real.split(',').any(|word| word == flag),
                    "{path}: {flag} in {real}"
                );
            }
        }
        mounts += 1;
    }
    assert_eq!(mounts, bundle.config["mounts"].as_array().unwrap().len());
    let masks: Vec<&str> = actions
        .iter()
        .filter(|action| action["detail"]["what"] == "mask")
        .map(|action| action["detail"]["path"].as_str().unwrap())
        .collect();
    assert_eq!(masks, ["/proc/version", "/proc/no-such-file", "/sys/fs"]);
    assert!(options("/proc/version").is_some() && options("/proc/no-such-file").is_none());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bounding = actions
        .iter()
        .find(|action| action["detail"]["set"] == "bounding")
        .unwrap();
    let named = bounding["detail"]["capabilities"]
        .as_str()
        .unwrap()
        .split(", ")
        .count();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    assert_eq!(
        u64::from_str_radix(mask, 16).unwrap().count_ones() as usize,
        named
    );
    for step in [
        "state",
        "cgroup",
        "clone",
        "rootfs",
        "pivot",
        "host name",
        "start",
    ] {
        assert!(
            actions.iter().any(|action| action["step"] == step),
            "{step}"
        );
    }
    container.end();
}

fn mistakes_are_those_of_create(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/rootfsPropagation", json!("sometimes"));
    bundle.write();
    let path = bundle.path.to_str().unwrap();
    let real = cx.call(&["create", "--bundle", path, &bundle.id]).is(1);
    let dry = cx
        .call(&["create", "--dry-run", "--bundle", path, &bundle.id])
        .is(1);
    let words = |text: &str| text.split("msg=").nth(1).unwrap().to_owned();
    assert_eq!(words(&real.stderr), words(&dry.stderr));
    let good = cx.named_bundle("good");
    good.write();
    let path = good.path.to_str().unwrap();
    let args = [
        "create",
        "--dry-run",
        "--format",
        "xml",
        "--bundle",
        path,
        &good.id,
    ];
    cx.call(&args).is(1).says("invalid format option `xml`");
}

//! NUMA memory policy and personality, of the container's program and of exec.

use serde_json::json;

use crate::support::{Cx, tests};

tests! {
    both each_mode_on_one_node = "runc 1.1 does not know the field";
    host exec_has_it_too = "runc 1.1 does not know the field";
    host nodes_that_are_not_there = "runc 1.1 does not know the field";
    host what_does_not_fit_together_is_refused = "runc 1.1 does not know the field";
    host exec_has_the_personality = "runc 1.1 does not know the field";
}

/// The policy of the shell's first mapping that says one.
const POLICY: &str = "head -n 1 /proc/self/numa_maps | cut -d' ' -f2-3";

fn needs_numa(cx: &Cx) {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        cx.skip("a kernel without NUMA");
    }
}

fn each_mode_on_one_node(cx: &Cx) {
    needs_numa(cx);
    let mut bundle = cx.script(POLICY);
    for (policy, wanted) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "bind=static:0",
        ),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED"}), "local"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (
            json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}),
            "prefer (many):0",
        ),
        (
            json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}),
            "weighted interleave:0",
        ),
    ] {
        bundle.set("/linux/memoryPolicy", policy);
        let output = cx.run(&bundle).ok();
        assert!(output.text().starts_with(wanted), "{wanted}: {output}");
    }
}

fn exec_has_it_too(cx: &Cx) {
    needs_numa(cx);
    let mut bundle = cx.bundle();
    bundle.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "0"}),
    );
    let container = cx.start(&bundle);
    let output = container.exec_sh(POLICY).ok();
    assert!(output.text().starts_with("bind:0"), "{output}");
    container.end();
}

fn nodes_that_are_not_there(cx: &Cx) {
    needs_numa(cx);
    let mut bundle = cx.script("true");
    let policy = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    bundle.set("/linux/memoryPolicy", policy);
    cx.run(&bundle)
        .is(1)
        .says("linux.memoryPolicy: set MPOL_BIND (")
        .says("invalid argument");
}

fn what_does_not_fit_together_is_refused(cx: &Cx) {
    let mut bundle = cx.script("true");
    for (policy, field) in [
        (json!({"mode": "MPOL_BIND"}), "nodes: "),
        (json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "nodes: "),
        (json!({"mode": "MPOL_BIND", "nodes": "0-"}), "nodes: "),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
            "flags: ",
        ),
        (json!({"mode": "MPOL_NEVER"}), "mode: "),
    ] {
        bundle.set("/linux/memoryPolicy", policy);
        cx.run(&bundle)
            .is(1)
            .says(&format!("linux.memoryPolicy.{field}"));
    }
}

fn exec_has_the_personality(cx: &Cx) {
    let mut bundle = cx.bundle();
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let container = cx.start(&bundle);
    container
        .exec(&["cat", "/proc/self/personality"])
        .ok()
        .prints("00000008");
    container.end();
}

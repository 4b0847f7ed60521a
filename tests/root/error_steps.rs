//! The `step` of an error in the JSON log: every error has one, whether it is the runtime's own or comes from the container's
//! process. The text, which engines match, has nothing of it.

use serde_json::{Value, json};

use crate::support::stuck::Server;
use crate::support::{Bundle, Cx, eventually, tests};

tests! {
    host errors_of_create_have_their_step = "`step` is rundlet's";
    host errors_of_start_and_run_have_their_step = "`step` is rundlet's";
    host errors_of_exec_have_their_step = "`step` is rundlet's";
    both errors_of_delete_have_their_step = "`step` is rundlet's";
    host a_wrong_command_line_has_its_step = "`step` is rundlet's";
    host the_text_has_no_step_of_the_runtime = "the wording is rundlet's";
}

/// The step that the JSON log names.
#[track_caller]
fn step(cx: &Cx, args: &[&str]) -> String {
    let log = cx.dir.join("log.json");
    let _ = std::fs::remove_file(&log);
    let mut all = vec!["--log", log.to_str().unwrap(), "--log-format", "json"];
    all.extend(args);
    let output = cx.call(&all);
    assert_ne!(output.code, 0, "{output}");
    let text = std::fs::read_to_string(&log).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["level"], "error", "{text}");
    record["step"].as_str().expect(&text).to_owned()
}

#[track_caller]
fn step_of_create(cx: &Cx, flags: &[&str], edit: impl FnOnce(&mut Bundle)) -> String {
    let _ = std::fs::remove_dir_all(cx.dir.join("bundle-c"));
    let mut bundle = cx.bundle();
    edit(&mut bundle);
    bundle.write();
    let mut args = vec!["create", "--bundle", bundle.path.to_str().unwrap()];
    args.extend(flags);
    args.push(&bundle.id);
    step(cx, &args)
}

fn errors_of_create_have_their_step(cx: &Cx) {
    let create = |edit: fn(&mut Bundle)| step_of_create(cx, &[], edit);
    let config = create(|bundle| bundle.set("/process/args", json!("sh")));
    assert_eq!(config, "config.json");
    let plan = create(|bundle| bundle.mount("", "tmpfs", "tmpfs", &[]));
    assert_eq!(plan, "plan");
    let console = create(|bundle| bundle.set("/process/terminal", json!(true)));
    assert_eq!(console, "console");
    let namespaces = create(|bundle| {
        bundle.without_namespace("ipc");
        let gone = json!({"type": "ipc", "path": "/no/such/ns"});
        bundle.push("/linux/namespaces", gone);
    });
    assert_eq!(namespaces, "namespaces and sources");
    let rootfs = create(|bundle| bundle.set("/root/path", json!("nowhere")));
    assert_eq!(rootfs, "rootfs");
    let hook = json!([{"path": "/bin/false"}]);
    let hooks = step_of_create(cx, &[], |bundle| bundle.set("/hooks/createRuntime", hook));
    assert_eq!(hooks, "wait for init");
    let bundle = step(cx, &["create", "--bundle", "/no/such/bundle", &cx.id("c")]);
    assert_eq!(bundle, "command line");
    let container = cx.start(&cx.named_bundle("other"));
    let shared = json!(format!(
        "/{}/{}",
        crate::support::CGROUP_PARENT,
        container.id
    ));
    let cgroup = step_of_create(cx, &[], |bundle| bundle.set("/linux/cgroupsPath", shared));
    assert_eq!(cgroup, "cgroup");
    let path = cx.dir.join("bundle-other");
    let args = ["create", "--bundle", path.to_str().unwrap(), &container.id];
    assert_eq!(step(cx, &args), "state directory");
    container.end();
}

fn errors_of_start_and_run_have_their_step(cx: &Cx) {
    let id = cx.id("c");
    assert_eq!(step(cx, &["start", &id]), "state");
    let mut bundle = cx.bundle();
    bundle.set("/hooks/poststart", json!([{"path": "/bin/false"}]));
    let container = cx.create(&bundle);
    assert_eq!(step(cx, &["start", &id]), "poststart hooks");
    container.wait_for("stopped");
    assert_eq!(step(cx, &["start", &id]), "state");
    container.call("delete").ok();
    // The removal that follows is another's step.
    let path = bundle.path.to_str().unwrap().to_owned();
    assert_eq!(
        step(cx, &["run", "--bundle", &path, &id]),
        "poststart hooks"
    );
    cx.call(&["state", &id]).is(1).says("does not exist");
    bundle.set("/hooks", json!({}));
    bundle.args(&["nosuchprogram"]);
    bundle.write();
    assert_eq!(step(cx, &["run", "--bundle", &path, &id]), "program");
}

fn errors_of_exec_have_their_step(cx: &Cx) {
    let container = cx.sleeper();
    let id = container.id.as_str();
    assert_eq!(step(cx, &["exec", &cx.id("none"), "true"]), "state");
    let capability = ["exec", "--cap", "CAP_FLY", id, "true"];
    assert_eq!(step(cx, &capability), "plan");
    assert_eq!(step(cx, &["exec", id, "nosuchprogram"]), "program");
    let descriptors = ["exec", "--preserve-fds", "40", id, "true"];
    assert_eq!(step(cx, &descriptors), "command line");
    container.call("pause").ok();
    assert_eq!(step(cx, &["exec", id, "true"]), "state");
    assert_eq!(step(cx, &["pause", id]), "freezer");
    container.call("resume").ok();
    assert_eq!(step(cx, &["resume", id]), "freezer");
    container.end();
    assert_eq!(step(cx, &["state", &cx.id("none")]), "state");
}

fn errors_of_delete_have_their_step(cx: &Cx) {
    let server = Server::mount(cx);
    let mut bundle = cx.script("cat /mnt/stuck");
    bundle.bind(&server.dir, "/mnt", &[]);
    let container = cx.start(&bundle);
    let id = container.id.as_str();
    eventually("cat waits for the server", 15, || server.is_waiting());
    assert_eq!(step(cx, &["delete", id]), "state");
    let force = ["delete", "--force", "--timeout", "200ms", id];
    assert_eq!(step(cx, &force), "kill");
    server.answer();
    cx.call(&["delete", "--force", id]).ok();
    assert_eq!(step(cx, &["delete", id]), "state");
    server.end();
}

fn a_wrong_command_line_has_its_step(cx: &Cx) {
    for args in [
        &["creat"][..],
        &["create"],
        &["create", "--nosuch", "x"],
        &["create", "--preserve-fds", "some", "x"],
        &["start", "a", "b"],
        &["delete", "--timeout", "x", "a"],
        &["exec", "a"],
    ] {
        assert_eq!(step(cx, args), "command line", "{args:?}");
    }
}

fn the_text_has_no_step_of_the_runtime(cx: &Cx) {
    let id = cx.id("none");
    let log = cx.dir.join("log");
    let output = cx
        .call(&["--log", log.to_str().unwrap(), "start", &id])
        .is(1);
    let output = output.says(&format!("container `{id}` does not exist (hint: "));
    let message = output.stderr.trim_end();
    let text = std::fs::read_to_string(&log).unwrap();
    let line = format!("Z\" level=error msg=\"{message}\"\n");
    assert!(
        text.starts_with("time=\"") && text.ends_with(&line),
        "{text}"
    );
}

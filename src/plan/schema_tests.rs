//! The runtime-spec's schema and its examples against the loader and the plan: what is valid is accepted, what is not is
//! refused with its JSON path. Every field of the schema is tried, none is picked by hand.

use std::path::Path;

use anyhow::Result;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::spec::validate::HostFacts;
use crate::spec::{check_config, parse_config};
use crate::testing::runtime_spec::{Field, Kind, Schema, documents, find};

/// The loader, on a host that has all there is.
fn load(text: &[u8]) -> Result<Spec> {
    let facts = HostFacts {
        apparmor: true,
        selinux: true,
        joined_network_is_own: false,
    };
    let path = Path::new("config.json");
    let spec = parse_config(text, path)?;
    check_config(&spec, path, facts)?;
    Ok(spec)
}

/// What `create` makes of a document before it does anything.
fn plan(document: &Value) -> Result<()> {
    let spec = load(document.to_string().as_bytes())?;
    let options = super::Options::default();
    super::build(&spec, "id", Path::new("/bundle"), &options).map(drop)
}

/// The refusal of a document, less the file's name; empty where it is accepted.
fn refusal(document: &Value) -> String {
    let text = plan(document)
        .err()
        .map_or(String::new(), |error| format!("{error:#}"));
    text.strip_prefix("config.json: ")
        .unwrap_or(&text)
        .to_owned()
}

#[test]
fn valid_examples_are_accepted() {
    for (directory, beginning) in [("good", ""), ("own", "good"), ("own", "every-field")] {
        for (name, text) in documents(directory, beginning) {
            if let Err(error) = load(&text) {
                panic!("{directory}/{name}: {error:#}");
            }
        }
    }
}

#[test]
fn invalid_examples_are_refused_with_their_path() {
    let paths = [
        ("invalid-json.json", "parse `config.json`"),
        (
            "linux-hugepage.json",
            "linux.resources.hugepageLimits[0].pageSize: ",
        ),
        (
            "linux-rdma.json",
            "linux.resources.rdma.mlx5_1.hcaHandles: ",
        ),
        (
            "bad-memory-policy-flag.json",
            "linux.memoryPolicy.flags[0]: ",
        ),
        ("bad-memory-policy-mode.json", "linux.memoryPolicy.mode: "),
        ("bad-net-device.json", "linux.netDevices.eth0.name: "),
        (
            "bad-rdt-monitoring.json",
            "linux.intelRdt.enableMonitoring: ",
        ),
        ("bad-rdt-schemata.json", "linux.intelRdt.schemata: "),
    ];
    let mut all = documents("bad", "");
    all.extend(documents("own", "bad"));
    assert_eq!(all.len(), paths.len());
    for (name, text) in all {
        let start = paths.iter().find(|(file, _)| *file == name).unwrap().1;
        let refused = match serde_json::from_slice::<Value>(&text) {
            Ok(mut document) => {
                // The examples are about one field each; without a process nothing else would be looked at.
                document["process"] = json!({"cwd": "/", "args": ["sh"], "user": {}});
                refusal(&document)
            }
            Err(_) => format!("{:#}", load(&text).unwrap_err()),
        };
        assert!(refused.starts_with(start), "{name}: `{refused}`");
    }
}

fn every_field() -> Vec<Value> {
    documents("own", "every-field")
        .iter()
        .map(|(_, text)| serde_json::from_slice(text).unwrap())
        .collect()
}

/// The document among those of `every_field` that has the field.
fn with(path: &str) -> Option<Value> {
    every_field()
        .into_iter()
        .find(|document| find(&mut document.clone(), path).is_some())
}

#[test]
fn the_documents_set_every_field_and_can_be_carried_out() {
    let (fields, _) = Schema::load().config();
    assert!(fields.len() > 180, "{} fields", fields.len());
    let missing: Vec<&str> = fields
        .iter()
        .map(|field| field.path.as_str())
        .filter(|path| with(path).is_none())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for document in every_field() {
        assert_eq!(refusal(&document), "");
    }
}

/// What the schema does not allow in this place.
fn wrong_values(field: &Field) -> Vec<Value> {
    let schema = &field.schema;
    let mut wrong = match schema["type"].as_str() {
        Some("string") => vec![json!(7), json!({})],
        Some("boolean") => vec![json!(1), json!("true")],
        Some("integer") => vec![json!("1"), json!(1.5)],
        _ => vec![],
    };
    if schema.get("enum").is_some() {
        wrong.push(json!("NONE_OF_THEM"));
    }
    if schema.get("pattern").is_some() {
        wrong.push(json!("!"));
    }
    for (bound, step) in [("minimum", -1), ("maximum", 1)] {
        let beyond = schema.get(bound).and_then(Value::as_i64);
        wrong.extend(
            beyond
                .and_then(|limit| limit.checked_add(step))
                .map(|value| json!(value)),
        );
    }
    match field.kind {
        Kind::Plain => wrong,
        Kind::List => [json!(7), json!({})]
            .into_iter()
            .chain(wrong.into_iter().map(|item| json!([item])))
            .collect(),
        Kind::Map => [json!(7), json!([])]
            .into_iter()
            .chain(wrong.into_iter().map(|item| json!({"kernel.msgmax": item})))
            .collect(),
    }
}

/// Fields of other platforms, which are tolerated whatever they hold.
const FOREIGN: [&str; 5] = ["windows", "solaris", "vm", "zos", "freebsd"];

/// Where the schema is narrower than the kernel, and the specification's text and runc go with the kernel.
const WIDER: [(&str, &str); 1] = [
    // The schema's limit is 01000; mknod(2) knows 07777.
    ("linux.devices[].fileMode", "513"),
];

/// oci_spec judges these as a whole, after the last of their keys was read.
const WHOLE_OBJECTS: [(&str, &str); 1] = [(
    "process.execCPUAffinity.initial",
    "process.execCPUAffinity: Invalid execCPUAffinity format: !",
)];

#[test]
fn a_wrong_value_is_refused_with_its_path() {
    let (fields, _) = Schema::load().config();
    let mut faults = Vec::new();
    let mut tried = 0;
    for field in fields {
        if FOREIGN.contains(&field.path.as_str()) {
            continue;
        }
        for value in wrong_values(&field) {
            let Some(mut document) = with(&field.path) else {
                panic!("no document has {}", field.path);
            };
            let (at, path) = find(&mut document, &field.path).unwrap();
            let text = value.to_string();
            if WIDER.contains(&(field.path.as_str(), text.as_str())) {
                continue;
            }
            *at = value;
            tried += 1;
            let refused = refusal(&document);
            let object = WHOLE_OBJECTS.iter().find(|(field, _)| *field == path);
            let coarse = object.is_some_and(|(_, text)| refused == *text);
            if !(refused.starts_with(&path) || coarse) {
                faults.push(format!("{path} = {text}: `{refused}`"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {tried}:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn a_missing_field_is_refused_with_its_path() {
    let (_, objects) = Schema::load().config();
    let mut faults = Vec::new();
    for object in objects {
        for key in &object.required {
            let path = format!("{}.{key}", object.path);
            let path = path.trim_start_matches('.');
            let mut document = with(path).unwrap();
            let (parent, at) = find(&mut document, &object.path).unwrap();
            parent.as_object_mut().unwrap().remove(key);
            let refused = refusal(&document);
            if !(refused.starts_with(&at) && refused.contains(key.as_str())) {
                faults.push(format!("{path}: `{refused}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

/// Not required by the schema, but by the text or by what it belongs to.
const NEEDED: [(&str, &str); 10] = [
    (
        "linux.memoryPolicy.nodes",
        "linux.memoryPolicy.nodes: MPOL_BIND needs at least one node",
    ),
    (
        "linux.personality.domain",
        "linux.personality: missing field `domain`",
    ),
    (
        "linux.resources.devices[].access",
        "linux.resources.devices[0]: access: must not be empty",
    ),
    (
        "linux.seccomp.listenerPath",
        "linux.seccomp.listenerMetadata: linux.seccomp.listenerPath is not set",
    ),
    (
        "mounts[].source",
        "mounts[0].source: a bind mount needs one",
    ),
    ("process", "process: is required"),
    ("process.args", "process.args: must not be empty"),
    (
        "process.scheduler.deadline",
        "process.scheduler.runtime: SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period (given: 10000000, 0, 30000000)",
    ),
    (
        "process.scheduler.runtime",
        "process.scheduler.runtime: SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period (given: 0, 20000000, 30000000)",
    ),
    ("root", "root: is required"),
];

#[test]
fn what_is_optional_may_be_missing() {
    let (fields, objects) = Schema::load().config();
    let required = |path: &str| {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let object = objects.iter().find(|object| object.path == parent);
        object.is_some_and(|object| object.required.iter().any(|word| word == key))
    };
    let all = fields.iter().map(|field| &field.path);
    let all = all.chain(objects.iter().map(|object| &object.path));
    let mut faults = Vec::new();
    for path in
        all.filter(|path| !path.is_empty() && !path.ends_with([']', '*']) && !required(path))
    {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut document = with(path).unwrap();
        let (object, _) = find(&mut document, parent).unwrap();
        object.as_object_mut().unwrap().remove(key);
        let refused = refusal(&document);
        let needed = NEEDED.iter().find(|(field, _)| field == path);
        if refused != needed.map_or("", |(_, reason)| reason) {
            faults.push(format!("{path}: `{refused}`"));
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn an_object_of_another_kind_is_refused_with_its_path() {
    let (_, objects) = Schema::load().config();
    let mut faults = Vec::new();
    for object in objects.iter().filter(|object| !object.path.is_empty()) {
        for value in [json!(7), json!("x")] {
            let mut document = with(&object.path).unwrap_or_default();
            let Some((at, path)) = find(&mut document, &object.path) else {
                panic!("no document has {}", object.path);
            };
            *at = value;
            let refused = refusal(&document);
            if !refused.starts_with(&path) {
                faults.push(format!("{path}: `{refused}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

//! The runtime-spec's JSON schema as a list of fields. Reads `tests/fixtures/runtime-spec`; used by the tests of the loader
//! (`src/spec`), of `features`, and of `conformance/fields.md`, so that none of them can leave a field out.

// Each of its users needs another part.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// A value that a document can have.
#[derive(Clone, Debug)]
pub struct Field {
    /// `linux.devices[].major`, `linux.netDevices.*.name`. A list or map of plain values is one field.
    pub path: String,
    /// Its schema, or that of its items where it is a list or map.
    pub schema: Value,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    List,
    Map,
}

/// An object that a document can have, with the keys it must have.
#[derive(Clone, Debug)]
pub struct Object {
    pub path: String,
    pub required: Vec<String>,
}

pub struct Schema {
    files: BTreeMap<String, Value>,
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/runtime-spec")
        .join(name)
}

/// The documents of a directory of the fixture whose names begin so, by name.
pub fn documents(directory: &str, beginning: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(fixture(directory))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.starts_with(beginning))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{directory} has no {beginning}*");
    found
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Schema {
    /// Of runtime-spec 1.3.
    pub fn load() -> Schema {
        let read =
            |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
        let mut files: BTreeMap<String, Value> = fs::read_dir(fixture("schema"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), read(entry.path())))
            .collect();
        let added = read(fixture("added-in-1.3.json"));
        for (name, patch) in added.as_object().unwrap() {
            merge(files.get_mut(name).unwrap(), patch);
        }
        Schema { files }
    }

    /// Every field of config.json, in the schema's order. Another platform's object is one field.
    pub fn config(&self) -> (Vec<Field>, Vec<Object>) {
        self.walk("config-schema.json")
    }

    /// Every field of what `features` prints.
    pub fn features(&self) -> (Vec<Field>, Vec<Object>) {
        self.walk("features-schema.json")
    }

    fn walk(&self, file: &str) -> (Vec<Field>, Vec<Object>) {
        let mut walk = Walk {
            schema: self,
            fields: Vec::new(),
            objects: Vec::new(),
        };
        walk.node(file, &self.files[file], "");
        (walk.fields, walk.objects)
    }

    /// Follows `$ref`s, and makes one of an `allOf` or a lone `anyOf`. With the file it was found in.
    fn resolve(&self, file: &str, node: &Value) -> Option<(String, Value)> {
        if let Some(target) = node.get("$ref").and_then(Value::as_str) {
            let (name, pointer) = target.split_once('#').unwrap();
            let name = if name.is_empty() { file } else { name };
            // The other platforms' schemas are not here: their objects are tolerated, not carried out.
            let found = self.files.get(name)?.pointer(pointer).unwrap();
            return self.resolve(name, found);
        }
        if let Some(parts) = node.get("allOf").and_then(Value::as_array) {
            let mut whole = Value::Null;
            for part in parts {
                merge(&mut whole, &self.resolve(file, part)?.1);
            }
            return Some((file.to_owned(), whole));
        }
        match node.get("anyOf").and_then(Value::as_array) {
            Some(parts) => self.resolve(file, &parts[0]),
            None => Some((file.to_owned(), node.clone())),
        }
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    fields: Vec<Field>,
    objects: Vec<Object>,
}

impl Walk<'_> {
    fn node(&mut self, file: &str, node: &Value, path: &str) {
        let Some((file, node)) = self.schema.resolve(file, node) else {
            return self.field(path, Value::Null, Kind::Plain);
        };
        if let Some(properties) = node.get("properties").and_then(Value::as_object) {
            self.objects.push(Object {
                path: path.to_owned(),
                required: words(node.get("required")),
            });
            for (key, value) in properties {
                let dot = if path.is_empty() { "" } else { "." };
                self.node(&file, value, &format!("{path}{dot}{key}"));
            }
        } else if let Some(items) = node.get("items") {
            self.several(&file, items, path, Kind::List);
        } else if let Some(values) = node
            .get("additionalProperties")
            .or_else(|| node.get("patternProperties")?.as_object()?.values().next())
        {
            self.several(&file, values, path, Kind::Map);
        } else {
            self.field(path, node, Kind::Plain);
        }
    }

    fn several(&mut self, file: &str, items: &Value, path: &str, kind: Kind) {
        let (_, item) = self.schema.resolve(file, items).unwrap();
        if item.get("properties").is_some() {
            let each = if kind == Kind::List { "[]" } else { ".*" };
            self.node(file, items, &format!("{path}{each}"));
        } else {
            self.field(path, item, kind);
        }
    }

    fn field(&mut self, path: &str, schema: Value, kind: Kind) {
        self.fields.push(Field {
            path: path.to_owned(),
            schema,
            kind,
        });
    }
}

pub fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// A step of a field's path.
#[derive(Clone, Debug)]
pub enum Step {
    Key(String),
    /// The first of a list or map.
    First,
}

pub fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        match part.strip_suffix("[]") {
            Some(key) => steps.extend([Step::Key(key.to_owned()), Step::First]),
            None if part == "*" => steps.push(Step::First),
            None => steps.push(Step::Key(part.to_owned())),
        }
    }
    steps
}

/// The value of a field in a document, and its path there (`linux.devices[0].major`).
pub fn find<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut at = document;
    let mut name = String::new();
    for step in steps(path) {
        match (step, at) {
            (Step::Key(key), Value::Object(map)) => {
                let dot = if name.is_empty() { "" } else { "." };
                name = format!("{name}{dot}{key}");
                at = map.get_mut(&key)?;
            }
            (Step::First, Value::Object(map)) => {
                let (key, value) = map.iter_mut().next()?;
                name = format!("{name}.{key}");
                at = value;
            }
            (Step::First, Value::Array(list)) => {
                name.push_str("[0]");
                at = list.first_mut()?;
            }
            _ => return None,
        }
    }
    Some((at, name))
}

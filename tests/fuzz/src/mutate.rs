//! Changes JSON as a tree: members of the corpora's documents are put where members of that name stand, numbers and strings
//! become odd ones. What libFuzzer's own changes of bytes would break stays JSON, so that the fuzzer gets behind the parser.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::seccomp::random::Random;

/// Members by the name of the one that they are in: of `/linux/resources/cpu` the names `cpu` has.
type Pool = BTreeMap<String, Vec<(String, Value)>>;

/// Below the directory that `RUNDLET_FUZZ_POOL` names.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut pool = Pool::new();
        let directory = std::env::var("RUNDLET_FUZZ_POOL").unwrap_or_default();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            if let Ok(document) = serde_json::from_slice(&text) {
                collect("", &document, &mut pool);
            }
        }
        for members in pool.values_mut() {
            members.sort_by_key(|(name, value)| (name.clone(), value.to_string()));
            members.dedup();
        }
        pool
    })
}

fn collect(name: &str, value: &Value, pool: &mut Pool) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let known = pool.entry(name.to_owned()).or_default();
                known.push((key.clone(), value.clone()));
                collect(key, value, pool);
            }
        }
        Value::Array(list) => {
            for value in list {
                let known = pool.entry(format!("{name}[]")).or_default();
                known.push((String::new(), value.clone()));
                collect(name, value, pool);
            }
        }
        _ => {}
    }
}

/// `None` where the text is no JSON or has become too long.
pub(crate) fn json(text: &[u8], longest: usize, seed: u32) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(text).ok()?;
    let mut random = Random(u64::from(seed) << 8 | 1);
    for _ in 0..=random.below(3) {
        let count = count(&document);
        let mut at = random.below(count);
        change("", &mut document, &mut at, &mut random);
    }
    let out = serde_json::to_vec(&document).ok()?;
    (out.len() <= longest).then_some(out)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(list) => list.iter().map(count).sum(),
        _ => 0usize,
    }
}

/// Changes the value that is number `at`, counted as they stand.
fn change(name: &str, value: &mut Value, at: &mut usize, random: &mut Random) -> bool {
    if *at == 0 {
        one(name, value, random);
        return true;
    }
    *at -= 1;
    match value {
        Value::Object(members) => members
            .iter_mut()
            .any(|(key, value)| change(&key.clone(), value, at, random)),
        Value::Array(list) => list.iter_mut().any(|value| change(name, value, at, random)),
        _ => false,
    }
}

fn one(name: &str, value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(members) => object(name, members, random),
        Value::Array(list) => array(name, list, random),
        _ => *value = scalar(value, random),
    }
    if random.below(40) == 0 {
        *value = odd(random);
    }
}

fn object(name: &str, members: &mut Map<String, Value>, random: &mut Random) {
    let keys: Vec<String> = members.keys().cloned().collect();
    match random.below(8) {
        0 if !keys.is_empty() => drop(members.remove(&keys[random.below(keys.len())])),
        1 if !keys.is_empty() => {
            let value = members.remove(&keys[random.below(keys.len())]);
            members.insert(text(random), value.unwrap_or_default());
        }
        2 => drop(members.insert(text(random), odd(random))),
        _ => {
            if let Some(known) = pool().get(name) {
                let (key, value) = &known[random.below(known.len())];
                members.insert(key.clone(), value.clone());
            }
        }
    }
}

fn array(name: &str, list: &mut Vec<Value>, random: &mut Random) {
    let at = random.below(list.len() + 1);
    match random.below(6) {
        0 if at < list.len() => drop(list.remove(at)),
        1 if at < list.len() => list.insert(at, list[at].clone()),
        2 => list.insert(at, odd(random)),
        3 if at < list.len() => {
            let other = random.below(list.len());
            list.swap(at, other);
        }
        _ => {
            if let Some(known) = pool().get(&format!("{name}[]")) {
                list.insert(at, known[random.below(known.len())].1.clone());
            }
        }
    }
}

fn scalar(value: &Value, random: &mut Random) -> Value {
    match (value, random.below(4)) {
        (Value::Bool(on), 0..=2) => json!(!on),
        (Value::Number(number), 0..=1) => {
            let step = [-1, 1, 7, -64][random.below(4)];
            json!(number.as_i64().unwrap_or(0).wrapping_add(step))
        }
        (Value::Number(_), 2) => self::number(random),
        (Value::String(old), 0..=1) => {
            let mut chars: Vec<char> = old.chars().collect();
            let at = random.below(chars.len() + 1);
            if random.below(2) == 0 && at < chars.len() {
                chars.remove(at);
            } else {
                let of = "/.:-=,019aA \0\n*@+rwm";
                let of: Vec<char> = of.chars().collect();
                chars.insert(at, of[random.below(of.len())]);
            }
            json!(chars.into_iter().collect::<String>())
        }
        (Value::String(old), 2) => json!(format!("{old}{}", text(random))),
        _ => odd(random),
    }
}

fn number(random: &mut Random) -> Value {
    let signed: [i64; 11] = [
        -1,
        0,
        1,
        2,
        -2,
        4095,
        4096,
        65_535,
        1 << 20,
        1 << 31,
        0xffff_ffff,
    ];
    match random.below(6) {
        0 => json!(u64::MAX),
        1 => json!(i64::MAX),
        2 => json!(i64::MIN),
        3 => json!(1.5),
        _ => json!(signed[random.below(signed.len())]),
    }
}

fn text(random: &mut Random) -> String {
    const TEXTS: [&str; 20] = [
        "",
        "/",
        "..",
        ".",
        "/..",
        "a/../b",
        "/dev",
        "/proc",
        "/proc/self/fd/1",
        "rw",
        "ro",
        "*",
        "-1",
        "0",
        "1",
        "a\nb",
        "a\0b",
        "ä",
        "a b",
        "0-3,7",
    ];
    match random.below(12) {
        0 => "x".repeat(300),
        _ => TEXTS[random.below(TEXTS.len())].to_owned(),
    }
}

fn odd(random: &mut Random) -> Value {
    match random.below(7) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!([]),
        3 => json!({}),
        4 => number(random),
        _ => json!(text(random)),
    }
}

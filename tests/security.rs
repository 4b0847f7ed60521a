//! What the source says about security is so: each requirement is cited, and was proved by mutations that still apply; what no run
//! could show (close-on-exec at birth, absolute paths of helpers, no abstract socket) holds in every file; the list of unsafe
//! blocks and the table of published holes are up to date.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Name below the top and text of every source file.
fn sources(dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&top().join(dir), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(top()).unwrap().display().to_string();
    found
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Without unit tests: they come last in a file, or have files of their own.
fn shipped() -> Vec<(String, String)> {
    let is_test = |name: &str| {
        [
            "tests",
            "testing",
            "reference",
            "emulator",
            "differential",
            "random",
            "kernel.rs",
        ]
        .iter()
        .any(|word| name.contains(word))
    };
    sources("src")
        .into_iter()
        .filter(|(name, _)| !is_test(name))
        .map(|(name, text)| {
            let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
            let text = text[..end].to_owned();
            (name, text)
        })
        .collect()
}

/// Name, first line and text of each function, nested ones too: rustfmt ends each at its own indentation.
fn functions(text: &str) -> Vec<(String, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else {
            continue;
        };
        if line.trim_start().starts_with("//") || before.contains(['"', '(', ':']) {
            continue;
        }
        let name: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let last = (at..lines.len()).find(|&at| lines[at] == end || lines[at].ends_with("{}"));
        if let Some(last) = last.filter(|_| !name.is_empty()) {
            found.push((name, at + 1, lines[at..=last].join("\n")));
        }
    }
    found
}

fn requirements() -> Value {
    serde_json::from_str(&text("conformance/security/mutations.json")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

fn joined(lines: &Value) -> String {
    let lines = lines.as_array().unwrap().iter();
    let lines: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
    lines.join("\n")
}

/// As Python's zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn requirements_are_cited() {
    let source: String = sources("src")
        .iter()
        .flat_map(|(_, text)| text.lines().filter_map(|line| line.split_once("//")))
        .map(|(_, comment)| format!("{comment}\n"))
        .collect();
    let cited = |number: &str| {
        let (letter, digit) = number.split_at(1);
        let digit: u32 = digit.parse().unwrap();
        source.match_indices(letter).any(|(at, _)| {
            let before = source[..at].chars().next_back();
            let rest: Vec<char> = source[at + 1..].chars().take(5).collect();
            let first = rest.first().and_then(|c| c.to_digit(10));
            // `K1-K4` cites all four.
            let last = (rest.get(1) == Some(&'-'))
                .then(|| rest[2..].iter().find_map(|c| c.to_digit(10)))
                .flatten();
            let alone = before.is_none_or(|c| !c.is_alphanumeric());
            alone
                && first.is_some_and(|first| {
                    first == digit || (first..=last.unwrap_or(first)).contains(&digit)
                })
        })
    };
    let requirements = requirements();
    let missing: Vec<&str> = list(&requirements, "requirements")
        .iter()
        .map(|requirement| requirement["no"].as_str().unwrap())
        .filter(|number| !cited(number))
        .collect();
    assert!(missing.is_empty(), "cited nowhere in src: {missing:?}");
}

/// Of every mutation: its text is there once, its tests exist, and it was seen to fail as it stands.
#[test]
fn mutations_apply_and_were_seen_failing() {
    let root: BTreeSet<String> = sources("tests/root").iter().flat_map(tests_of).collect();
    let unit: String = sources("src").into_iter().map(|(_, text)| text).collect();
    let table = text("conformance/security/requirements.md");
    let mut wrong = Vec::new();
    for requirement in list(&requirements(), "requirements") {
        let number = requirement["no"].as_str().unwrap();
        if list(requirement, "mutations").is_empty() {
            wrong.push(format!("{number}: no mutation"));
        }
        for mutation in list(requirement, "mutations") {
            let what = format!("{number}, {}", mutation["what"].as_str().unwrap());
            let mut parts = Vec::new();
            for edit in list(mutation, "edits") {
                let file = edit["file"].as_str().unwrap();
                let (old, new) = (joined(&edit["old"]), joined(&edit["new"]));
                let count = text(file).matches(&old).count();
                if count != 1 {
                    wrong.push(format!("{what}: {count} times in {file}:\n{old}"));
                }
                parts.extend([file.to_owned(), old, new]);
            }
            for test in list(mutation, "tests")
                .iter()
                .map(|test| test.as_str().unwrap())
            {
                let (kind, name) = test.split_once(' ').unwrap();
                let function = name.rsplit("::").next().unwrap();
                let exists = match kind {
                    "root" => root.contains(name.split(' ').next().unwrap()),
                    "unit" => unit.contains(&format!("fn {function}()")),
                    _ => text("tests/security.rs").contains(&format!("fn {function}()")),
                };
                if !exists {
                    wrong.push(format!("{what}: there is no test {test}"));
                }
                parts.push(test.to_owned());
            }
            let sum = mutation["seen"]["checksum"].as_u64();
            if sum != Some(crc32(parts.join("\0").as_bytes()).into()) {
                wrong.push(format!("{what}: not seen failing as it stands"));
            }
            if !table.contains(mutation["what"].as_str().unwrap()) {
                wrong.push(format!("{what}: not in the table"));
            }
        }
    }
    assert!(
        wrong.is_empty() && !table.contains("not yet"),
        "run conformance/security/prove.py:\n{}",
        wrong.join("\n")
    );
}

/// `module::name` of each line of a table of root tests.
fn tests_of((file, text): &(String, String)) -> Vec<String> {
    let module = Path::new(file).file_stem().unwrap().to_str().unwrap();
    let Some(table) = text.split("tests! {\n").nth(1) else {
        return Vec::new();
    };
    table
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.trim().split([' ', ';']).nth(1))
        .map(|name| format!("{module}::{name}"))
        .collect()
}

/// Every published hole has tests that exist, or a reason why it cannot concern this runtime.
#[test]
fn published_holes_have_their_tests() {
    let root: BTreeSet<String> = sources("tests/root").iter().flat_map(tests_of).collect();
    let table = text("conformance/security/published.md");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| {
            line.starts_with("| CVE-") || line.starts_with("| GHSA-") || line.starts_with("| (none")
        })
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for row in &rows {
        let [_, what, tests] = row[..] else {
            panic!("{row:?}");
        };
        assert!(!what.trim().is_empty(), "{row:?}");
        let quoted: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(
            !quoted.is_empty() || tests.trim().starts_with("none: "),
            "{row:?}"
        );
        for test in quoted {
            assert!(root.contains(test), "there is no root test {test}");
            named.insert(test);
        }
    }
    for test in root.iter().filter(|test| test.contains("::cve_")) {
        assert!(
            named.contains(test.as_str()),
            "published.md does not name {test}"
        );
    }
}

/// F1. A function that opens something says so itself, or is one of those that hand their flags to one that does.
#[test]
fn every_open_is_close_on_exec() {
    const CALLS: [&str; 8] = [
        "openat",
        "openat2",
        "open",
        "socketpair",
        "socket",
        "pipe2",
        "memfd_create",
        "accept4",
    ];
    let mut wrong = Vec::new();
    for (file, text) in shipped() {
        let imports: String = text
            .split("use nix::")
            .skip(1)
            .filter_map(|part| part.split(';').next())
            .collect();
        let words: BTreeSet<&str> = imports
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        for (name, at, body) in functions(&text) {
            let calls = CALLS.iter().any(|call| {
                let qualified = format!("nix::fcntl::{call}(");
                let by_name = words.contains(call)
                    && body.match_indices(&format!("{call}(")).any(|(at, _)| {
                        let before = body[..at].chars().next_back();
                        before.is_some_and(|c| !c.is_alphanumeric() && !"_:.".contains(c))
                    });
                by_name || body.contains(&qualified)
            });
            // These two take the very descriptors that are to be inherited.
            let meant = ["ensure_stdio_open", "take_passed"].contains(&name.as_str());
            if calls && !meant && !body.contains("CLOEXEC") && !body.contains("DIRECTORY") {
                wrong.push(format!("{file}:{at}: {name}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "opens without O_CLOEXEC:\n{}",
        wrong.join("\n")
    );
}

/// X6. `ps` is the caller's own program, on the host; id maps have their helpers from a list of directories.
#[test]
fn helpers_have_absolute_paths() {
    let mut wrong = Vec::new();
    for (file, text) in shipped() {
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let runs = code.contains("Command::new(\"") && !code.contains("Command::new(\"/");
            let looks_up = [
                "dlopen",
                "getpwnam",
                "getpwuid",
                "getgrnam",
                "getaddrinfo",
                "User::from_",
                "Group::from_",
            ]
            .iter()
            .any(|call| code.contains(call));
            let clap = code.contains("Command::new(\"rundlet\")");
            if (runs && !clap && file != "src/cli/ps.rs") || looks_up {
                wrong.push(format!("{file}:{}: {line}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// I2. Names that others have made are connected to.
#[test]
fn no_abstract_socket_is_made() {
    for (file, text) in shipped() {
        for (name, at, body) in functions(&text) {
            let makes = body.contains("new_abstract(") && name != "connect_abstract";
            assert!(!makes, "{file}:{at}: {name}");
            assert!(
                name != "connect_abstract" || !body.contains("bind("),
                "{file}:{at}"
            );
        }
    }
}

/// Every unsafe block, function and impl, by file and function, with the first sentence of why it is sound.
/// `RUNDLET_WRITE_UNSAFE=1` writes the list anew.
#[test]
fn the_inventory_of_unsafe_is_up_to_date() {
    let mut out = String::from(
        "# Every use of unsafe: file, function, why it is sound. Written by RUNDLET_WRITE_UNSAFE=1 cargo test --test security.\n",
    );
    let mut count = 0;
    for (file, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        let functions = functions(&text);
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            let uses = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|word| code.contains(word));
            if !uses {
                continue;
            }
            assert!(
                file.starts_with("src/sys/"),
                "{file}:{}: unsafe outside of src/sys",
                at + 1
            );
            // The comment stands above, at most some lines up where the block is within an expression.
            let start = (0..=at).rev().take(8).find(|&at| {
                let line = lines[at].trim_start();
                line.starts_with("// SAFETY:") || line.starts_with("/// # Safety")
            });
            let start = start.unwrap_or_else(|| panic!("{file}:{}: no SAFETY comment", at + 1));
            let words: Vec<&str> = lines[start..at]
                .iter()
                .map(|line| line.trim_start())
                .take_while(|line| line.starts_with("//"))
                .map(|line| line.trim_start_matches('/').trim())
                .map(|line| {
                    line.trim_start_matches("SAFETY:")
                        .trim_start_matches("# Safety")
                        .trim()
                })
                .collect();
            let within = functions
                .iter()
                .rev()
                .find(|(_, first, body)| (*first..first + body.lines().count()).contains(&(at + 1)))
                .map_or("-", |(name, ..)| name.as_str());
            out += &format!("{file} {within}: {}\n", words.join(" ").trim());
            count += 1;
        }
    }
    out += &format!("{count} in all\n");
    let list = top().join("tests/unsafe.txt");
    if std::env::var_os("RUNDLET_WRITE_UNSAFE").is_some() {
        fs::write(&list, &out).unwrap();
    }
    let old = fs::read_to_string(&list).unwrap_or_default();
    assert!(
        old == out,
        "tests/unsafe.txt is out of date: RUNDLET_WRITE_UNSAFE=1 cargo test --test security"
    );
}

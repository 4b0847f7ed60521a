//! `check`: what is wrong with a bundle, on any host and on this one, without making anything. What `create` would refuse is
//! found by the code of `create` itself; what it could not know before, or takes without a word, is looked at by `fields`, `host`
//! and `limits`. Called by `cli`.

mod fields;
mod host;
mod limits;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::launch::Launch;
use super::options::{Context, CreateOptions};
use crate::{error, plan, spec};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The container cannot be made, here or anywhere.
    Error,
    /// It can be made, and is probably not what was meant.
    Warning,
    /// Worth to know.
    Note,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// JSON path into config.json, where one field is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// Begins with the field.
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Finding {
    fn new(level: Level, field: impl Into<String>, words: impl std::fmt::Display) -> Finding {
        let field = field.into();
        Finding {
            level,
            message: format!("{field}: {words}"),
            field: Some(field),
            hint: None,
        }
    }

    /// What `create` would say.
    fn told(report: error::Report) -> Finding {
        Finding {
            level: Level::Error,
            field: report.field,
            message: report.message,
            hint: report.hint,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }
}

/// More than this many mistakes of one document are not looked for.
const MOST: usize = 50;

/// All findings, the worst first. An error means that the bundle could not be looked at.
pub(crate) fn check(context: &Context, options: &CreateOptions) -> Result<Vec<Finding>> {
    let bundle = plan::clean_path(&options.bundle);
    std::env::set_current_dir(&bundle)
        .with_context(|| format!("--bundle: chdir to `{}`", bundle.display()))?;
    let bytes = spec::read_bounded(&options.config)?;
    let mut findings = Vec::new();
    let whole = match serde_json::from_slice::<Value>(&bytes) {
        Ok(document) => document,
        Err(error) => {
            let file = options.config.display();
            let message = format!("parse `{file}`: {error}");
            findings.push(Finding {
                level: Level::Error,
                field: None,
                message,
                hint: None,
            });
            return Ok(findings);
        }
    };
    findings.extend(fields::unknown(&whole));
    if let Some(launch) = refusals(context, options, &bytes, &whole, &mut findings) {
        host::look(&launch.plan, &launch.host, &mut findings);
        limits::look(&launch.plan, &whole, context, &mut findings);
    }
    findings.sort_by_key(|finding| finding.level);
    Ok(findings)
}

/// What `create` would refuse. It stops at the first mistake; so that is taken out of the document and the rest tried again. What
/// is left in the end, if it can be made, comes back.
fn refusals<'a>(
    context: &'a Context,
    options: &CreateOptions,
    bytes: &[u8],
    whole: &Value,
    findings: &mut Vec<Finding>,
) -> Option<Launch<'a>> {
    let mut document = whole.clone();
    let mut bytes = bytes.to_vec();
    let mut removed = Removed::default();
    for _ in 0..MOST {
        let path: &Path = &options.config;
        let decided = spec::config_of(&bytes, path)
            .and_then(|config| Launch::decide(context, options, &config, 0));
        let error = match decided {
            Ok(launch) => return Some(launch),
            Err(error) => error::report(&error),
        };
        let Some(field) = error.field.clone() else {
            findings.push(Finding::told(error));
            return None;
        };
        let as_given = removed.as_given(&field);
        // An object that misses what was taken out of it goes as well, and is no mistake of the document.
        if !removed.is_cause_of(&as_given) {
            let prefix = format!("{}: ", path.display());
            let message = error
                .message
                .strip_prefix(&prefix)
                .unwrap_or(&error.message);
            findings.push(Finding {
                level: Level::Error,
                message: message.replacen(&field, &as_given, 1),
                field: Some(as_given.clone()),
                hint: error.hint,
            });
        }
        if !removed.take_out(&mut document, &field, as_given) {
            return None;
        }
        bytes = serde_json::to_vec(&document).ok()?;
    }
    None
}

/// Fields without which a document is refused as a whole, and JSON that nobody minds.
const NEEDED: [(&str, &str); 7] = [
    ("ociVersion", "\"1.0.0\""),
    ("process.args", "[\"/\"]"),
    ("process.cwd", "\"/\""),
    ("process.user.uid", "0"),
    ("process.user.gid", "0"),
    ("root.path", "\"/\""),
    ("linux.seccomp.defaultAction", "\"SCMP_ACT_ALLOW\""),
];

/// What was taken out of a document, so that its paths can be given as they were.
#[derive(Default)]
struct Removed {
    /// As in the whole document.
    paths: Vec<String>,
    /// Elements of arrays: the array's path at that time, and the place.
    elements: Vec<(String, usize)>,
}

impl Removed {
    fn is_cause_of(&self, field: &str) -> bool {
        self.paths.iter().any(|path| {
            path.strip_prefix(field)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    }

    fn as_given(&self, field: &str) -> String {
        let mut field = field.to_owned();
        for (array, place) in self.elements.iter().rev() {
            let Some((index, rest)) = field
                .strip_prefix(array.as_str())
                .and_then(|rest| rest.strip_prefix('['))
                .and_then(|rest| rest.split_once(']'))
            else {
                continue;
            };
            if let Ok(index) = index.parse::<usize>()
                && index >= *place
            {
                field = format!("{array}[{}]{rest}", index + 1);
            }
        }
        field
    }

    /// Takes out what is at `field`, or puts something harmless there if a document needs one. False where that was done before,
    /// or the document has nothing there.
    fn take_out(&mut self, document: &mut Value, field: &str, as_given: String) -> bool {
        if self.paths.contains(&as_given) {
            return false;
        }
        if let Some((_, harmless)) = NEEDED.iter().find(|(path, _)| *path == field) {
            self.paths.push(as_given);
            let place = document.pointer_mut(&format!("/{}", field.replace('.', "/")));
            let harmless = serde_json::from_str(harmless).ok();
            return place
                .zip(harmless)
                .map(|(place, harmless)| *place = harmless)
                .is_some();
        }
        let parts = fields::parts(field);
        let Some((last, parents)) = parts.split_last() else {
            return false;
        };
        let mut place = document;
        for part in parents {
            let next = match place {
                Value::Array(items) => part
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get_mut(index)),
                Value::Object(members) => members.get_mut(part),
                _ => None,
            };
            match next {
                Some(next) => place = next,
                None => return false,
            }
        }
        let taken = match place {
            Value::Array(items) => last
                .parse::<usize>()
                .ok()
                .filter(|index| *index < items.len())
                .map(|index| {
                    items.remove(index);
                    let array = field.rfind('[').map_or(field, |at| &field[..at]);
                    self.elements.push((array.to_owned(), index));
                }),
            Value::Object(members) => members.remove(last).map(drop),
            _ => None,
        };
        self.paths.push(as_given);
        taken.is_some()
    }
}

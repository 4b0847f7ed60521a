//! `doctor`: what this host offers for containers, to root and to the user who asks, and what to do about what is missing. Only
//! looks. Called by `cli`; what one bundle needs is `check`'s matter.

mod cgroups;
mod engines;
mod kernel;
mod user;

use serde::Serialize;

use super::options::Context;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is there.
    Ok,
    /// Some containers will fail, or something is slower or less safe.
    Limited,
    /// No container of this caller will work.
    Broken,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Limited => "limited",
            Verdict::Broken => "broken",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) area: &'static str,
    pub(crate) what: &'static str,
    pub(crate) verdict: Verdict,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// Collects what is found in one area.
struct Area<'a> {
    name: &'static str,
    found: &'a mut Vec<Found>,
}

impl Area<'_> {
    fn ok(&mut self, what: &'static str, seen: impl Into<String>) {
        self.add(what, Verdict::Ok, seen.into(), None);
    }

    fn limited(&mut self, what: &'static str, seen: impl Into<String>, fix: &str) {
        self.add(what, Verdict::Limited, seen.into(), Some(fix.to_owned()));
    }

    fn broken(&mut self, what: &'static str, seen: impl Into<String>, fix: &str) {
        self.add(what, Verdict::Broken, seen.into(), Some(fix.to_owned()));
    }

    fn add(&mut self, what: &'static str, verdict: Verdict, seen: String, fix: Option<String>) {
        let area = self.name;
        self.found.push(Found {
            area,
            what,
            verdict,
            seen,
            fix,
        });
    }
}

type Look = fn(&Context, &mut Area<'_>);

/// In an order for reading.
const AREAS: [(&str, Look); 4] = [
    ("kernel", kernel::look),
    ("cgroups", cgroups::look),
    ("user", user::look),
    ("engines", engines::look),
];

pub(crate) fn examine(context: &Context) -> Vec<Found> {
    let mut found = Vec::new();
    for (name, look) in AREAS {
        let mut area = Area {
            name,
            found: &mut found,
        };
        look(context, &mut area);
    }
    found
}

/// A small file's text without the blanks around it; empty where it cannot be read.
fn text(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

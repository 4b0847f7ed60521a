//! What is asked of systemd over D-Bus (org.freedesktop.systemd1(5)): make a unit, stop it, change it. Called by the driver.
//!
//! Root talks to systemd itself by its private socket, where there is no bus between (and no `Hello`), and falls back to the
//! system bus; a user talks to the user's manager by the session bus. A call and what it needs before it (Hello, the
//! subscription to the end of jobs) leave in one write.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::dbus::{Address, Connection};
use super::names::is_slice;
use super::properties::OPTIONAL;
use super::wire::{Body, Call, ERROR, METHOD_RETURN, Message, Property, SIGNAL, Value};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";
const SLICE: &str = "org.freedesktop.systemd1.Slice";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";
const PRIVATE: &str = "/run/systemd/private";
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const JOB_ENDED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                         interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Whose systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Which {
    System,
    User,
}

/// An error reply.
#[derive(Debug)]
struct Refused {
    name: String,
    text: String,
}

impl Refused {
    /// By the last part of the error's name, as `UnitExists`.
    fn is(&self, short: &str) -> bool {
        self.short() == short
    }

    fn short(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(_, s)| s)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.trim_end().trim_end_matches('.');
        write!(f, "{} ({})", text.escape_debug(), self.short())
    }
}

impl std::error::Error for Refused {}

fn is(error: &anyhow::Error, short: &str) -> bool {
    error
        .downcast_ref::<Refused>()
        .is_some_and(|refused| refused.is(short))
}

/// Work that systemd has taken on.
#[derive(Debug)]
#[must_use]
pub(crate) struct Job {
    path: String,
    /// Who has said so: the word about its end counts only from the same.
    manager: String,
}

#[derive(Debug)]
struct Ended {
    job: String,
    result: String,
    sender: String,
}

#[derive(Debug)]
pub(crate) struct Manager {
    connection: Connection,
    on_bus: bool,
    /// Calls whose replies nobody waits for.
    preparing: Vec<u32>,
    ended: Vec<Ended>,
}

impl Manager {
    pub(crate) fn connect(which: Which) -> Result<Self> {
        let connection = match which {
            Which::System => Connection::open(Address::Path(PRIVATE.into()))
                .map(|connection| (connection, false))
                .or_else(|_| Ok((open_first(&system_bus())?, true))),
            Which::User => user_bus().and_then(|list| Ok((open_first(&list)?, true))),
        };
        let (connection, on_bus) = connection.context(match which {
            Which::System => "systemd cgroup driver: no way to systemd",
            Which::User => {
                "systemd cgroup driver: no way to the user's systemd (is there a session? see loginctl enable-linger)"
            }
        })?;
        let mut manager = Self {
            connection,
            on_bus,
            preparing: Vec::new(),
            ended: Vec::new(),
        };
        if on_bus {
            manager.prepare(BUS, "/org/freedesktop/DBus", BUS, "Hello", Body::default());
        }
        Ok(manager)
    }

    /// Tells what will be waited for. By the private socket everything is told without asking.
    fn listen(&mut self) {
        if self.on_bus {
            let rule = Body::default().string(JOB_ENDED);
            self.prepare(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", rule);
            self.prepare(SYSTEMD, OBJECT, MANAGER, "Subscribe", Body::default());
        }
    }

    fn prepare(&mut self, to: &str, path: &str, interface: &str, member: &str, body: Body) {
        let call = Call {
            destination: Some(to),
            path,
            interface,
            member,
            body,
        };
        self.preparing.push(self.connection.queue(&call));
    }

    fn call(&mut self, interface: &str, member: &str, body: Body) -> Result<Message> {
        self.call_object(OBJECT, interface, member, body)
    }

    fn call_object(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        body: Body,
    ) -> Result<Message> {
        let call = Call {
            destination: self.on_bus.then_some(SYSTEMD),
            path,
            interface,
            member,
            body,
        };
        self.connection.start_clock();
        let serial = self.connection.queue(&call);
        loop {
            let message = self.receive()?;
            if message.reply_to == serial && message.kind != SIGNAL {
                return match message.kind {
                    METHOD_RETURN => Ok(message),
                    _ => Err(refused(&message).into()),
                };
            }
        }
    }

    /// The next message that is about none of the preparations; the ends of jobs are noted.
    fn receive(&mut self) -> Result<Message> {
        let message = self.connection.receive()?;
        if message.kind == ERROR && self.preparing.contains(&message.reply_to) {
            return Err(anyhow!(refused(&message)).context("D-Bus"));
        }
        if message.kind == SIGNAL && message.interface == MANAGER && message.member == "JobRemoved"
        {
            let mut arguments = message.arguments("uoss").context("JobRemoved")?;
            arguments.u32()?;
            let job = arguments.string()?;
            let _unit = arguments.string()?;
            let result = arguments.string()?;
            let sender = message.sender.clone();
            self.ended.push(Ended {
                job,
                result,
                sender,
            });
        }
        Ok(message)
    }

    /// Asks for a new unit. A unit of that name that has failed is forgotten by systemd first.
    pub(crate) fn start(&mut self, unit: &str, properties: &[Property]) -> Result<Job> {
        self.listen();
        let mut properties = properties.to_vec();
        let mut exists = false;
        loop {
            let body = Body::default()
                .string(unit)
                .string("replace")
                .properties(&properties)
                .no_units();
            let error = match self.call(MANAGER, "StartTransientUnit", body) {
                Ok(reply) => return job(&reply),
                Err(error) => error,
            };
            if is(&error, "UnitExists") {
                if exists {
                    return Err(error.context(format!(
                        "linux.cgroupsPath: unit `{unit}` exists already: another container or service has it"
                    )));
                }
                exists = true;
                self.reset_failed(unit)?;
            } else if !leave_out(&mut properties, &error) {
                return Err(error.context(format!("systemd: make unit `{unit}`")));
            }
        }
    }

    /// Waits until systemd has done it.
    pub(crate) fn wait(&mut self, job: &Job, what: &str) -> Result<()> {
        let result = loop {
            let found = self
                .ended
                .iter()
                .find(|ended| ended.job == job.path && ended.sender == job.manager);
            if let Some(ended) = found {
                break ended.result.clone();
            }
            self.receive()
                .with_context(|| format!("systemd: {what}: wait for the end of the job"))?;
        };
        ensure!(
            result == "done",
            "systemd: {what}: the job ended with `{}`, see journalctl",
            result.escape_debug()
        );
        Ok(())
    }

    /// Stops a unit and makes systemd forget it; none is no error.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        self.listen();
        let body = Body::default().string(unit).string("replace");
        let what = format!("stop unit `{unit}`");
        let job = match self.call(MANAGER, "StopUnit", body) {
            Err(error) if is(&error, "NoSuchUnit") => return Ok(()),
            reply => job(&reply.with_context(|| format!("systemd: {what}"))?)?,
        };
        self.wait(&job, &what)?;
        self.reset_failed(unit)
    }

    /// A unit that has failed would stay known, and its name taken.
    pub(crate) fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.call(MANAGER, "ResetFailedUnit", Body::default().string(unit)) {
            Err(error) if is(&error, "NoSuchUnit") => Ok(()),
            reply => reply
                .map(drop)
                .with_context(|| format!("systemd: reset unit `{unit}`")),
        }
    }

    /// Changes a unit until it ends; nothing is written to disk.
    pub(crate) fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut properties = properties.to_vec();
        loop {
            let body = Body::default()
                .string(unit)
                .boolean(true)
                .properties(&properties);
            let Err(error) = self.call(MANAGER, "SetUnitProperties", body) else {
                return Ok(());
            };
            if !leave_out(&mut properties, &error) {
                return Err(error.context(format!("systemd: set properties of unit `{unit}`")));
            }
        }
    }

    /// What properties of a unit are now, by name; one that this systemd does not know is left out.
    pub(crate) fn properties(
        &mut self,
        unit: &str,
        names: &BTreeSet<&'static str>,
    ) -> Result<Vec<Property>> {
        let what = || format!("systemd: read properties of unit `{unit}`");
        let reply = self.call(MANAGER, "GetUnit", Body::default().string(unit));
        let object = reply.with_context(what)?.arguments("o")?.string()?;
        let kind = if is_slice(unit) { SLICE } else { SCOPE };
        let mut out = Vec::new();
        for name in names {
            let body = Body::default().string(kind).string(name);
            let value = match self.call_object(&object, PROPERTIES, "Get", body) {
                Err(error) if is(&error, "UnknownProperty") => None,
                reply => reply.with_context(what)?.arguments("v")?.variant()?,
            };
            out.extend(value.map(|value| Property { name, value }));
        }
        Ok(out)
    }

    /// Moves a process into the cgroup of a unit or into one below it, `/SUB`: what a user has no right to do, when the
    /// process comes from outside of the user's own systemd.
    pub(crate) fn attach(&mut self, unit: &str, sub: &str, pid: u32) -> Result<()> {
        let body = Body::default().string(unit).string(sub).numbers(&[pid]);
        self.call(MANAGER, "AttachProcessesToUnit", body)
            .map(drop)
            .with_context(|| format!("systemd: attach process {pid} to unit `{unit}`"))
    }

    /// Where the manager's own cgroup lies.
    pub(crate) fn control_group(&mut self) -> Result<String> {
        let body = Body::default().string(MANAGER).string("ControlGroup");
        let reply = self
            .call(PROPERTIES, "Get", body)
            .context("systemd: ask for its own cgroup")?;
        match reply.arguments("v")?.variant()? {
            Some(Value::Str(path)) => Ok(path),
            _ => bail!("systemd: ControlGroup is no string"),
        }
    }
}

fn refused(message: &Message) -> Refused {
    Refused {
        name: message.error.clone(),
        text: message.error_text(),
    }
}

fn job(reply: &Message) -> Result<Job> {
    Ok(Job {
        path: reply.arguments("o")?.string()?,
        manager: reply.sender.clone(),
    })
}

/// An older systemd does not know every property; it names the first that it does not take. False: it is another error,
/// or about a property that must not be missing.
fn leave_out(properties: &mut Vec<Property>, error: &anyhow::Error) -> bool {
    let Some(refused) = error.downcast_ref::<Refused>() else {
        return false;
    };
    if !["PropertyReadOnly", "UnknownProperty", "InvalidArgs"].contains(&refused.short()) {
        return false;
    }
    let mut words = refused
        .text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| OPTIONAL.contains(word));
    let Some(name) = words.next() else {
        return false;
    };
    let before = properties.len();
    properties.retain(|property| property.name != name);
    crate::log::debug(format_args!("systemd does not take {name}: {refused}"));
    properties.len() < before
}

fn open_first(list: &[Address]) -> Result<Connection> {
    let mut result = Err(anyhow!("no address that could be used"));
    for address in list {
        result = Connection::open(address.clone());
        if result.is_ok() {
            break;
        }
    }
    result
}

fn system_bus() -> Vec<Address> {
    let given = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    let given = Address::parse(&given);
    if given.is_empty() {
        return vec![Address::Path(SYSTEM_BUS.into())];
    }
    given
}

fn user_bus() -> Result<Vec<Address>> {
    if let Ok(given) = std::env::var("DBUS_SESSION_BUS_ADDRESS")
        && !given.is_empty()
    {
        let list = Address::parse(&given);
        ensure!(
            !list.is_empty(),
            "$DBUS_SESSION_BUS_ADDRESS: `{}` names no Unix socket",
            given.escape_debug()
        );
        return Ok(list);
    }
    let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        bail!("neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set");
    };
    Ok(vec![Address::Path(PathBuf::from(dir).join("bus"))])
}

/// What systemd itself tells others to look at (sd_booted(3)).
pub(crate) fn is_running() -> bool {
    std::fs::symlink_metadata(Path::new("/run/systemd/system")).is_ok_and(|found| found.is_dir())
}

//! Bytes of others: messages of D-Bus, answers of CRIU, and the packets between the runtime and a container's init. None makes the
//! reader panic or take memory that the bytes do not fill, and what is written is read as the same.

use std::path::PathBuf;

use crate::cgroup::systemd::dbus::Address;
use crate::cgroup::systemd::wire::{Body, Call, FIXED, Property, Value, decode, message_length};
use crate::criu::rpc;
use crate::proto::{FromInit, ToInit};

pub(super) fn dbus(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for address in Address::parse(text) {
            let (Address::Path(_) | Address::Abstract(_)) = address;
        }
    }
    match message_length(bytes) {
        Ok(Some(length)) => assert!((FIXED..=16 << 20).contains(&length)),
        Ok(None) => assert!(bytes.len() < FIXED),
        Err(_) => assert!(decode(bytes).is_err()),
    }
    if let Ok(message) = decode(bytes) {
        drop(message.error_text());
        for signature in ["v", "s", "uos", "as", "a{sv}", "sa{sv}as", "u", "a(sv)"] {
            let Ok(mut reader) = message.arguments(signature) else {
                continue;
            };
            for kind in signature.bytes() {
                let more = match kind {
                    b'v' => reader.variant().is_ok(),
                    b'u' | b'a' => reader.u32().is_ok(),
                    b's' | b'o' => reader.string().is_ok(),
                    _ => reader.signature().is_ok(),
                };
                if !more {
                    break;
                }
            }
        }
    }
    round_trip(bytes);
}

/// A call of what the bytes say, read by the reader of answers.
fn round_trip(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0xff);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).replace('\0', "");
    let (path, interface, member, argument) = (text(), text(), text(), text());
    let numbers: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
    let values = [
        Value::Bool(bytes.len().is_multiple_of(2)),
        Value::U64(bytes.len() as u64),
        Value::Str(argument.clone()),
        Value::Bytes(bytes.to_vec()),
        Value::Rates(vec![(argument.clone(), 7), (member.clone(), u64::MAX)]),
    ];
    let properties: Vec<Property> = values
        .iter()
        .map(|value| Property {
            name: "Name",
            value: value.clone(),
        })
        .collect();
    let call = Call {
        destination: Some("org.example"),
        path: &path,
        interface: &interface,
        member: &member,
        body: Body::default()
            .properties(&properties)
            .string(&argument)
            .numbers(&numbers),
    };
    let written = call.encode(3);
    assert_eq!(message_length(&written).unwrap(), Some(written.len()));
    let read = decode(&written).expect("what was written");
    assert_eq!((&read.interface, &read.member), (&interface, &member));
    let mut reader = read.arguments("a(sv)sau").expect("its own signature");
    assert!(reader.u32().unwrap() > 0);
    for value in &values {
        // Each structure begins at a multiple of 8, and so does the first string in it.
        reader.align(8).unwrap();
        assert_eq!(reader.string().unwrap(), "Name");
        assert_eq!(reader.variant().unwrap().as_ref(), Some(value));
    }
    assert_eq!(reader.string().unwrap(), argument);
    let mut cut = written.clone();
    cut.truncate(written.len() - 1);
    assert!(decode(&cut).is_err());
    drop(PathBuf::from(path));
}

pub(super) fn criu(bytes: &[u8]) {
    if let Ok(response) = rpc::Response::read(bytes) {
        assert!(response.message.len() <= 3 * bytes.len());
        let notify = response.notify.unwrap_or_default();
        let mut inner = rpc::Message::default();
        inner.bytes(1, &notify.script);
        inner.int(2, notify.pid);
        let mut message = rpc::Message::default();
        message.number(1, response.kind);
        message.flag(2, response.success);
        message.message(5, &inner);
        message.int(7, response.errno);
        message.bytes(9, &response.message);
        let again = rpc::Response::read(message.as_bytes()).expect("what was written");
        assert_eq!(
            (again.kind, again.success, again.errno),
            (response.kind, response.success, response.errno)
        );
        assert_eq!(
            (again.notify, again.message),
            (Some(notify), response.message)
        );
    }
}

pub(super) fn proto(bytes: &[u8]) {
    if let Some(message) = FromInit::decode(bytes) {
        let packet = message.encode();
        // The longest packet cuts a failure's words, and what is no text grows when it is read as one.
        assert!(packet.len() >= 8192 || FromInit::decode(&packet) == Some(message));
    }
    if let Some(message) = ToInit::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
}

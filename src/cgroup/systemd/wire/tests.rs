//! The bytes of messages, and what hostile ones do.

use super::*;

fn call(body: Body) -> Call<'static> {
    Call {
        destination: Some("org.example"),
        path: "/a",
        interface: "org.example.I",
        member: "Do",
        body,
    }
}

/// A reply as a bus would send it, in the given byte order.
fn reply(big: bool, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes
        .extend([if big { b'B' } else { b'l' }, METHOD_RETURN, 0, 1]);
    out.u32(length(body.len()));
    out.u32(7);
    out.u32(0);
    let start = out.bytes.len();
    out.bytes.push(5);
    out.signature("u");
    out.u32(42);
    out.align(8);
    out.bytes.push(7);
    out.signature("s");
    out.string(":1.2");
    out.align(8);
    out.bytes.push(8);
    out.signature("g");
    out.signature(signature);
    let size = length(out.bytes.len() - start);
    out.bytes[12..16].copy_from_slice(&size.to_le_bytes());
    out.align(8);
    let mut bytes = out.bytes;
    if big {
        let strings = [4, 8, 12, 20];
        for at in strings {
            bytes[at..at + 4].reverse();
        }
        // The sender's length.
        bytes[28..32].reverse();
    }
    bytes.extend(body);
    bytes
}

#[test]
fn the_bytes_of_a_call() {
    let bytes = call(Body::default().string("x")).encode(3);
    let expected: &[u8] = b"l\x01\x00\x01\x06\x00\x00\x00\x03\x00\x00\x00\x52\x00\x00\x00\
\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00\
\x02\x01s\x00\x0d\x00\x00\x00org.example.I\x00\x00\x00\
\x03\x01s\x00\x02\x00\x00\x00Do\x00\x00\x00\x00\x00\x00\
\x06\x01s\x00\x0b\x00\x00\x00org.example\x00\x00\x00\x00\x00\
\x08\x01g\x00\x01s\x00\x00\
\x01\x00\x00\x00x\x00";
    assert_eq!(bytes.len() - 6, (FIXED + 0x57).next_multiple_of(8));
    assert_eq!(&bytes[..12], &expected[..12]);
    assert_eq!(&bytes[FIXED..], &expected[FIXED..]);
    assert_eq!(message_length(&bytes).unwrap(), Some(bytes.len()));
}

#[test]
fn properties_are_aligned() {
    let list = [
        Property {
            name: "A",
            value: Value::Bool(true),
        },
        Property {
            name: "MemoryMax",
            value: Value::U64(5),
        },
        Property {
            name: "D",
            value: Value::Pairs(vec![("p".to_owned(), "rwm".to_owned())]),
        },
    ];
    let body = Body::default().properties(&list).no_units();
    assert_eq!(body.signature, "a(sv)a(sa(sv))");
    let bytes = body.out.bytes;
    let expected: &[u8] = b"\x58\0\0\0\0\0\0\0\
\x01\0\0\0A\0\x01b\0\0\0\0\x01\0\0\0\
\x09\0\0\0MemoryMax\0\x01t\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\
\x01\0\0\0D\0\x05a(ss)\0\0\0\0\x10\0\0\0\0\0\0\0\
\x01\0\0\0p\0\0\0\x03\0\0\0rwm\0\
\0\0\0\0\0\0\0\0";
    assert_eq!(bytes, expected);
}

#[test]
fn replies_of_both_byte_orders() {
    for big in [false, true] {
        let mut body = if big {
            2u32.to_be_bytes()
        } else {
            2u32.to_le_bytes()
        }
        .to_vec();
        body.extend(b"/j\0");
        let bytes = reply(big, "o", &body);
        assert_eq!(message_length(&bytes).unwrap(), Some(bytes.len()));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to), (METHOD_RETURN, 42));
        assert_eq!(message.sender, ":1.2");
        assert_eq!(message.arguments("o").unwrap().string().unwrap(), "/j");
        assert!(message.arguments("s").is_err());
    }
}

#[test]
fn a_header_is_needed() {
    assert_eq!(message_length(b"l\x02\0\x01").unwrap(), None);
    assert!(message_length(b"x\x02\0\x01\0\0\0\0\0\0\0\0\0\0\0\0").is_err());
    assert!(message_length(b"l\x02\0\x02\0\0\0\0\0\0\0\0\0\0\0\0").is_err());
    assert!(message_length(b"l\x02\0\x01\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff").is_err());
}

/// No bytes make it panic: every prefix of a message, every byte of it changed, and noise.
#[test]
fn hostile_bytes() {
    let whole = reply(false, "o", b"\x02\0\0\0/j\0");
    let look = |bytes: &[u8]| {
        let Ok(Some(size)) = message_length(bytes) else {
            return;
        };
        let mut bytes = bytes.to_vec();
        bytes.resize(size.min(1 << 12), 0xa5);
        if let Ok(message) = decode(&bytes) {
            let _ = message.error_text();
            if let Ok(mut reader) = message.arguments("o") {
                let _ = (reader.string(), reader.u32(), reader.signature());
            }
        }
    };
    for end in 0..whole.len() {
        look(&whole[..end]);
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut bytes = whole.clone();
            bytes[at] = value;
            look(&bytes);
        }
    }
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let mut bytes = vec![b'l', 2, 0, 1];
        for _ in 0..60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let byte = u8::try_from(seed >> 56).unwrap();
            // Mostly small numbers, so that lengths are plausible.
            bytes.push(if byte > 200 { byte } else { byte % 9 });
        }
        bytes[5..8].fill(0);
        bytes[13..16].fill(0);
        look(&bytes);
    }
}

#[test]
fn variants() {
    for value in [
        Value::Bool(true),
        Value::U64(u64::MAX),
        Value::Str("a b".to_owned()),
        Value::Bytes(vec![1, 0, 255]),
        Value::Rates(vec![]),
        Value::Rates(vec![("/a".to_owned(), 1), ("/bcd".to_owned(), 2)]),
    ] {
        let mut out = Writer::default();
        out.signature(value.signature());
        out.value(&value);
        let mut reader = Reader::new(&out.bytes, false);
        assert_eq!(reader.variant().unwrap(), Some(value));
        assert_eq!(reader.at, out.bytes.len());
        for end in 0..out.bytes.len() {
            assert!(Reader::new(&out.bytes[..end], false).variant().is_err());
        }
    }
    let mut other = Writer::default();
    other.signature("a{sv}");
    assert_eq!(Reader::new(&other.bytes, false).variant().unwrap(), None);
}

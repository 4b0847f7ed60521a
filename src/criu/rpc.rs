//! The messages of CRIU's RPC protocol (criu.org/RPC, `rpc.proto`) as bytes: written for requests, read for answers. Pure: it opens
//! nothing and trusts no byte of an answer. Called by the rest of `criu`.
//!
//! Only what rundlet says and hears is here, in the wire format of protocol buffers: numbered fields that are a varint or bytes
//! with a length. The crate `rust-criu` 0.6.1 was measured: 106 kB more (2 %), nothing at start-up, 44 crates to build; but its driver has no
//! cg_root, join_ns, config file, LSM options, pre-dump or feature check and starts criu where it likes, not in the container's cgroup,
//! so that its message types alone would have been of use.

use anyhow::{Context as _, Result, bail};

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// A message being written.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// An int32, which is widened with its sign.
    pub(crate) fn int(&mut self, field: u32, value: i32) {
        self.number(field, i64::from(value).cast_unsigned());
    }

    /// Left out where it is false, which is every flag's default.
    pub(crate) fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    pub(crate) fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `criu_req` of a kind, with options where it has some.
pub(crate) fn request(kind: Kind, options: Option<&Message>) -> Message {
    let mut request = Message::default();
    request.number(1, kind as u64);
    if let Some(options) = options {
        request.message(2, options);
    }
    request
}

/// The question whether CRIU and the kernel can do these.
pub(crate) fn feature_request(wanted: Features) -> Message {
    let mut features = Message::default();
    features.flag(1, wanted.mem_track);
    features.flag(2, wanted.lazy_pages);
    let mut request = request(Kind::FeatureCheck, None);
    request.message(5, &features);
    request
}

/// The answer to a notification: whether CRIU may go on.
pub(crate) fn notified(success: bool) -> Message {
    let mut request = request(Kind::Notify, None);
    request.number(3, u64::from(success));
    request
}

/// One field of a message that is read.
#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field, or `None` at the end. Fields of fixed width, of which the protocol has none, come out as bytes.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            other => bail!("field {} has the unknown wire type {other}", tag >> 3),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let (head, tail) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .context("a field is longer than its message")?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number has more than 64 bits")
    }
}

fn each(bytes: &[u8], mut take: impl FnMut(u64, Value<'_>) -> Result<()>) -> Result<()> {
    let mut reader = Reader(bytes);
    while let Some((field, value)) = reader.next()? {
        take(field, value)?;
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "an int32 is sent with its sign in all of 64 bits"
)]
fn int(value: u64) -> i32 {
    value.cast_signed() as i32
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) mem_track: bool,
    pub(crate) lazy_pages: bool,
}

/// `criu_notify`: CRIU has come to a point where the runtime has something to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) script: String,
    /// Of the root task, as the runtime sees it; 0 where it does not matter.
    pub(crate) pid: i32,
}

/// `criu_resp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) kind: u64,
    pub(crate) success: bool,
    pub(crate) notify: Option<Notify>,
    pub(crate) errno: i32,
    pub(crate) message: String,
    pub(crate) features: Features,
    /// 31701 for 3.17.1.
    pub(crate) version: u32,
}

impl Response {
    pub(crate) fn read(bytes: &[u8]) -> Result<Response> {
        let mut response = Response::default();
        let read = each(bytes, |field, value| {
            match (field, value) {
                (1, Value::Number(kind)) => response.kind = kind,
                (2, Value::Number(success)) => response.success = success != 0,
                (5, Value::Bytes(bytes)) => response.notify = Some(Notify::read(bytes)?),
                (7, Value::Number(errno)) => response.errno = int(errno),
                (8, Value::Bytes(bytes)) => response.features = Features::read(bytes)?,
                (9, Value::Bytes(bytes)) => response.message = text(bytes),
                (10, Value::Bytes(bytes)) => response.version = version(bytes)?,
                _ => {}
            }
            Ok(())
        });
        read.context("read an answer of criu")?;
        Ok(response)
    }
}

impl Notify {
    fn read(bytes: &[u8]) -> Result<Notify> {
        let mut notify = Notify::default();
        each(bytes, |field, value| {
            match (field, value) {
                (1, Value::Bytes(script)) => notify.script = text(script),
                (2, Value::Number(pid)) => notify.pid = int(pid),
                _ => {}
            }
            Ok(())
        })?;
        Ok(notify)
    }
}

impl Features {
    fn read(bytes: &[u8]) -> Result<Features> {
        let mut features = Features::default();
        each(bytes, |field, value| {
            match (field, value) {
                (1, Value::Number(has)) => features.mem_track = has != 0,
                (2, Value::Number(has)) => features.lazy_pages = has != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(features)
    }
}

/// A version between releases (with a `gitid`) counts as the next minor one.
fn version(bytes: &[u8]) -> Result<u32> {
    let (mut parts, mut git) = ([0_u32; 3], false);
    each(bytes, |field, value| {
        match (field, value) {
            (1, Value::Number(major)) => parts[0] = u32::try_from(major)?,
            (2, Value::Number(minor)) => parts[1] = u32::try_from(minor)?,
            (3, Value::Bytes(_)) => git = true,
            (4, Value::Number(sub)) => parts[2] = u32::try_from(sub)?,
            _ => {}
        }
        Ok(())
    })?;
    let [major, minor, sub] = parts.map(|part| part.min(1000));
    Ok(if git {
        major * 10_000 + (minor + 1) * 100
    } else {
        major * 10_000 + minor * 100 + sub
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_wire_format_says() {
        let mut message = Message::default();
        message.number(1, 150);
        message.int(2, -1);
        message.flag(3, true);
        message.flag(4, false);
        message.bytes(16, "mnt");
        let mut expected = vec![0x08, 0x96, 0x01, 0x10];
        expected.extend([0xff; 9]);
        expected.extend([0x01, 0x18, 0x01, 0x82, 0x01, 3, b'm', b'n', b't']);
        assert_eq!(message.as_bytes(), expected);
        assert_eq!(
            request(Kind::Dump, Some(&message)).as_bytes()[..3],
            [8, 1, 0x12]
        );
        assert_eq!(notified(true).as_bytes(), [8, 6, 0x18, 1]);
        assert_eq!(notified(false).as_bytes(), [8, 6, 0x18, 0]);
        let wanted = Features {
            mem_track: true,
            lazy_pages: false,
        };
        assert_eq!(feature_request(wanted).as_bytes(), [8, 9, 0x2a, 2, 8, 1]);
    }

    #[test]
    fn answers_are_read() {
        let mut notify = Message::default();
        notify.bytes(1, "post-restore");
        notify.int(2, 4711);
        let mut version = Message::default();
        version.number(1, 3);
        version.number(2, 17);
        version.number(4, 1);
        version.bytes(6, "a name");
        let mut answer = Message::default();
        answer.number(1, 6);
        answer.number(2, 1);
        answer.message(5, &notify);
        answer.int(7, -22);
        answer.bytes(9, "broken");
        answer.message(10, &version);
        answer.bytes(99, "of a later version");
        let read = Response::read(answer.as_bytes()).unwrap();
        assert_eq!(
            read,
            Response {
                kind: 6,
                success: true,
                notify: Some(Notify {
                    script: "post-restore".to_owned(),
                    pid: 4711
                }),
                errno: -22,
                message: "broken".to_owned(),
                features: Features::default(),
                version: 31701,
            }
        );
    }

    #[test]
    fn a_version_of_git_is_the_next_one() {
        let mut bytes = Message::default();
        bytes.number(1, 3);
        bytes.number(2, 14);
        bytes.bytes(3, "v3.14-5");
        assert_eq!(version(bytes.as_bytes()).unwrap(), 31500);
        let mut huge = Message::default();
        huge.number(1, u64::MAX);
        assert!(version(huge.as_bytes()).is_err());
    }

    #[test]
    fn no_bytes_whatever_break_the_reader() {
        for bad in [
            &[0x80][..],
            &[0x08],
            &[0x2a, 5, 1],
            &[0x0b],
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[
                0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
        ] {
            assert!(Response::read(bad).is_err(), "{bad:?}");
        }
        // A small generator: every length, many contents.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed.to_le_bytes()[0]
                })
                .collect();
            drop(Response::read(&bytes));
        }
    }
}

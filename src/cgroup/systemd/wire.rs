//! D-Bus messages as bytes: the few types that systemd's interface needs, written and read. Pure, and safe on hostile bytes:
//! every length is checked before it is used. Called by `dbus` and `manager`.
//! The format is the "Message Protocol" chapter of the D-Bus specification.

use anyhow::{Context, Result, bail, ensure};

/// Longer messages are refused. The specification allows 128 MiB; systemd sends kilobytes.
const LONGEST: usize = 16 << 20;
/// The fixed part of a header, up to and with the length of the field array.
pub(crate) const FIXED: usize = 16;

pub(crate) const METHOD_RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// What a unit's property can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    I32(i32),
    U64(u64),
    Str(String),
    Strs(Vec<String>),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(st)`
    Rates(Vec<(String, u64)>),
}

impl Value {
    pub(crate) fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::I32(_) => "i",
            Self::U64(_) => "t",
            Self::Str(_) => "s",
            Self::Strs(_) => "as",
            Self::Bytes(_) => "ay",
            Self::U32s(_) => "au",
            Self::Pairs(_) => "a(ss)",
            Self::Rates(_) => "a(st)",
        }
    }
}

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

/// The arguments of a call, with their signature.
#[derive(Debug, Default)]
pub(crate) struct Body {
    signature: String,
    out: Writer,
}

impl Body {
    pub(crate) fn string(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.out.string(text);
        self
    }

    pub(crate) fn boolean(mut self, value: bool) -> Self {
        self.signature.push('b');
        self.out.u32(u32::from(value));
        self
    }

    pub(crate) fn numbers(mut self, list: &[u32]) -> Self {
        self.signature.push_str("au");
        self.out.value(&Value::U32s(list.to_vec()));
        self
    }

    /// `a(sv)`
    pub(crate) fn properties(mut self, list: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        self.out.array(8, list, |out, property| {
            out.align(8);
            out.string(property.name);
            out.signature(property.value.signature());
            out.value(&property.value);
        });
        self
    }

    /// `a(sa(sv))` without an element: the auxiliary units of StartTransientUnit.
    pub(crate) fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        self.out.array(8, &[(); 0], |_, ()| {});
        self
    }
}

/// A method call. Without a destination on a connection that has no bus behind it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) destination: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) body: Body,
}

impl Call<'_> {
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut out = Writer::default();
        // Little endian, a method call, no flags, protocol version 1.
        out.bytes.extend([b'l', 1, 0, 1]);
        out.u32(length(self.body.out.bytes.len()));
        out.u32(serial);
        let fields = [
            (1, "o", Some(self.path)),
            (2, "s", Some(self.interface)),
            (3, "s", Some(self.member)),
            (6, "s", self.destination),
            (
                8,
                "g",
                Some(self.body.signature.as_str()).filter(|s| !s.is_empty()),
            ),
        ];
        out.array(8, &fields, |out, (code, signature, text)| {
            let Some(text) = text else { return };
            out.align(8);
            out.bytes.push(*code);
            out.signature(signature);
            if *signature == "g" {
                out.signature(text);
            } else {
                out.string(text);
            }
        });
        out.align(8);
        out.bytes.extend(&self.body.out.bytes);
        out.bytes
    }
}

/// Alignment is counted from the start, which for a body is a multiple of 8 in the message.
#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(0));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// The length, the padding that is not counted in it, the elements.
    fn array<T>(&mut self, align: usize, list: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.u32(0);
        let at = self.bytes.len();
        self.align(align);
        let start = self.bytes.len();
        for item in list {
            element(self, item);
        }
        let size = length(self.bytes.len() - start);
        self.bytes[at - 4..at].copy_from_slice(&size.to_le_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(v) => self.u32(u32::from(*v)),
            Value::I32(v) => {
                self.align(4);
                self.bytes.extend(v.to_le_bytes());
            }
            Value::U64(v) => self.u64(*v),
            Value::Str(v) => self.string(v),
            Value::Strs(list) => self.array(4, list, |out, v| out.string(v)),
            Value::Bytes(list) => self.array(1, list, |out, v| out.bytes.push(*v)),
            Value::U32s(list) => self.array(4, list, |out, v| out.u32(*v)),
            Value::Pairs(list) => self.array(8, list, |out, (a, b)| {
                out.align(8);
                out.string(a);
                out.string(b);
            }),
            Value::Rates(list) => self.array(8, list, |out, (a, b)| {
                out.align(8);
                out.string(a);
                out.u64(*b);
            }),
        }
    }
}

/// What is sent is made here and is never that long; a longer one would be refused by the other side.
fn length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// A message that came in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) reply_to: u32,
    pub(crate) sender: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error: String,
    signature: String,
    body: Vec<u8>,
    big: bool,
}

/// How long the message is that starts with these bytes; `None` as long as there are too few of them to know.
pub(crate) fn message_length(start: &[u8]) -> Result<Option<usize>> {
    let Some(fixed) = start.get(..FIXED) else {
        return Ok(None);
    };
    let mut reader = Reader::new(fixed, is_big(fixed[0])?);
    ensure!(
        fixed[3] == 1,
        "message of D-Bus protocol version {}",
        fixed[3]
    );
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let whole = (FIXED + fields).next_multiple_of(8) + body;
    ensure!(whole <= LONGEST, "D-Bus message of {whole} bytes");
    Ok(Some(whole))
}

fn is_big(mark: u8) -> Result<bool> {
    match mark {
        b'l' => Ok(false),
        b'B' => Ok(true),
        other => bail!("no D-Bus message starts with byte {other:#04x}"),
    }
}

/// Reads one whole message, of exactly the length that `message_length` says.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message> {
    let whole = message_length(bytes)?.context("D-Bus message without a header")?;
    ensure!(
        bytes.len() == whole,
        "D-Bus message of {} bytes, not {whole}",
        bytes.len()
    );
    let big = is_big(bytes[0])?;
    let mut reader = Reader::new(bytes, big);
    reader.at = 12;
    let end = FIXED + reader.u32()? as usize;
    let mut message = Message {
        kind: bytes[1],
        big,
        ..Message::default()
    };
    while reader.at < end {
        reader.align(8)?;
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (2, "s") => message.interface = reader.string()?,
            (3, "s") => message.member = reader.string()?,
            (4, "s") => message.error = reader.string()?,
            (5, "u") => message.reply_to = reader.u32()?,
            (7, "s") => message.sender = reader.string()?,
            (8, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "u" | "i" | "b" | "h") => drop(reader.u32()?),
            (_, "g") => drop(reader.signature()?),
            // None of today's fields; the others cannot be found behind it, and none of them is needed then.
            _ => break,
        }
    }
    message.body = bytes[end.next_multiple_of(8)..].to_vec();
    Ok(message)
}

impl Message {
    /// The arguments, if they are of these types.
    pub(crate) fn arguments(&self, signature: &str) -> Result<Reader<'_>> {
        ensure!(
            self.signature == signature,
            "D-Bus arguments of type `{}`, expected `{signature}`",
            self.signature.escape_debug()
        );
        Ok(Reader::new(&self.body, self.big))
    }

    /// The text of an error reply, which is its first argument.
    pub(crate) fn error_text(&self) -> String {
        let text = self
            .signature
            .starts_with('s')
            .then(|| Reader::new(&self.body, self.big).string().ok());
        text.flatten().unwrap_or_default()
    }
}

/// Takes values out of bytes, one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], big: bool) -> Self {
        Self { bytes, at: 0, big }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.context("D-Bus message ends too early")?;
        self.at += count;
        Ok(found)
    }

    pub(crate) fn align(&mut self, to: usize) -> Result<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into()?;
        Ok(if self.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// A variant; `None` for a type that is not a `Value`.
    pub(crate) fn variant(&mut self) -> Result<Option<Value>> {
        let signature = self.signature()?;
        Ok(Some(match signature.as_str() {
            "b" => Value::Bool(self.u32()? != 0),
            "t" => Value::U64(self.u64()?),
            "s" => Value::Str(self.string()?),
            "ay" => {
                let size = self.u32()? as usize;
                Value::Bytes(self.take(size)?.to_vec())
            }
            "a(st)" => {
                let size = self.u32()? as usize;
                self.align(8)?;
                let end = self.at.saturating_add(size);
                let mut list = Vec::new();
                while self.at < end {
                    self.align(8)?;
                    list.push((self.string()?, self.u64()?));
                }
                Value::Rates(list)
            }
            _ => return Ok(None),
        }))
    }

    fn u64(&mut self) -> Result<u64> {
        self.align(8)?;
        let bytes: [u8; 8] = self.take(8)?.try_into()?;
        Ok(if self.big {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        })
    }

    /// Also an object path.
    pub(crate) fn string(&mut self) -> Result<String> {
        let size = self.u32()? as usize;
        self.text(size)
    }

    pub(crate) fn signature(&mut self) -> Result<String> {
        let size = usize::from(self.byte()?);
        self.text(size)
    }

    fn text(&mut self, size: usize) -> Result<String> {
        let text = std::str::from_utf8(self.take(size)?).context("D-Bus string")?;
        ensure!(self.byte()? == 0, "D-Bus string without its end");
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests;

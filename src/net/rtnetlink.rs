//! The five requests of rtnetlink(7) that moving a network device takes, over one socket, which stays in the network namespace
//! it was opened in. Called by `mod.rs`. Framing, headers and addresses are the netlink crates'; attributes of links are passed
//! as they are, so that a kernel with newer ones is no error.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// linux/rtnetlink.h and linux/if_link.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// As the kernel suggests (netlink.h, NLMSG_GOODSIZE and larger answers to dumps).
const BUFFER: usize = 64 << 10;

/// A device at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
}

/// Administrative state to set.
#[derive(Clone, Copy)]
pub(super) enum State {
    Up,
    Down,
}

/// The payload of a message, not looked into.
#[derive(Debug)]
struct Raw {
    kind: u16,
    payload: Vec<u8>,
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

impl NetlinkDeserializable for Raw {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Raw {
            kind: header.message_type,
            payload: payload.to_owned(),
        })
    }
}

pub(super) struct Rtnetlink {
    socket: Socket,
    sequence: u32,
}

impl Rtnetlink {
    /// In the network namespace of the caller.
    pub(super) fn open() -> Result<Rtnetlink> {
        let open = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Rtnetlink {
            socket: open().context("open a netlink socket")?,
            sequence: 0,
        })
    }

    pub(super) fn link(&mut self, name: &str) -> Result<Link> {
        let payload = link_payload(&LinkHeader::default(), &[name_attribute(name)]);
        let answer = self.request(RTM_GETLINK, NLM_F_ACK, payload)?;
        let found = answer.first().context("the kernel sent no answer")?;
        let header = LinkHeader::parse(&found.payload)?;
        Ok(Link {
            index: header.index,
            up: header.flags.contains(LinkFlags::Up),
        })
    }

    pub(super) fn set_state(&mut self, index: u32, state: State) -> Result<()> {
        let flags = match state {
            State::Up => LinkFlags::Up,
            State::Down => LinkFlags::empty(),
        };
        let header = LinkHeader {
            index,
            flags,
            change_mask: LinkFlags::Up,
            ..Default::default()
        };
        self.request(RTM_NEWLINK, NLM_F_ACK, link_payload(&header, &[]))
            .map(drop)
    }

    /// Namespace and name in one request: under neither name does the device meet another one on its way.
    pub(super) fn move_to(
        &mut self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> Result<()> {
        let header = LinkHeader {
            index,
            ..Default::default()
        };
        let namespace = namespace.as_raw_fd().to_ne_bytes().to_vec();
        let attributes = [
            DefaultNla::new(IFLA_NET_NS_FD, namespace),
            name_attribute(name),
        ];
        self.request(RTM_NEWLINK, NLM_F_ACK, link_payload(&header, &attributes))
            .map(drop)
    }

    /// The addresses that a device keeps when it moves: permanent ones of global scope, as others were made by the network it
    /// was in.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<AddressMessage>> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Unspec;
        let answer = self.request(RTM_GETADDR, NLM_F_DUMP, bytes(&request))?;
        let mut addresses = Vec::new();
        for raw in answer.iter().filter(|raw| raw.kind == RTM_NEWADDR) {
            let address = AddressMessage::parse(&raw.payload[..])?;
            let flags = u32::from(address.header.flags.bits());
            if address.header.index == index
                && address.header.scope == AddressScope::Universe
                && flags & AddressFlags::Permanent.bits() != 0
            {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// Gives an address that was another device's to this one; without the label, which has the other's name.
    pub(super) fn add_address(&mut self, index: u32, address: &AddressMessage) -> Result<()> {
        let kept = AddressFlags::Nodad | AddressFlags::Noprefixroute | AddressFlags::Mcautojoin;
        let mut address = address.clone();
        address.header.index = index;
        address.header.flags = AddressHeaderFlags::default();
        address.attributes.retain_mut(|attribute| match attribute {
            AddressAttribute::Flags(flags) => {
                *flags = flags.intersection(kept);
                true
            }
            AddressAttribute::Address(_)
            | AddressAttribute::Local(_)
            | AddressAttribute::Broadcast(_)
            | AddressAttribute::RoutePriority(_) => true,
            _ => false,
        });
        self.request(RTM_NEWADDR, NLM_F_ACK, bytes(&address))
            .map(drop)
    }

    /// One request and everything that comes back for it.
    fn request(&mut self, kind: u16, flags: u16, payload: Vec<u8>) -> Result<Vec<Raw>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let body = NetlinkPayload::InnerMessage(Raw { kind, payload });
        let mut message = NetlinkMessage::new(header, body);
        message.finalize();
        let mut packet = vec![0; message.buffer_len()];
        message.serialize(&mut packet);
        self.socket.send(&packet, 0).context("send to rtnetlink")?;
        let mut answer = Vec::new();
        while !self.receive(&mut answer)? {}
        Ok(answer)
    }

    /// Reads one datagram; true when the answer is complete.
    fn receive(&mut self, answer: &mut Vec<Raw>) -> Result<bool> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let len = self
            .socket
            .recv(&mut buffer, 0)
            .context("read from rtnetlink")?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Raw>::deserialize(rest)?;
            let taken = usize::try_from(message.header.length)?.next_multiple_of(4);
            rest = rest.get(taken..).unwrap_or_default();
            match message.payload {
                _ if message.header.sequence_number != self.sequence => {}
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                NetlinkPayload::InnerMessage(raw) => answer.push(raw),
                NetlinkPayload::Overrun(_) => bail!("rtnetlink lost a part of its answer"),
                _ => {}
            }
        }
        Ok(false)
    }
}

fn name_attribute(name: &str) -> DefaultNla {
    DefaultNla::new(IFLA_IFNAME, [name.as_bytes(), b"\0"].concat())
}

fn link_payload(header: &LinkHeader, attributes: &[DefaultNla]) -> Vec<u8> {
    [bytes(header), bytes(&attributes)].concat()
}

fn bytes(part: &impl Emitable) -> Vec<u8> {
    let mut buffer = vec![0; part.buffer_len()];
    part.emit(&mut buffer);
    buffer
}

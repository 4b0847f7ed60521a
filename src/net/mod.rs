//! Makes network namespaces and brings their loopback interface up. Moves network devices of the runtime's network namespace into
//! the container's, with their name or another, and with their addresses; and back again when the container does not come to be.
//! Called by `container` after the clone and before the init goes on. Once the container runs they are the namespace's: when it
//! ends the kernel sends physical devices to the host's first network namespace and destroys virtual ones.

mod rtnetlink;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, anyhow, bail};
use netlink_packet_route::address::AddressMessage;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, fstat};

use self::rtnetlink::{Link, Rtnetlink, State};
use crate::error;
use crate::log;
use crate::plan::net_devices::NetDevice;
use crate::sys;

/// Devices in the container. Dropped without [`Moved::keep`] they come back.
pub(crate) struct Moved {
    own: OwnedFd,
    here: Rtnetlink,
    there: Rtnetlink,
    devices: Vec<Trip>,
}

/// What a device was before.
struct Trip {
    name: String,
    inside: String,
    link: Link,
    addresses: Vec<AddressMessage>,
}

/// Makes a network namespace for a container, with its loopback interface up. This process is in it only meanwhile. `give` gets it
/// as soon as it is there.
pub(crate) fn make_namespace(give: impl FnOnce(OwnedFd) -> Result<()>) -> Result<()> {
    let own = own_namespace()?;
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    let made = own_namespace().and_then(give);
    let made = made.and_then(|()| loopback_up());
    return_to(&own).and(made)
}

fn own_namespace() -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, "/proc/self/ns/net", flags, Mode::empty())
        .context("open the runtime's own network namespace")
}

fn return_to(own: &OwnedFd) -> Result<()> {
    setns(own, CloneFlags::CLONE_NEWNET).context("return to the runtime's own network namespace")
}

/// Brings the loopback interface of another network namespace up.
pub(crate) fn raise_loopback(namespace: BorrowedFd<'_>) -> Result<()> {
    let own = own_namespace()?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .context("enter the container's network namespace")?;
    let raised = loopback_up();
    return_to(&own).and(raised)
}

/// The same here; two system calls instead of a netlink conversation.
pub(crate) fn loopback_up() -> Result<()> {
    let none = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, none, None)
        .context("open a socket to bring the loopback interface up")?;
    sys::process::loopback_up(socket.as_fd()).context("bring the loopback interface `lo` up")
}

/// Moves all of them, or none.
pub(crate) fn move_all(devices: &[NetDevice], namespace: BorrowedFd<'_>) -> Result<Moved> {
    let own = own_namespace()?;
    let (ours, theirs) = (fstat(&own)?, fstat(namespace)?);
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        bail!("linux.netDevices: the container's network namespace is the runtime's own");
    }
    let here = Rtnetlink::open()?;
    // A netlink socket stays where it was opened, so only this is done over there.
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .context("enter the container's network namespace")?;
    let there = Rtnetlink::open();
    return_to(&own)?;
    let mut moved = Moved {
        own,
        here,
        there: there?,
        devices: Vec::new(),
    };
    for device in devices {
        moved
            .take(device, namespace)
            .with_context(|| format!("linux.netDevices[{:?}]", device.name))?;
    }
    Ok(moved)
}

impl Moved {
    fn take(&mut self, device: &NetDevice, namespace: BorrowedFd<'_>) -> Result<()> {
        let NetDevice { name, inside } = device;
        let link = self
            .here
            .link(name)
            .context("find the network device in the runtime's network namespace")?;
        if self.there.link(inside).is_ok() {
            return Err(anyhow!(Errno::EEXIST).context(format!(
                "a network device `{inside}` is already in the container's network namespace"
            )));
        }
        // Before it is taken down: that alone costs it its IPv6 addresses.
        let addresses = self
            .here
            .addresses(link.index)
            .context("list its addresses")?;
        self.devices.push(Trip {
            name: name.clone(),
            inside: inside.clone(),
            link,
            addresses: addresses.clone(),
        });
        self.here
            .set_state(link.index, State::Down)
            .context("take it down")?;
        let moved = self.here.move_to(link.index, namespace, inside);
        moved.map_err(|error| {
            let hint = match error.chain().find_map(error::errno_of) {
                Some(Errno::EINVAL) => {
                    " (hint: a loopback, bridge or tunnel device may be bound to its network namespace)"
                }
                _ => "",
            };
            error.context(format!(
                "move it to the container's network namespace as `{inside}`{hint}"
            ))
        })?;
        // Its number is another one if that was taken over there.
        let arrived = self.there.link(inside).context("find it there")?;
        furnish(&mut self.there, arrived.index, &addresses, State::Up)
    }

    /// They are the container's now.
    pub(crate) fn keep(mut self) {
        self.devices.clear();
    }

    fn bring_back(&mut self, trip: &Trip) -> Result<()> {
        let Trip {
            name,
            inside,
            link,
            addresses,
        } = trip;
        // Still here if the move itself failed. Over there under its old name if only the new one was refused.
        if self.here.link(name).is_err() {
            let found = self.there.link(inside).or_else(|_| self.there.link(name))?;
            self.there.set_state(found.index, State::Down)?;
            self.there.move_to(found.index, self.own.as_fd(), name)?;
        }
        let back = self.here.link(name)?;
        let state = if link.up { State::Up } else { State::Down };
        furnish(&mut self.here, back.index, addresses, state)
    }
}

/// Addresses, then the state: IPv6 looks for duplicates once the device is up.
fn furnish(
    at: &mut Rtnetlink,
    index: u32,
    addresses: &[AddressMessage],
    state: State,
) -> Result<()> {
    for address in addresses {
        match at.add_address(index, address) {
            // Still there: it had never left.
            Err(error) if error.chain().find_map(error::errno_of) == Some(Errno::EEXIST) => {}
            other => other.context("give it its addresses")?,
        }
    }
    at.set_state(index, state).context("set its state")
}

impl Drop for Moved {
    fn drop(&mut self) {
        for trip in std::mem::take(&mut self.devices).iter().rev() {
            if let Err(error) = self.bring_back(trip) {
                log::warn(format_args!(
                    "bring network device `{}` back: {}",
                    trip.name,
                    error::chain(&error)
                ));
            }
        }
    }
}

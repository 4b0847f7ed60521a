//! What `checkpoint` and `restore` can ask of CRIU in the same words, and how it is written into a request. Filled by `cli`.

use anyhow::{Context as _, Result, bail, ensure};

use super::rpc::Message;

/// Flags that both verbs have.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one field a flag")]
pub(crate) struct Common {
    pub(crate) ext_unix_sk: bool,
    pub(crate) tcp_established: bool,
    pub(crate) tcp_close: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) cgroups: Option<CgroupsMode>,
    pub(crate) network_lock: Option<NetworkLock>,
}

/// `--manage-cgroups-mode`; the numbers of `criu_cg_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
}

/// CRIU's own choice.
const DEFAULT_CGROUPS_MODE: u64 = 6;

impl std::str::FromStr for CgroupsMode {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "soft" => CgroupsMode::Soft,
            "full" => CgroupsMode::Full,
            "strict" => CgroupsMode::Strict,
            "ignore" => CgroupsMode::Ignore,
            _ => bail!("is none of soft, full, strict, ignore"),
        })
    }
}

/// `--network-lock`; the numbers of `criu_network_lock_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkLock {
    Iptables = 1,
    Nftables = 2,
    Skip = 3,
}

impl std::str::FromStr for NetworkLock {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "iptables" => NetworkLock::Iptables,
            "nftables" => NetworkLock::Nftables,
            "skip" => NetworkLock::Skip,
            _ => bail!("is none of iptables, nftables, skip"),
        })
    }
}

/// `--page-server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageServer {
    pub(crate) address: String,
    pub(crate) port: u16,
}

impl std::str::FromStr for PageServer {
    type Err = anyhow::Error;

    /// `ADDRESS:PORT`, with an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let (address, port) = text.rsplit_once(':').context("is not ADDRESS:PORT")?;
        let inner = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        ensure!(
            inner.is_some() || !address.contains(':'),
            "an IPv6 address needs brackets: [ADDRESS]:PORT"
        );
        let address = inner.unwrap_or(address);
        let port: u16 = port.parse().context("the port is no number")?;
        ensure!(!address.is_empty() && port != 0, "is not ADDRESS:PORT");
        Ok(PageServer {
            address: address.to_owned(),
            port,
        })
    }
}

impl Common {
    /// The fields of `criu_opts` that both requests have.
    pub(super) fn write(&self, log: &str, images: i32, work: i32, options: &mut Message) {
        options.int(1, images);
        options.flag(4, self.ext_unix_sk);
        options.flag(5, self.tcp_established);
        options.flag(7, self.shell_job);
        options.flag(8, self.file_locks);
        // Everything but the debug messages.
        options.int(9, 4);
        options.bytes(10, log);
        options.flag(12, true);
        options.flag(16, self.auto_dedup);
        options.int(17, work);
        // The boolean is for old versions.
        options.flag(24, true);
        let mode = self
            .cgroups
            .map_or(DEFAULT_CGROUPS_MODE, |mode| mode as u64);
        options.number(34, mode);
        // As runc: interfaces, addresses and routes of a container's own network namespace are its engine's matter, which
        // makes them again in a prestart hook.
        options.number(38, u64::from(libc::CLONE_NEWNET.cast_unsigned()));
        options.flag(48, self.lazy_pages);
        options.flag(50, true);
        options.flag(52, self.tcp_close);
        if let Some(lock) = self.network_lock {
            options.number(64, lock as u64);
        }
    }
}

/// The configuration file of CRIU: the annotation's, none where that is empty, else the one of runc, which hosts already have.
pub(super) fn config_file(annotation: Option<&str>) -> Option<&str> {
    Some(annotation.unwrap_or("/etc/criu/runc.conf")).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_addresses() {
        assert_eq!("soft".parse::<CgroupsMode>().unwrap() as u64, 3);
        assert_eq!("ignore".parse::<CgroupsMode>().unwrap() as u64, 0);
        assert!("Soft".parse::<CgroupsMode>().is_err());
        assert_eq!("skip".parse::<NetworkLock>().unwrap() as u64, 3);
        assert!("".parse::<NetworkLock>().is_err());
        let server = |text: &str| text.parse::<PageServer>();
        assert_eq!(server("10.0.0.1:27").unwrap().port, 27);
        assert_eq!(server("[fe80::1]:9").unwrap().address, "fe80::1");
        for bad in [
            "",
            "host",
            ":80",
            "host:",
            "host:0",
            "host:70000",
            "fe80::1:9",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_configuration_file() {
        assert_eq!(config_file(None), Some("/etc/criu/runc.conf"));
        assert_eq!(config_file(Some("")), None);
        assert_eq!(config_file(Some("/x")), Some("/x"));
    }
}

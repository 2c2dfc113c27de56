//! From the keys of corosync.conf to a [`Config`]: what each means, and what it is when it is not set.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::grammar::Entry;
use super::reader::Reader;
use super::{
    Config, ConfigError, DcConfig, Host, Place, Problem, Setting, Source, TotemConfig, TransportKind,
    Warning, defaults, grammar,
};
use crate::Seq;

/// What the command line says against, or in addition to, the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// `--name`: which of the listed nodes this is (its name, address or id); without a node list, what it is called.
    pub name: Option<String>,
    /// `--expected-votes`, instead of `quorum.expected_votes` and of the node list's sum.
    pub expected_votes: Option<u32>,
    /// `--clear-text`: the wish to speak clear text, as `secauth: off` expresses it.
    pub clear_text: bool,
}

/// A configuration that has been read and checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// What the node is to do.
    pub config: Config,
    /// Every effective value, with where it comes from.
    pub settings: Vec<Setting>,
    /// What the user should know: first of the file as a whole, then of its lines.
    pub warnings: Vec<Warning>,
}

/// Reads a file for a host.
///
/// # Errors
/// As [`parse`], and if the file cannot be read.
#[cfg(feature = "tokio")]
pub fn load(path: &std::path::Path, overrides: &Overrides, host: &Host) -> Result<Loaded, ConfigError> {
    parse(&path.display().to_string(), &read(path)?, overrides, host)
}

/// Reads a file's text, and hardly more of it than the grammar allows.
///
/// # Errors
/// If the file cannot be read.
#[cfg(feature = "tokio")]
pub fn read(path: &std::path::Path) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read;

    let mut text = Vec::new();
    let limit = grammar::MAX_TEXT as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| ConfigError {
        place: Some(Place { file: path.display().to_string(), line: None }),
        problem: Problem::Unreadable(error.to_string()),
    })
}

/// Reads a text for a host; `file` is what errors and warnings call it.
///
/// # Errors
/// If corosync would refuse it, if it asks for what cannot be done here, or if it contradicts itself.
pub fn parse(file: &str, text: &[u8], overrides: &Overrides, host: &Host) -> Result<Loaded, ConfigError> {
    let document = parse_document(file, text)?;
    let mut reader = Reader::new(file, &document, overrides, host);
    let config = reader.config()?;
    config.check().map_err(|error| reader.locate(error))?;
    for text in config.warnings() {
        reader.warn(None, text);
    }
    reader.warn_about_the_rest();
    Ok(Loaded { config, settings: reader.settings, warnings: reader.warnings })
}

/// Reads a text as far as the grammar goes.
///
/// # Errors
/// At the first line that breaks it.
pub fn parse_document(file: &str, text: &[u8]) -> Result<grammar::Document, ConfigError> {
    grammar::parse(text).map_err(|error| ConfigError {
        place: Some(Place { file: file.to_owned(), line: Some(error.line) }),
        problem: Problem::Syntax(error.problem),
    })
}

/// What a number of corosync.conf may be, unless something narrower is said.
pub(super) const ANY: RangeInclusive<u32> = 0..=u32::MAX;

impl Reader<'_> {
    fn config(&mut self) -> Result<Config, ConfigError> {
        self.version()?;
        let transport = self.transport()?;
        self.clear_text()?;
        self.ip_version()?;
        let clear_high_bit = self.yes_no("totem.clear_node_high_bit");
        let interface = self.interface_section()?;
        let listed = self.nodes(transport, clear_high_bit)?;
        let local = self.local(&listed, transport)?;
        let bind = self.bind(interface, local, transport)?;
        let (node, name) = self.identity(local, bind, clear_high_bit)?;
        let cluster_name = self.cluster_name();
        let network = self.network(interface, transport, bind, cluster_name.as_deref())?;
        let lease = match self.take("quorate.lease") {
            Some(entry) => Some((u64::from(self.number(entry, 1..=u32::MAX)?), entry)),
            None => None,
        };
        let totem = self.totem(listed.len(), lease.map(|(lease, _)| lease))?;
        let listed_votes = local.map(|listed| listed.member.votes);
        let priority = local.map_or(defaults::DC_PRIORITY, |listed| listed.dc_priority);
        let dc = self.dc(priority, lease, &totem)?;
        let nodes: Vec<_> = listed.into_iter().map(|listed| listed.member).collect();
        let quorum = self.quorum(&nodes, listed_votes)?;
        Ok(Config { node, name, cluster_name, nodes, totem, network, quorum, dc })
    }

    /// Puts an error of [`Config::check`] at the line that set one of its values.
    fn locate(&self, error: ConfigError) -> ConfigError {
        let Problem::Broken { key, mut value, rule, other } = error.problem else {
            return self.error(None, error.problem);
        };
        let source = |key: &str| self.settings.iter().find(|setting| setting.key == key).map(|s| &s.source);
        let line = |key: &str| match source(key) {
            Some(Source::File(place)) => place.line,
            _ => None,
        };
        if let Some(source @ (Source::Derived { .. } | Source::Default)) = source(key) {
            value = format!("{value}, {source}");
        }
        self.error(line(key).or_else(|| line(other?)), Problem::Broken { key, value, rule, other })
    }

    fn version(&mut self) -> Result<(), ConfigError> {
        match self.take("totem.version") {
            None => {
                let advice = "write `version: 2` into section totem";
                Err(self.error(None, Problem::Missing { key: "totem.version", advice }))
            }
            Some(entry) if self.number(entry, ANY)? == 2 => Ok(()),
            Some(entry) => Err(self.not_one_of(entry, "2")),
        }
    }

    fn transport(&mut self) -> Result<TransportKind, ConfigError> {
        const KEY: &str = "totem.transport";
        let Some(entry) = self.take(KEY) else {
            self.warn(None, "totem.transport is not set: it is udp here, where corosync 3 would use knet");
            self.show(KEY, "udp", "", Source::Default);
            return Ok(TransportKind::Multicast);
        };
        let transport = match entry.value.as_str() {
            "udp" => TransportKind::Multicast,
            "local" => TransportKind::Local,
            "knet" => return Err(self.unsupported(entry, "write `transport: udp`, on all nodes")),
            "udpu" => {
                let advice =
                    "it is not there yet: write `transport: udp` where multicast passes, on all nodes";
                return Err(self.unsupported(entry, advice));
            }
            _ => return Err(self.not_one_of(entry, "udp, or local for several nodes on one host")),
        };
        self.show(KEY, entry.value.as_str(), "", self.line(entry));
        Ok(transport)
    }

    /// Encryption is refused; clear text should be asked for.
    fn clear_text(&mut self) -> Result<(), ConfigError> {
        let secauth = self.take("totem.secauth");
        let cipher = self.take("totem.crypto_cipher");
        let hash = self.take("totem.crypto_hash");
        // Whoever writes `secauth: yes` believes that it does something.
        if let Some(entry) = secauth.filter(|entry| !matches!(entry.value.as_str(), "on" | "off")) {
            return Err(self.not_one_of(entry, "off"));
        }
        // `secauth: on` stands for a cipher and a hash; each that is set by itself counts instead.
        let implied = secauth.filter(|entry| entry.value == "on");
        let asked_for = [cipher.or(implied), hash.or(implied)].into_iter().flatten();
        if let Some(entry) = asked_for.into_iter().find(|entry| entry.value != "none") {
            let advice = "transport udp has clear text only: write `secauth: off`, on all nodes, and set \
                          crypto_cipher and crypto_hash to none or remove them";
            return Err(self.unsupported(entry, advice));
        }
        let source = if let Some(entry) = cipher.or(secauth) {
            self.line(entry)
        } else if self.overrides.clear_text {
            Source::CommandLine
        } else {
            self.warn(
                None,
                "the ring speaks clear text, though nobody asked for it; say so by `secauth: off` or \
                 `crypto_cipher: none` in section totem, or by --clear-text",
            );
            Source::Default
        };
        self.show("totem.crypto_cipher", "none", "", source);
        Ok(())
    }

    fn ip_version(&mut self) -> Result<(), ConfigError> {
        const KEY: &str = "totem.ip_version";
        let Some(entry) = self.take(KEY) else {
            self.show(KEY, "ipv4", "", Source::Default);
            return Ok(());
        };
        match entry.value.as_str() {
            "ipv4" | "ipv4-6" => {
                self.show(KEY, entry.value.as_str(), "", self.line(entry));
                Ok(())
            }
            "ipv6" | "ipv6-4" => Err(self.unsupported(entry, "write `ip_version: ipv4`, on all nodes")),
            _ => Err(self.not_one_of(entry, "ipv4")),
        }
    }

    /// The timeouts and limits, for a list of this many nodes, and the lease in milliseconds if there is one in the file.
    fn totem(&mut self, listed_nodes: usize, lease: Option<u64>) -> Result<TotemConfig, ConfigError> {
        const TIMEOUT: RangeInclusive<u32> = defaults::MIN_TIMEOUT as u32..=u32::MAX;
        const RETRANSMITS: &str = "totem.token_retransmits_before_loss_const";
        let (ms, default) = (Duration::from_millis, || Source::Default);

        let token = self.token(listed_nodes)?;
        let retransmits =
            self.number_of(RETRANSMITS, "", defaults::TOKEN_RETRANSMITS_BEFORE_LOSS, default())?;
        // Both are corosync's, or as short as a lease asks for, which no neighbour minds.
        let slowest = defaults::token_retransmit(token, retransmits);
        let (set, set_at) = self.take_number("totem.token_retransmit", slowest, default())?;
        let usual = defaults::hold(set);
        let fitting = defaults::hold_for(lease.unwrap_or(defaults::LEASE), set);
        let source = match fitting < usual {
            true => format!("quorate.lease; corosync's is {usual} ms"),
            false => "totem.token_retransmit".to_owned(),
        };
        let (hold, hold_at) = self.take_number("totem.hold", fitting, Source::derived(source))?;
        let soon = defaults::retransmit_after(hold, slowest);
        let (token_retransmit, source) = match set_at {
            Source::File(_) => (set, set_at),
            _ if soon < slowest => (soon, Source::derived(format!("totem.hold; corosync's is {slowest} ms"))),
            _ => (slowest, Source::derived(format!("totem.token and {RETRANSMITS}"))),
        };
        self.show("totem.token_retransmit", token_retransmit, "ms", source);
        self.show("totem.hold", hold, "ms", hold_at);
        let join = self.number_of("totem.join", "ms", defaults::JOIN, default())?;
        let send_join = self.number_or_zero("totem.send_join", "ms", 0)?;
        let consensus = self.number_of(
            "totem.consensus",
            "ms",
            defaults::consensus(token),
            Source::derived("totem.token"),
        )?;
        let merge = self.number_of("totem.merge", "ms", defaults::MERGE, default())?;
        let totem = TotemConfig {
            token: ms(token),
            token_coefficient: Duration::ZERO,
            token_retransmit: ms(token_retransmit),
            hold: ms(hold),
            join: ms(join),
            send_join: ms(send_join),
            consensus: ms(consensus),
            merge: ms(merge),
            fail_recv_const: self.count("totem.fail_recv_const", "rotations", defaults::FAIL_RECV)?,
            seqno_unchanged_const: self.count(
                "totem.seqno_unchanged_const",
                "rotations",
                defaults::SEQNO_UNCHANGED,
            )?,
            window_size: self.count("totem.window_size", "frames", defaults::WINDOW_SIZE)?,
            max_messages: self.count("totem.max_messages", "frames", defaults::MAX_MESSAGES)?,
            largest_window: self.largest_window()?,
            miss_count_const: self.count("totem.miss_count_const", "visits", defaults::MISS_COUNT)?,
            netmtu: self.count("totem.netmtu", "bytes", defaults::NETMTU)?,
            cancel_token_hold_on_retransmit: self.yes_no("totem.cancel_token_hold_on_retransmit"),
            failure_evidence: self.yes_no_else("quorate.failure_evidence", true),
            probe: ms(self.number_or_zero("quorate.probe", "ms", defaults::PROBE)?),
            unread_limit: self.count("quorate.unread_limit", "bytes", defaults::UNREAD_LIMIT)? as usize,
            first_seq: Seq::new(0),
        };
        self.without_effect("totem.token_warning", 0..=100)?;
        self.without_effect("totem.heartbeat_failures_allowed", ANY)?;
        self.without_effect("totem.max_network_delay", TIMEOUT)?;
        self.without_effect("totem.downcheck", TIMEOUT)?;
        Ok(totem)
    }

    /// The token timeout that counts, coefficient included.
    fn token(&mut self, listed_nodes: usize) -> Result<u64, ConfigError> {
        let (token, source) = self.take_number("totem.token", defaults::TOKEN, Source::Default)?;
        let coefficient =
            self.number_or_zero("totem.token_coefficient", "ms", defaults::TOKEN_COEFFICIENT)?;
        let effective = defaults::effective_token(token, coefficient, listed_nodes);
        let source = if effective == token {
            source
        } else {
            Source::derived(format!(
                "{token} ms ({source}) and totem.token_coefficient, for a list of {listed_nodes} nodes"
            ))
        };
        self.show("totem.token", effective, "ms", source);
        Ok(effective)
    }

    /// A number for which 0 stands for the default.
    fn take_number(
        &mut self,
        path: &str,
        otherwise: u64,
        source: Source,
    ) -> Result<(u64, Source), ConfigError> {
        if let Some(entry) = self.take(path) {
            let number = self.number(entry, ANY)?;
            if number != 0 {
                return Ok((number.into(), self.line(entry)));
            }
        }
        Ok((otherwise, source))
    }

    /// The same, shown.
    fn number_of(
        &mut self,
        path: &str,
        unit: &'static str,
        otherwise: u64,
        source: Source,
    ) -> Result<u64, ConfigError> {
        let (number, source) = self.take_number(path, otherwise, source)?;
        self.show(path, number, unit, source);
        Ok(number)
    }

    /// A number for which 0 stands for itself.
    pub(super) fn number_or_zero(
        &mut self,
        path: &str,
        unit: &'static str,
        otherwise: u64,
    ) -> Result<u64, ConfigError> {
        let Some(entry) = self.take(path) else {
            self.show(path, otherwise, unit, Source::Default);
            return Ok(otherwise);
        };
        let number = self.number(entry, ANY)?;
        self.show(path, number, unit, self.line(entry));
        Ok(number.into())
    }

    fn count(&mut self, path: &str, unit: &'static str, otherwise: u32) -> Result<u32, ConfigError> {
        let number = self.number_of(path, unit, otherwise.into(), Source::Default)?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A number that corosync heeds and this program does not; 0 stands for the default, or for off.
    fn without_effect(&mut self, path: &str, range: RangeInclusive<u32>) -> Result<(), ConfigError> {
        if let Some(entry) = self.take(path)
            && self.number(entry, ANY)? != 0
        {
            self.number(entry, range)?;
            self.warn(Some(entry.line), format!("{path}: not implemented yet, ignored"));
        }
        Ok(())
    }

    /// Who sets corosync's windows means them, whoever the members are.
    fn largest_window(&mut self) -> Result<u32, ConfigError> {
        let set = ["totem.window_size", "totem.max_messages"].into_iter().any(|path| self.is_given(path));
        let otherwise = if set { 0 } else { defaults::LARGEST_WINDOW };
        let frames = self.number_or_zero("quorate.window_size", "frames", otherwise.into())?;
        Ok(u32::try_from(frames).unwrap_or(u32::MAX))
    }

    /// Who is to be DC and how long it may act; this node's priority is in the node list.
    fn dc(
        &mut self,
        priority: u32,
        lease: Option<(u64, &Entry)>,
        totem: &TotemConfig,
    ) -> Result<DcConfig, ConfigError> {
        let ms = Duration::from_millis;
        let preempt = self.yes_no("quorate.preempt");
        let deadtime = self.number_or_zero("quorate.dc_deadtime", "ms", defaults::DC_DEADTIME)?;
        let rate_error =
            self.number_or_zero("quorate.rate_error", "millionths", defaults::RATE_ERROR.into())?;
        let rate_error = u32::try_from(rate_error).unwrap_or(u32::MAX);
        let lease_of = lease.map(|(lease, _)| ms(lease));
        let dc = DcConfig { priority, preempt, deadtime: ms(deadtime), rate_error, lease: lease_of };
        let counts = u64::try_from(dc.lease(totem).as_millis()).unwrap_or(u64::MAX);
        let source = match lease {
            Some((_, entry)) => self.line(entry),
            None if counts > defaults::LEASE => Source::derived("totem.hold and totem.token_retransmit"),
            None if counts < defaults::LEASE => Source::derived("totem.token and quorate.rate_error"),
            None => Source::Default,
        };
        self.show("quorate.lease", counts, "ms", source);
        Ok(dc)
    }
}

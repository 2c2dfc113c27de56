//! Conversion of corosync.conf's keys to a [`Config`], with their meanings and defaults.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::grammar::{self, Entry, SyntaxError};
use super::nodes::Listed;
use super::reader::Reader;
use super::{
    Config, ConfigError, DcConfig, Host, Metadata, Place, Problem, Rejected, Setting, Source, TotemConfig,
    TransportKind, Warning, defaults,
};
use crate::Seq;

/// Command line options that replace or supplement the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// `--name`: selects this node in the node list by name, address or id. Without a node list it
    /// is the node's name.
    pub name: Option<String>,
    /// `--expected-votes`: replaces `quorum.expected_votes` and the node list's sum.
    pub expected_votes: Option<u32>,
    /// `--clear-text`: accepts clear text, as `secauth: off` does.
    pub clear_text: bool,
}

/// A configuration that has been read and checked.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every effective value, with its source.
    pub settings: Vec<Setting>,
    /// The warnings, first those about the whole file, then those about its lines.
    pub warnings: Vec<Warning>,
}

/// Reads a text for a host. Errors and warnings refer to the text as `file`. For an
/// unknown host, the configuration is that of the first listed node.
///
/// # Errors
/// If corosync would refuse the text, if it requires an unsupported feature, or if it contradicts
/// itself. The error has all problems and warnings.
pub fn parse(file: &str, text: &[u8], overrides: &Overrides, host: &Host) -> Result<Loaded, Rejected> {
    let (document, syntax) = grammar::parse(text);
    let mut reader = Reader::new(file, &document, overrides, host);
    reader.structure(syntax);
    let config = reader.config();
    reader.check(&config);
    if reader.errors.is_empty() {
        reader.show_what_counts(&config);
        for text in config.warnings() {
            reader.warn(None, text);
        }
    }
    reader.warn_about_the_rest();
    let Reader { settings, warnings, mut errors, .. } = reader;
    if errors.is_empty() {
        return Ok(Loaded { config, settings, warnings });
    }
    errors.sort_by_key(|error| error.place.as_ref().and_then(|place| place.line));
    Err(Rejected { errors, warnings })
}

/// Parses a text by the grammar alone.
///
/// # Errors
/// With every line that breaks the grammar.
pub fn parse_document(file: &str, text: &[u8]) -> Result<grammar::Document, Rejected> {
    let (document, syntax) = grammar::parse(text);
    if syntax.is_empty() {
        return Ok(document);
    }
    let error = |SyntaxError { line, problem }| ConfigError {
        place: Some(Place { file: file.to_owned(), line: Some(line) }),
        problem: Problem::Syntax(problem),
    };
    Err(Rejected { errors: syntax.into_iter().map(error).collect(), warnings: Vec::new() })
}

/// The range of a number in corosync.conf, unless a key has a narrower one.
pub(super) const ANY: RangeInclusive<u32> = 0..=u32::MAX;

/// The versions of IP that the addresses of nodes may have (`totem.ip_version`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IpVersion {
    /// Names lead to IPv4 addresses, and addresses decide for themselves. corosync prefers IPv6 for
    /// names, and most of its clusters are IPv4.
    FourForNames,
    Four,
    Six,
    FourThenSix,
    SixThenFour,
}

impl IpVersion {
    /// Returns `true` if an address in the file may be used.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        self == Self::FourForNames || self.v4_in_order().contains(&address.is_ipv4())
    }

    /// Returns the versions that a name may have, in order of preference: `true` for IPv4.
    pub(super) fn v4_in_order(self) -> &'static [bool] {
        match self {
            Self::FourForNames | Self::Four => &[true],
            Self::Six => &[false],
            Self::FourThenSix => &[true, false],
            Self::SixThenFour => &[false, true],
        }
    }

    pub(super) fn named(self) -> &'static str {
        match self {
            Self::FourForNames | Self::Four => "IPv4",
            Self::Six => "IPv6",
            Self::FourThenSix | Self::SixThenFour => "IP",
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads the whole configuration. A rejected value is replaced by its default, so that the rest
    /// is read, too.
    fn config(&mut self) -> Config {
        self.version();
        let transport = self.transport();
        self.clear_text();
        let version = self.ip_version();
        let clear_high_bit = self.yes_no("totem.clear_node_high_bit");
        let interface = self.interface_section();
        let listed = self.nodes(transport, version, clear_high_bit);
        let local = self.local(&listed, transport);
        let bind = self.bind(interface, local, transport);
        let (node, name) = self.identity(local, bind, clear_high_bit);
        let cluster_name = self.cluster_name();
        let network = self.network(interface, transport, bind, cluster_name.as_deref());
        let lease = self.value("quorate.lease", |reader, entry| reader.number(entry, 1..=u32::MAX));
        let totem = self.totem(&listed, transport, lease.map(|(lease, _)| lease.into()));
        let listed_votes = local.map(|listed| listed.member.votes);
        let priority = local.map_or(defaults::DC_PRIORITY, |listed| listed.dc_priority);
        let dc = self.dc(priority, lease, &totem);
        let nodes: Vec<_> = listed.iter().map(|listed| listed.member.clone()).collect();
        let quorum = self.quorum(&nodes, listed_votes, transport);
        Config { node, name, cluster_name, nodes, totem, network, quorum, dc, metadata: Metadata::default() }
    }

    fn version(&mut self) {
        let version = self.value("totem.version", |reader, entry| {
            let version = reader.number(entry, ANY)?;
            if version != 2 {
                reader.not_one_of(entry, "2");
            }
            Some(version)
        });
        if version.is_none() && !self.is_given("totem.version") {
            let advice = "add `version: 2` to section totem";
            self.lack("totem.version", None, Problem::Missing { key: "totem.version", advice });
        }
    }

    fn transport(&mut self) -> TransportKind {
        const KEY: &str = "totem.transport";
        let Some(entry) = self.take(KEY) else {
            let has_id = |section: usize| {
                let is_id =
                    |entry: &&Entry| entry.section == Some(section) && entry.path == "nodelist.node.nodeid";
                self.document.entries.iter().find(is_id).is_some()
            };
            let sections = self.document.sections.iter().enumerate();
            let mut nodes = sections.filter(|(_, section)| section.path == "nodelist.node");
            let needs_ids = if nodes.all(|(index, _)| has_id(index)) {
                ""
            } else {
                ", and would not start without a nodeid for each node"
            };
            let text = format!(
                "totem.transport is not set: the default here is udp, where corosync 3 would use \
                 knet{needs_ids}"
            );
            self.warn_of_lack(text);
            self.show(KEY, "udp", "", Source::Default);
            return TransportKind::Multicast;
        };
        let transport = match entry.value.as_str() {
            "udp" => TransportKind::Multicast,
            "udpu" => TransportKind::Unicast,
            "local" => TransportKind::Local,
            other => {
                match other {
                    "knet" => {
                        let advice = "write `transport: udp`, or `transport: udpu` where no multicast passes, on all nodes";
                        self.unsupported(entry, advice);
                    }
                    _ => self.not_one_of(entry, "udp, udpu, or local for several nodes on one host"),
                }
                return TransportKind::Multicast;
            }
        };
        self.show(KEY, entry.value.as_str(), "", self.line(entry));
        transport
    }

    /// Rejects encryption. Clear text should be requested explicitly.
    fn clear_text(&mut self) {
        const ADVICE: &str = "transports udp and udpu have clear text only: write `secauth: off` on all nodes, and set \
                              crypto_cipher and crypto_hash to none or remove them";
        let secauth = self.take("totem.secauth");
        let one_of = |values: &'static [&'static str], expected| {
            move |reader: &mut Self, entry: &'a Entry| {
                let is_known = values.contains(&entry.value.as_str());
                if !is_known {
                    reader.not_one_of(entry, expected);
                }
                is_known.then_some(())
            }
        };
        let ciphers = &["none", "aes256", "aes192", "aes128"];
        let cipher = self.value("totem.crypto_cipher", one_of(ciphers, "none (the ring uses clear text)"));
        let hashes = &["none", "md5", "sha1", "sha256", "sha384", "sha512"];
        let hash = self.value("totem.crypto_hash", one_of(hashes, "none (the ring uses clear text)"));
        let (cipher, hash) = (cipher.map(|(_, entry)| entry), hash.map(|(_, entry)| entry));
        // A user who writes `secauth: yes` expects that it has an effect.
        if let Some(entry) = secauth.filter(|entry| !matches!(entry.value.as_str(), "on" | "off")) {
            self.not_one_of(entry, "off");
        }
        // `secauth: on` implies a cipher and a hash, and each that is set by itself takes
        // precedence.
        let implied = secauth.filter(|entry| entry.value == "on");
        let by_secauth =
            implied.filter(|_| !(self.is_given("totem.crypto_cipher") && self.is_given("totem.crypto_hash")));
        for entry in
            [cipher, hash].into_iter().flatten().filter(|entry| entry.value != "none").chain(by_secauth)
        {
            self.unsupported(entry, ADVICE);
        }
        let source = if let Some(entry) = cipher.or(secauth) {
            self.line(entry)
        } else if self.overrides.clear_text {
            Source::CommandLine
        } else {
            if !self.is_given("totem.crypto_cipher") {
                self.warn_of_lack(
                    "the ring uses clear text, although the file does not request it; confirm this with \
                     `secauth: off` or `crypto_cipher: none` in section totem, or with --clear-text",
                );
            }
            Source::Default
        };
        self.show("totem.crypto_cipher", "none", "", source);
    }

    fn ip_version(&mut self) -> IpVersion {
        const KEY: &str = "totem.ip_version";
        let read = self.value(KEY, |reader, entry| match entry.value.as_str() {
            "ipv4" => Some(IpVersion::Four),
            "ipv6" => Some(IpVersion::Six),
            "ipv4-6" => Some(IpVersion::FourThenSix),
            "ipv6-4" => Some(IpVersion::SixThenFour),
            _ => {
                reader.not_one_of(entry, "ipv4, ipv6, ipv4-6 or ipv6-4");
                None
            }
        });
        match read {
            Some((version, entry)) => {
                self.show(KEY, entry.value.as_str(), "", self.line(entry));
                version
            }
            None => {
                self.show(KEY, "ipv4 for names", "", Source::Default);
                IpVersion::FourForNames
            }
        }
    }

    /// Returns the timeouts and limits for this node list. `lease` is in milliseconds, if the file
    /// sets it.
    fn totem(&mut self, listed: &[Listed], transport: TransportKind, lease: Option<u64>) -> TotemConfig {
        const TIMEOUT: RangeInclusive<u32> = defaults::MIN_TIMEOUT as u32..=u32::MAX;
        const RETRANSMITS: &str = "totem.token_retransmits_before_loss_const";
        const RETRANSMIT: &str = "totem.token_retransmit";
        let (ms, default) = (Duration::from_millis, || Source::Default);

        let token = self.token(listed, transport);
        let retransmits = self.number_of(RETRANSMITS, "", defaults::TOKEN_RETRANSMITS_BEFORE_LOSS, default());
        // Both are corosync's values, or shorter as a lease requires. Shorter values do not disturb
        // other members.
        let slowest = defaults::token_retransmit(token, retransmits);
        self.check_derived_retransmit(token, retransmits, slowest);
        let (set, set_at) = self.take_number(RETRANSMIT, slowest, default());
        let usual = defaults::hold(set);
        let fitting = defaults::hold_for(lease.unwrap_or(defaults::LEASE), set);
        let source = match fitting < usual {
            true => format!("quorate.lease; corosync would use {usual} ms"),
            false => RETRANSMIT.to_owned(),
        };
        let (hold, hold_at) = self.take_number("totem.hold", fitting, Source::derived(source));
        let soon = defaults::retransmit_after(hold, slowest);
        let (token_retransmit, source) = match set_at {
            Source::File(_) => (set, set_at),
            _ if soon < slowest => {
                (soon, Source::derived(format!("totem.hold; corosync would use {slowest} ms")))
            }
            _ => (slowest, Source::derived(format!("totem.token and {RETRANSMITS}"))),
        };
        self.show(RETRANSMIT, token_retransmit, "ms", source);
        self.show("totem.hold", hold, "ms", hold_at);
        let join = self.number_of("totem.join", "ms", defaults::JOIN, default());
        let send_join = self.number_or_zero("totem.send_join", "ms", 0);
        let consensus = self.number_of(
            "totem.consensus",
            "ms",
            defaults::consensus(token),
            Source::derived("totem.token"),
        );
        let merge = self.number_of("totem.merge", "ms", defaults::MERGE, default());
        let totem = TotemConfig {
            token: ms(token),
            token_coefficient: Duration::ZERO,
            token_retransmit: ms(token_retransmit),
            hold: ms(hold),
            join: ms(join),
            send_join: ms(send_join),
            consensus: ms(consensus),
            merge: ms(merge),
            fail_recv_const: self.count("totem.fail_recv_const", "rotations", defaults::FAIL_RECV),
            seqno_unchanged_const: self.count(
                "totem.seqno_unchanged_const",
                "rotations",
                defaults::SEQNO_UNCHANGED,
            ),
            window_size: self.count("totem.window_size", "frames", defaults::WINDOW_SIZE),
            max_messages: self.count("totem.max_messages", "frames", defaults::MAX_MESSAGES),
            largest_window: self.largest_window(),
            miss_count_const: self.count("totem.miss_count_const", "visits", defaults::MISS_COUNT),
            netmtu: self.count("totem.netmtu", "bytes", defaults::NETMTU),
            cancel_token_hold_on_retransmit: self.yes_no("totem.cancel_token_hold_on_retransmit"),
            failure_evidence: self.yes_no_else("quorate.failure_evidence", true),
            probe: ms(self.number_or_zero("quorate.probe", "ms", defaults::PROBE)),
            unread_limit: self.count("quorate.unread_limit", "bytes", defaults::UNREAD_LIMIT) as usize,
            first_seq: Seq::new(0),
        };
        self.without_effect("totem.token_warning", 0..=100);
        self.without_effect("totem.heartbeat_failures_allowed", ANY);
        self.without_effect("totem.max_network_delay", TIMEOUT);
        self.without_effect("totem.downcheck", TIMEOUT);
        totem
    }

    /// Returns the effective token timeout, coefficient included.
    fn token(&mut self, listed: &[Listed], transport: TransportKind) -> u64 {
        let (token, source) = self.take_number("totem.token", defaults::TOKEN, Source::Default);
        let coefficient = self.number_or_zero("totem.token_coefficient", "ms", defaults::TOKEN_COEFFICIENT);
        let effective = defaults::effective_token(token, coefficient, listed.len());
        // While corosync iterates over the list, it adds the id that it derives from an address. If
        // the address is the node's only key, it then counts the node twice.
        let twice = listed.iter().filter(|listed| listed.has_address_only).count();
        let of_corosync = defaults::effective_token(token, coefficient, listed.len() + twice);
        if of_corosync != effective && transport != TransportKind::Local {
            let text = format!(
                "corosync 3.1 counts nodes whose only key is ring0_addr twice, and would use a token timeout \
                 of {of_corosync} ms instead of {effective} ms; give each node a nodeid"
            );
            self.warn(None, text);
        }
        let source = if effective == token {
            source
        } else {
            Source::derived(format!(
                "{token} ms ({source}) and totem.token_coefficient, for a list of {} nodes",
                listed.len()
            ))
        };
        self.show("totem.token", effective, "ms", source);
        effective
    }

    /// Reports a derived retransmission timeout that is too short, at the value in the file that
    /// causes it.
    fn check_derived_retransmit(&mut self, token: u64, retransmits: u64, token_retransmit: u64) {
        const TOKEN: &str = "totem.token";
        const RETRANSMITS: &str = "totem.token_retransmits_before_loss_const";
        // A token timeout below the minimum is reported separately.
        if self.is_given("totem.token_retransmit")
            || token_retransmit >= defaults::MIN_TIMEOUT
            || token < defaults::MIN_TIMEOUT
        {
            return;
        }
        let line = [TOKEN, RETRANSMITS].into_iter().find_map(|path| {
            self.document.entries.iter().rfind(|entry| entry.path == path).map(|entry| entry.line)
        });
        let rule = format!(
            "not be below {} ms with {retransmits} retransmits ({RETRANSMITS}), which need {} ms each",
            defaults::least_token(retransmits),
            defaults::MIN_TIMEOUT
        );
        let (key, value) = (TOKEN, format!("{token} ms"));
        self.error(line, Problem::Broken { key, value, rule, other: Some(RETRANSMITS) });
        self.doubt("totem.token_retransmit");
    }

    /// Reads a number for which 0 selects the default.
    fn take_number(&mut self, path: &str, otherwise: u64, source: Source) -> (u64, Source) {
        match self.value(path, |reader, entry| reader.number(entry, ANY)) {
            Some((number, entry)) if number != 0 => (number.into(), self.line(entry)),
            _ => (otherwise, source),
        }
    }

    /// Reads and shows a number for which 0 selects the default.
    fn number_of(&mut self, path: &str, unit: &'static str, otherwise: u64, source: Source) -> u64 {
        let (number, source) = self.take_number(path, otherwise, source);
        self.show(path, number, unit, source);
        number
    }

    /// Reads and shows a number for which 0 is an ordinary value.
    pub(super) fn number_or_zero(&mut self, path: &str, unit: &'static str, otherwise: u64) -> u64 {
        let (number, source) = match self.value(path, |reader, entry| reader.number(entry, ANY)) {
            Some((number, entry)) => (number.into(), self.line(entry)),
            None => (otherwise, Source::Default),
        };
        self.show(path, number, unit, source);
        number
    }

    fn count(&mut self, path: &str, unit: &'static str, otherwise: u32) -> u32 {
        let number = self.number_of(path, unit, otherwise.into(), Source::Default);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Warns about a number that corosync uses and this program does not. 0 selects the default, or
    /// off.
    fn without_effect(&mut self, path: &str, range: RangeInclusive<u32>) {
        let number = self.value(path, |reader, entry| {
            reader.number(entry, ANY).filter(|&number| {
                number == 0 || range.contains(&number) || reader.number(entry, range.clone()).is_some()
            })
        });
        if let Some((_, entry)) = number.filter(|&(number, _)| number != 0) {
            self.warn(Some(entry.line), format!("{path}: not implemented yet, ignored"));
        }
    }

    /// Returns the largest window. A file that sets corosync's windows keeps them, whatever the
    /// members are.
    fn largest_window(&mut self) -> u32 {
        let set = ["totem.window_size", "totem.max_messages"].into_iter().any(|path| self.is_given(path));
        let otherwise = if set { 0 } else { defaults::LARGEST_WINDOW };
        let frames = self.number_or_zero("quorate.window_size", "frames", otherwise.into());
        u32::try_from(frames).unwrap_or(u32::MAX)
    }

    /// Returns the settings of the DC election and of the lease. This node's priority comes from
    /// the node list.
    fn dc(&mut self, priority: u32, lease: Option<(u32, &Entry)>, totem: &TotemConfig) -> DcConfig {
        let ms = Duration::from_millis;
        let preempt = self.yes_no("quorate.preempt");
        let deadtime = self.number_or_zero("quorate.dc_deadtime", "ms", defaults::DC_DEADTIME);
        let rate_error = self.number_or_zero("quorate.rate_error", "millionths", defaults::RATE_ERROR.into());
        let rate_error = u32::try_from(rate_error).unwrap_or(u32::MAX);
        let in_file = lease.map(|(lease, _)| ms(lease.into()));
        let dc = DcConfig { priority, preempt, deadtime: ms(deadtime), rate_error, lease: in_file };
        let counts = u64::try_from(dc.lease(totem).as_millis()).unwrap_or(u64::MAX);
        let source = match lease {
            Some((_, entry)) => self.line(entry),
            None if counts > defaults::LEASE => Source::derived("totem.hold and totem.token_retransmit"),
            None if counts < defaults::LEASE => Source::derived("totem.token and quorate.rate_error"),
            None => Source::Default,
        };
        self.show("quorate.lease", counts, "ms", source);
        dc
    }
}

//! Tests of how `corosync.conf` is read: values, their sources, warnings and errors.

mod cases;
mod nodes;
mod ours;
mod quorum;
mod totem;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use quorate_membership::NodeId;
use quorate_membership::config::{
    Host, Interface, Loaded, Overrides, QuorumOptions, Setting, TieBreaker, TransportKind, parse,
};
use quorate_membership::wire::ClusterTag;

const ONE_X: &str = include_str!("../data/corosync-1.x.conf");

fn host() -> Host {
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let interface = |name: &str, address, prefix| Interface { name: name.to_owned(), address, prefix };
    Host {
        name: "system1.example.org".to_owned(),
        interfaces: vec![
            interface("lo", [127, 0, 0, 1].into(), 8),
            interface("eth0", [10, 77, 11, 1].into(), 24),
            interface("eth0", V6, 64),
        ],
        resolve: |name| match name {
            "system1" => vec![V6, [10, 77, 11, 1].into()],
            "system2" => vec![[10, 77, 11, 2].into()],
            // As Debian's /etc/hosts resolves the host's own name, and as a leading 0 is read.
            "looped" => vec![[127, 0, 1, 1].into()],
            "10.77.11.010" => vec![[10, 77, 11, 8].into()],
            _ => Vec::new(),
        },
    }
}

fn load(text: &str) -> Result<Loaded, String> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Loaded, String> {
    parse("c", text.as_bytes(), overrides, &host()).map_err(|error| error.to_string())
}

/// Returns a file with one node and these additional lines in section `totem`, from line 5 on.
fn with_totem(lines: &str) -> String {
    format!("totem {{\nversion: 2\ntransport: udp\nsecauth: off\n{lines}\ncluster_name: t\n}}\n{}", nodes(1))
}

fn nodes(count: u32) -> String {
    let nodes = (1..=count).map(|n| format!("node {{\nring0_addr: 10.77.11.{n}\nnodeid: {n}\n}}\n"));
    format!("nodelist {{\n{}}}\n", nodes.collect::<String>())
}

fn with_nodes(nodelist: &str) -> String {
    format!(
        "totem {{\nversion: 2\ntransport: udp\nsecauth: off\ncluster_name: t\n}}\nnodelist {{\n{nodelist}\n}}\n"
    )
}

/// Checks the settings of these keys, each in the form `value unit, source`.
fn check_settings(text: &str, expect: &[(&str, &str)]) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (key, expect) in expect {
        let of_key: Vec<_> = loaded.settings.iter().filter(|setting| setting.key == *key).collect();
        let [setting] = of_key[..] else { panic!("{key} is there {} times", of_key.len()) };
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        assert_eq!(format!("{}{unit}, {}", setting.value, setting.source), *expect, "{key}");
    }
}

/// Checks that one of the errors starts with `expect`.
fn check_error(text: &str, expect: &str) {
    let errors = load(text).map(|loaded| loaded.config).expect_err(text);
    assert!(
        errors.lines().any(|error| error.starts_with(expect)),
        "{text}\ngave {errors:?}\nnot  {expect:?}"
    );
    assert!(!errors.contains("  "), "a line each: {errors:?}");
}

/// Checks how all warnings start. Ignores the warning about a missing quorum provider, since most
/// of these files have none.
fn check_warnings(text: &str, expect: &[&str]) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    warnings.retain(|warning| !warning.contains("quorum.provider is not set"));
    let fits = warnings.len() == expect.len() && warnings.iter().zip(expect).all(|(w, e)| w.starts_with(e));
    assert!(fits, "{text}\ngave {warnings:#?}\nnot  {expect:#?}");
}

#[test]
fn the_file_of_2011_loads_with_its_own_values() {
    let config = load(ONE_X).unwrap().config;
    let ms = Duration::from_millis;
    assert_eq!(config.totem.token, ms(5000));
    assert_eq!(config.totem.token_retransmit, ms(52));
    assert_eq!(config.totem.hold, ms(42));
    assert_eq!(config.totem.join, ms(60));
    assert_eq!(config.totem.consensus, ms(6000));
    assert_eq!(config.totem.max_messages, 20);
    assert_eq!(config.port(), 5451);
    assert_eq!(config.group(), IpAddr::from([226, 94, 1, 1]));
    assert_eq!(config.network.transport, TransportKind::Multicast);
    assert_eq!(config.bind(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(config.node.get(), 0x7f00_0001);
    assert_eq!(config.name, "system1.example.org");
    assert_eq!((config.expected_votes(), config.votes()), (None, 1));
}

#[test]
fn the_file_of_2011_gives_one_warning_per_difference() {
    check_warnings(
        ONE_X,
        &[
            "c: totem.transport is not set: the default here is udp",
            "c: there is no node list",
            "c: the number of expected votes is unknown: this node never becomes quorate; use \
             --expected-votes N",
            "c:3: compatibility: obsolete",
            "c:5: section `aisexec` (user, group): obsolete",
            "c:11: section `service` (ver, name, use_mgmtd, use_logd): obsolete",
            "c:29: totem.vsftype: obsolete",
            "c:37: totem.threads: obsolete",
            "c:50: section `logging` (fileline, to_stderr, to_logfile, to_syslog, syslog_facility, debug, timestamp)",
            "c:60: section `amf` (mode): obsolete",
        ],
    );
}

#[test]
fn nothing_in_a_file_is_dropped_silently() {
    check_warnings(
        &with_totem(
            "tokn: 5000\nrrp_mode: none\ndowncheck: 500\nheartbeat_failures_allowed: 0\ntoken: 1\ntoken: 2000\n\
             interface {\nmember {\nmemberaddr: 10.0.0.1\n}\nbindnetaddr: 10.77.11.0\n}\nstrange {\ndeep {\nkey: 1\n}\n}\n\
             clear_node_high_bit: maybe\nnodeid: 3\nknet_mtu: 0",
        ),
        &[
            "c:5: totem.tokn: unknown, ignored; did you mean `token`?",
            "c:6: totem.rrp_mode: obsolete",
            "c:7: totem.downcheck: not implemented yet, ignored",
            "c:9: totem.token is set again at line 10, which takes precedence",
            "c:12: section `totem.interface.member` (memberaddr): obsolete",
            "c:15: totem.interface.bindnetaddr: ignored in favour of the node list's ring0_addr",
            "c:17: section `totem.strange` (deep.key): unknown",
            "c:22: totem.clear_node_high_bit is `maybe`, neither yes nor no; it is taken as no",
            "c:23: totem.nodeid: ignored, as in corosync 3",
            "c:24: totem.knet_mtu: ignored: it is for transport knet",
        ],
    );
    check_warnings(
        &with_nodes("node {\nring0_addr: 10.77.11.1\nring1_addr: 10.0.0.1\n}"),
        &["c:10: nodelist.node.ring1_addr: ignored: there is only one ring"],
    );
}

#[test]
fn an_empty_file_is_an_error_that_asks_for_the_version() {
    check_error("", "c: totem.version is missing; add `version: 2` to section totem");
    check_error("totem {\nversion: 1\n}", "c:2: totem.version must be 2, not `1`");
    check_error(
        "totem {\n",
        "c:1: the file ends within section `totem`, opened at line 1; add the missing `}`",
    );
}

proptest! {
    /// Feeds lines with known keys and values, in any order and number.
    #[test]
    fn no_file_makes_the_parser_panic(
        lines in proptest::collection::vec(
            (
                prop::sample::select(vec![
                    "totem {", "nodelist {", "node {", "interface {", "quorum {", "quorate {", "}", "}", "}", "x {",
                    "version: 2", "transport:", "token:", "token_coefficient:", "hold:", "join:", "consensus:",
                    "token_retransmits_before_loss_const:", "ring0_addr:", "nodeid:", "name:", "port:", "quorum_votes:",
                    "bindnetaddr:", "mcastaddr:", "mcastport:", "linknumber:", "ringnumber:", "cluster_name:",
                    "expected_votes:", "votes:", "unread_limit:", "window_size:", "failure_evidence:", "probe:", "dc_priority:", "lease:", "rate_error:", "secauth:", "clear_node_high_bit:",
                ]),
                prop::sample::select(vec![
                    "", "0", "1", "2", "300", "4294967295", "-1", "udp", "local", "yes", "off", "10.77.11.1",
                    "127.0.0.2", "0.0.0.0", "128.0.0.0", "fd00::1", "system1", "239.1.1.1", ".", "x.y",
                ]),
            ),
            0..40,
        ),
        start in prop::sample::select(vec!["", "totem {\nversion: 2\nsecauth: off\ncluster_name: t\n"]),
    ) {
        let lines = lines.iter().map(|(key, value)| {
            if key.ends_with(':') { format!("{key} {value}\n") } else { format!("{key}\n") }
        });
        let _ = load(&format!("{start}{}", lines.collect::<String>()));
    }
}

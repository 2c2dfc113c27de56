//! corosync.conf, from its text to what the node does: values, where they come from, warnings, errors.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use quorate_membership::NodeId;
use quorate_membership::config::{
    Host, Interface, Loaded, Overrides, QuorumOptions, TieBreaker, TransportKind, parse,
};

const ONE_X: &str = include_str!("data/corosync-1.x.conf");

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

/// A file of one node whose `totem` section has these lines too, from line 5 on.
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

/// What the settings say of these keys: `value unit, source`.
fn check_settings(text: &str, expect: &[(&str, &str)]) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (key, expect) in expect {
        let of_key: Vec<_> = loaded.settings.iter().filter(|setting| setting.key == *key).collect();
        let [setting] = of_key[..] else { panic!("{key} is there {} times", of_key.len()) };
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        assert_eq!(format!("{}{unit}, {}", setting.value, setting.source), *expect, "{key}");
    }
}

fn check_error(text: &str, expect: &str) {
    let error = load(text).map(|loaded| loaded.config).expect_err(text);
    assert!(error.starts_with(expect), "{text}\ngave {error:?}\nnot  {expect:?}");
    assert!(!error.contains('\n') && !error.contains("  "), "one line: {error:?}");
}

/// All warnings, each by how it begins.
fn check_warnings(text: &str, expect: &[&str]) {
    let loaded = load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let fits = warnings.len() == expect.len() && warnings.iter().zip(expect).all(|(w, e)| w.starts_with(e));
    assert!(fits, "{text}\ngave {warnings:#?}\nnot  {expect:#?}");
}

#[test]
fn the_file_of_2011_loads_with_its_own_values() {
    let config = load(ONE_X).unwrap().config;
    let ms = Duration::from_millis;
    assert_eq!(config.totem.token, ms(5000));
    assert_eq!(config.totem.token_retransmit, ms(490));
    assert_eq!(config.totem.hold, ms(382));
    assert_eq!(config.totem.join, ms(60));
    assert_eq!(config.totem.consensus, ms(6000));
    assert_eq!(config.totem.max_messages, 20);
    assert_eq!(config.network.port, 5451);
    assert_eq!(config.network.group, IpAddr::from([226, 94, 1, 1]));
    assert_eq!(config.network.transport, TransportKind::Multicast);
    assert_eq!(config.network.bind, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(config.node.get(), 0x7f00_0001);
    assert_eq!(config.name, "system1.example.org");
    assert_eq!((config.quorum.expected_votes, config.quorum.votes), (None, 1));
}

#[test]
fn the_file_of_2011_is_warned_about_once_for_each_difference_and_each_obsolete_key() {
    check_warnings(
        ONE_X,
        &[
            "c: totem.transport is not set: it is udp here",
            "c: there is no node list",
            "c: nobody says how many votes to expect: this node never becomes quorate; give --expected-votes N",
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
fn a_generated_id_has_31_bits_if_asked_for() {
    let high = ONE_X.replace("127.0.0.0", "200.1.2.0");
    let mut host = host();
    host.interfaces[1].address = [200, 1, 2, 3].into();
    let id = |text: &str| {
        let loaded = parse("c", text.as_bytes(), &Overrides::default(), &host).unwrap();
        loaded.config.node.get()
    };
    assert_eq!(id(&high), 0x4801_0203);
    assert_eq!(id(&high.replace("clear_node_high_bit: yes", "")), 0xc801_0203);
}

#[test]
fn expected_votes_of_the_command_line_count() {
    let overrides = Overrides { expected_votes: Some(2), ..Overrides::default() };
    let loaded = load_with(ONE_X, &overrides).unwrap();
    assert_eq!(loaded.config.quorum.expected_votes, Some(2));
    assert!(loaded.warnings.iter().all(|warning| !warning.text.contains("expect")));

    let in_file = format!("{}quorum {{\nexpected_votes: 3\n}}\n", with_totem(""));
    let loaded = load_with(&in_file, &overrides).unwrap();
    assert_eq!(loaded.config.quorum.expected_votes, Some(2));
    assert_eq!(
        loaded.warnings[0].to_string(),
        "c:15: quorum.expected_votes: ignored, --expected-votes 2 counts"
    );
}

#[test]
fn timeouts_are_derived_as_corosync_derives_them() {
    check_settings(
        &with_totem("token: 1650"),
        &[
            ("totem.token", "1650 ms, c:5"),
            (
                "totem.token_retransmit",
                "392 ms, derived from totem.token and totem.token_retransmits_before_loss_const",
            ),
            ("totem.hold", "303 ms, derived from totem.token_retransmit"),
            ("totem.consensus", "1980 ms, derived from totem.token"),
            ("totem.join", "50 ms, default"),
        ],
    );
    check_settings(
        &with_totem("token: 1650\ntoken_retransmit: 200\nconsensus: 4000"),
        &[
            ("totem.token_retransmit", "200 ms, c:6"),
            ("totem.hold", "150 ms, derived from totem.token_retransmit"),
            ("totem.consensus", "4000 ms, c:7"),
        ],
    );
}

#[test]
fn the_token_timeout_grows_with_the_node_list() {
    let text = |coefficient: &str, count| {
        with_totem(&format!("token: 1000\n{coefficient}")).replace(&nodes(1), &nodes(count))
    };
    check_settings(&text("", 2), &[("totem.token", "1000 ms, c:5")]);
    check_settings(
        &text("", 3),
        &[
            (
                "totem.token",
                "1650 ms, derived from 1000 ms (c:5) and totem.token_coefficient, for a list of 3 nodes",
            ),
            ("totem.token_coefficient", "650 ms, default"),
            (
                "totem.token_retransmit",
                "392 ms, derived from totem.token and totem.token_retransmits_before_loss_const",
            ),
        ],
    );
    check_settings(
        &text("token_coefficient: 0", 3),
        &[("totem.token", "1000 ms, c:5"), ("totem.token_coefficient", "0 ms, c:6")],
    );
}

#[test]
fn zero_stands_for_the_default_but_where_it_makes_sense() {
    check_settings(
        &with_totem("token: 0\nhold: 0\nwindow_size: 0\nsend_join: 0\ninterface {\nmcastport: 0\nttl: 0\n}"),
        &[
            ("totem.token", "3000 ms, default"),
            ("totem.hold", "561 ms, derived from totem.token_retransmit"),
            ("totem.window_size", "50 frames, default"),
            ("totem.send_join", "0 ms, c:8"),
            ("totem.interface.mcastport", "5405, default"),
            ("totem.interface.ttl", "0 hops, c:11"),
        ],
    );
}

#[test]
fn numbers_are_read_as_strtoll_reads_them() {
    check_settings(&with_totem("token: +500"), &[("totem.token", "500 ms, c:5")]);
    for bad in ["0x10", "-5", "", "4294967296", "99999999999999999999", "500 # ms", "1e3", "500ms"] {
        check_error(
            &with_totem(&format!("token: {bad}")),
            &format!("c:5: totem.token must be a whole number from 0 to 4294967295, not `{bad}`"),
        );
    }
    check_error(
        &with_totem("interface {\nttl: 256\n}"),
        "c:6: totem.interface.ttl must be a whole number from 0 to 255, not `256`",
    );
    check_error(
        &with_totem("interface {\nmcastport: 70000\n}"),
        "c:6: totem.interface.mcastport must be a whole number from 0 to 65535, not `70000`",
    );
}

#[test]
fn a_value_out_of_bounds_is_found_at_its_line_or_at_its_origin() {
    check_error(&with_totem("token: 20"), "c:5: totem.token (20 ms) must not be below 30 ms");
    check_error(
        &with_totem("consensus: 1000\njoin: 2000"),
        "c:5: totem.consensus (1000 ms) must not be below totem.join (2000 ms)",
    );
    check_error(
        &with_totem("join: 5000"),
        "c:5: totem.consensus (3600 ms, derived from totem.token) must not be below totem.join (5000 ms)",
    );
    check_error(
        &with_totem("token: 40"),
        "c: totem.token_retransmit (9 ms, derived from totem.token and \
         totem.token_retransmits_before_loss_const) must not be below 30 ms",
    );
    check_error(
        &with_totem("token_warning: 101"),
        "c:5: totem.token_warning must be a whole number from 0 to 100",
    );
    check_error(
        &with_totem("downcheck: 29"),
        "c:5: totem.downcheck must be a whole number from 30 to 4294967295",
    );
    check_error(
        &with_totem("interface {\nmcastport: 1\n}"),
        "c:6: totem.interface.mcastport (1) must not be below 2, for the port below it is used too",
    );
}

#[test]
fn the_transport_is_udp_or_local() {
    let transport = |value: &str| with_totem("").replace("transport: udp", value);
    check_settings(&transport("transport: udp"), &[("totem.transport", "udp, c:3")]);
    check_settings(&transport("transport: local"), &[("totem.transport", "local, c:3")]);
    check_warnings(
        &transport(""),
        &["c: totem.transport is not set: it is udp here, where corosync 3 would use knet"],
    );
    check_error(
        &transport("transport: knet"),
        "c:3: totem.transport: knet is not supported; write `transport: udp`",
    );
    check_error(
        &transport("transport: udpu"),
        "c:3: totem.transport: udpu is not supported; it is not there yet",
    );
    check_error(&transport("transport: tcp"), "c:3: totem.transport must be udp, or local");
}

#[test]
fn clear_text_has_to_be_asked_for_and_encryption_is_refused() {
    let secauth = |value: &str| with_totem("").replace("secauth: off", value);
    check_warnings(&secauth("secauth: off"), &[]);
    check_warnings(&secauth("crypto_cipher: none"), &[]);
    check_warnings(&secauth("secauth: on\ncrypto_cipher: none\ncrypto_hash: none"), &[]);
    check_warnings(
        &secauth(""),
        &["c: the ring speaks clear text, though nobody asked for it; say so by `secauth: off` or \
           `crypto_cipher: none` in section totem, or by --clear-text"],
    );
    let asked = Overrides { clear_text: true, ..Overrides::default() };
    assert_eq!(load_with(&secauth(""), &asked).unwrap().warnings, []);

    check_error(
        &secauth("secauth: on"),
        "c:4: totem.secauth: on is not supported; transport udp has clear text only",
    );
    check_error(&secauth("secauth: on\ncrypto_cipher: none"), "c:4: totem.secauth: on is not supported");
    check_error(&secauth("crypto_cipher: aes256"), "c:4: totem.crypto_cipher: aes256 is not supported");
    check_error(&secauth("secauth: off\ncrypto_hash: sha1"), "c:5: totem.crypto_hash: sha1 is not supported");
    check_error(&secauth("secauth: yes"), "c:4: totem.secauth must be off, not `yes`");
}

#[test]
fn the_group_comes_from_the_file_or_from_the_name_of_the_cluster() {
    let hacluster = with_totem("").replace("cluster_name: t", "cluster_name: hacluster");
    check_settings(
        &hacluster,
        &[("totem.interface.mcastaddr", "239.192.204.129, derived from totem.cluster_name")],
    );
    check_settings(
        &with_totem("interface {\nmcastaddr: 239.1.2.3\n}"),
        &[("totem.interface.mcastaddr", "239.1.2.3, c:6")],
    );
    check_error(
        &with_totem("").replace("cluster_name: t", ""),
        "c: totem.interface.mcastaddr is missing; write `cluster_name: NAME`",
    );
    check_error(
        &with_totem("interface {\nmcastaddr: 10.1.1.1\n}"),
        "c:6: totem.interface.mcastaddr (10.1.1.1) must be a multicast address",
    );
    check_error(
        &with_totem("interface {\nmcastaddr: x\n}"),
        "c:6: totem.interface.mcastaddr must be a multicast address",
    );
    check_error(
        &with_totem("interface {\nbroadcast: yes\n}"),
        "c:6: totem.interface.broadcast: yes is not supported",
    );
    check_error(&with_totem("ip_version: ipv6"), "c:5: totem.ip_version: ipv6 is not supported");
}

#[test]
fn bindnetaddr_names_an_interface_of_this_host() {
    let bindnetaddr = |value: &str| ONE_X.replace("bindnetaddr:    127.0.0.0", value);
    check_settings(
        &bindnetaddr("bindnetaddr: 10.77.11.0"),
        &[
            (
                "totem.interface.bindnetaddr",
                "10.77.11.1, derived from 10.77.11.0 (c:44), the network of eth0",
            ),
            ("node.id", "172821249, derived from the address 10.77.11.1, as 31 bits"),
        ],
    );
    check_settings(
        &bindnetaddr("bindnetaddr: 10.77.11.1"),
        &[("totem.interface.bindnetaddr", "10.77.11.1, c:44")],
    );
    check_error(
        &bindnetaddr("bindnetaddr: 192.168.3.0"),
        "c:44: no interface of this host is in the network of 192.168.3.0 (totem.interface.bindnetaddr); there are \
         lo 127.0.0.1/8, eth0 10.77.11.1/24",
    );
    check_error(
        &bindnetaddr(""),
        "c:41: totem.interface.bindnetaddr is missing; write the network of the ring",
    );
    check_error(
        &bindnetaddr("bindnetaddr: x"),
        "c:44: totem.interface.bindnetaddr must be the address or network",
    );
    check_error(
        &bindnetaddr("bindnetaddr: fd00::"),
        "c:44: totem.interface.bindnetaddr: fd00:: is not supported",
    );
    check_error(
        "totem {\nversion: 2\nsecauth: off\ncluster_name: t\n}\n",
        "c: totem.interface.bindnetaddr is missing; write the network of the ring",
    );
}

#[test]
fn one_interface_section_is_the_ring() {
    let interfaces = |first: &str, second: &str| {
        with_totem(&format!(
            "interface {{\n{first}\nmcastport: 5001\n}}\ninterface {{\n{second}\nmcastport: 5002\n}}"
        ))
    };
    let check = |first: &str, second: &str, port: &str, warning: &str| {
        check_settings(&interfaces(first, second), &[("totem.interface.mcastport", port)]);
        check_warnings(&interfaces(first, second), &[warning]);
    };
    check("ringnumber: 0", "ringnumber: 1", "5001, c:7", "c:9: interface of ring 1: ignored");
    check("ringnumber: 1", "ringnumber: 0", "5002, c:11", "c:5: interface of ring 1: ignored");
    check("", "linknumber: 1", "5001, c:7", "c:9: interface of link 1: ignored");
    check_error(
        &interfaces("ringnumber: 0", ""),
        "c:9: a second section `totem.interface` of ring 0, the first is at c:5; corosync would mix the two",
    );
}

#[test]
fn this_node_is_found_in_the_list_by_its_name_or_address() {
    let node =
        |text: &str| load(&with_nodes(text)).map(|loaded| (loaded.config.node.get(), loaded.config.name));
    let check = |text: &str, id, name: &str| assert_eq!(node(text), Ok((id, name.to_owned())), "{text}");
    let other = "node {\nring0_addr: 10.77.11.2\nnodeid: 2\nname: system2\n}\n";
    for name in ["system1.example.org", "system1.example", "system1", "system1.other.net"] {
        check(&format!("{other}node {{\nring0_addr: 10.77.11.1\nnodeid: 1\nname: {name}\n}}"), 1, name);
    }
    check(&format!("{other}node {{\nring0_addr: 10.77.11.1\nnodeid: 1\nname: else\n}}"), 1, "else");
    check(&format!("{other}node {{\nring0_addr: 10.77.11.1\nnodeid: 1\n}}"), 1, "system1.example.org");
    check(&format!("{other}node {{\nring0_addr: system1\nnodeid: 1\n}}"), 1, "system1");
    check(&format!("{other}node {{\nring0_addr: system1\n}}"), 0x0a4d_0b01, "system1");
    check_error(
        &with_nodes(other),
        "c: this host (system1.example.org, 127.0.0.1, 10.77.11.1) is not in the node list (system2); add",
    );
}

#[test]
fn the_command_line_can_choose_the_node() {
    let text = with_nodes(
        "node {\nring0_addr: 127.0.0.1\nnodeid: 1\nname: a\n}\nnode {\nring0_addr: 127.0.0.2\nnodeid: 2\n}",
    )
    .replace("transport: udp", "transport: local");
    let choose = |name: &str| {
        let overrides = Overrides { name: Some(name.to_owned()), ..Overrides::default() };
        load_with(&text, &overrides)
            .map(|loaded| (loaded.config.node.get(), loaded.config.network.bind.to_string()))
    };
    assert_eq!(choose("a"), Ok((1, "127.0.0.1".to_owned())));
    assert_eq!(choose("2"), Ok((2, "127.0.0.2".to_owned())));
    assert_eq!(choose("127.0.0.2"), Ok((2, "127.0.0.2".to_owned())));
    assert_eq!(
        choose("b"),
        Err("c: no node of the list is called `b`; --name may be one of a, 127.0.0.2".to_owned())
    );
    check_error(&text, "c: several listed nodes live on this host; choose one with --name: a, 127.0.0.2");
}

#[test]
fn local_nodes_may_share_an_address_with_a_port_each() {
    let nodes = "node {\nring0_addr: 127.0.0.1\nnodeid: 1\nport: 6001\n}\nnode {\nring0_addr: 127.0.0.1\nnodeid: 2\nport: 6002\n}";
    let local = with_nodes(nodes).replace("transport: udp", "transport: local");
    let overrides = Overrides { name: Some("2".to_owned()), ..Overrides::default() };
    let config = load_with(&local, &overrides).unwrap().config;
    assert_eq!(config.nodes.iter().map(|node| node.port).collect::<Vec<_>>(), [Some(6001), Some(6002)]);
    assert!(
        load_with(&local.replace("6002", "6001"), &overrides)
            .unwrap_err()
            .contains("must not be the address of node 1")
    );
    check_warnings(
        &with_nodes("node {\nring0_addr: 10.77.11.1\nport: 6001\n}"),
        &["c:10: nodelist.node.port: ignored"],
    );
}

#[test]
fn a_node_needs_an_address_and_an_id_of_its_own() {
    check_error(&with_nodes("node {\nnodeid: 1\n}"), "c:8: nodelist.node.ring0_addr is missing");
    check_error(
        &with_nodes("node {\nring0_addr: nosuch\n}"),
        "c:9: `nosuch` (nodelist.node.ring0_addr) has no IPv4",
    );
    check_error(
        &with_nodes("node {\nring0_addr: fd00::1\n}"),
        "c:9: nodelist.node.ring0_addr: fd00::1 is not supported",
    );
    check_error(
        &with_nodes("node {\nring0_addr: 10.77.11.1\nnodeid: 0\n}"),
        "c:10: nodelist.node.nodeid must be a whole number from 1 to 4294967295, not `0`",
    );
    check_error(
        &with_nodes(
            "node {\nring0_addr: 10.77.11.1\nnodeid: 7\n}\nnode {\nring0_addr: 10.77.11.2\nnodeid: 7\n}",
        ),
        "c:12: node id 7 appears twice, first at c:8; give each node a nodeid of its own",
    );
    check_error(
        &format!("{}{}", with_totem(""), nodes(2)),
        "c:14: a second section `nodelist`, the first is at c:8; corosync would mix the two",
    );
    check_error(
        &with_nodes(&"node {\nring0_addr: 10.77.11.1\n}\n".repeat(385)),
        "c:1160: nodelist (385 nodes) must have",
    );
    check_warnings(
        &with_nodes("node {\nring0_addr: 10.77.11.9\nname: system1\n}"),
        &["c:8: no interface has this node's address 10.77.11.9; it uses 10.77.11.1 of eth0"],
    );
}

#[test]
fn votes_are_summed_over_the_node_list() {
    let text =
        with_nodes("node {\nring0_addr: 10.77.11.1\nquorum_votes: 3\n}\nnode {\nring0_addr: 10.77.11.2\n}");
    check_settings(
        &text,
        &[
            ("quorum.expected_votes", "4 votes, derived from the votes of the node list"),
            ("quorum.votes", "3 votes, derived from this node's quorum_votes"),
            ("nodelist.node.1.quorum_votes", "1 votes, default"),
        ],
    );
    let quorum = |lines: &str| format!("{text}quorum {{\n{lines}\n}}\n");
    check_settings(&quorum("expected_votes: 5"), &[("quorum.expected_votes", "5 votes, c:17")]);
    check_error(&quorum("expected_votes: 0"), "c:17: quorum.expected_votes must be a whole number from 1");
    check_warnings(
        &quorum("expected_votes: 3"),
        &["c: quorum.expected_votes (3) is below the votes of the node list (4): two halves of the cluster"],
    );
    check_warnings(&quorum("votes: 3"), &["c:17: quorum.votes: ignored"]);
}

/// A cluster of this many nodes with one vote each, and these lines in section quorum; the first is line 10 + 4 a node.
fn with_quorum(count: u32, lines: &str) -> String {
    let totem = "totem {\nversion: 2\ntransport: udp\nsecauth: off\ncluster_name: t\n}\n";
    format!("{totem}{}quorum {{\n{lines}\n}}\n", nodes(count))
}

fn options(text: &str) -> QuorumOptions {
    let config = load(text).unwrap_or_else(|error| panic!("{error}\n{text}")).config;
    config.quorum_options().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn quorum_options_are_read_as_corosync_reads_them() {
    assert_eq!(options(&with_quorum(3, "two_node: 0\nwait_for_all: 0")), QuorumOptions::default());
    let all = options(&with_quorum(
        4,
        "wait_for_all: 1\nlast_man_standing: 1\nlast_man_standing_window: 600\nauto_tie_breaker: 1\n\
         auto_tie_breaker_node: 3 1\nallow_downscale: 1",
    ));
    let list = [3, 1].map(|id| NodeId::new(id).unwrap()).to_vec();
    assert_eq!(
        all,
        QuorumOptions {
            two_node: false,
            wait_for_all: true,
            last_man_standing: Some(Duration::from_millis(600)),
            auto_tie_breaker: Some(TieBreaker::List(list)),
            allow_downscale: true,
            expected_votes_tracking: true,
        }
    );
    let waits = |lines: &str| options(&with_quorum(2, lines)).wait_for_all;
    assert!(waits("two_node: 1") && waits("wait_for_all: 1") && !waits("two_node: 1\nwait_for_all: 0"));
    let ties =
        |node: &str| options(&with_quorum(2, &format!("auto_tie_breaker: 1\n{node}"))).auto_tie_breaker;
    assert_eq!(ties(""), Some(TieBreaker::Lowest));
    assert_eq!(ties("auto_tie_breaker_node: highest"), Some(TieBreaker::Highest));
    check_error(
        &with_quorum(2, "two_node: yes"),
        "c:18: quorum.two_node must be a whole number from 0 to 255, not `yes`",
    );
}

#[test]
fn quorum_options_that_exclude_each_other_are_switched_off_and_said_so() {
    let check = |nodes, lines: &str, expect: QuorumOptions, warning: &str| {
        let text = with_quorum(nodes, lines);
        assert_eq!(options(&text), expect, "{lines}");
        let warnings: Vec<String> = load(&text).unwrap().warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.iter().any(|said| said.contains(warning)), "{warnings:?}");
    };
    let ties = || QuorumOptions { auto_tie_breaker: Some(TieBreaker::Lowest), ..QuorumOptions::default() };
    let waits = || QuorumOptions { wait_for_all: true, ..QuorumOptions::default() };
    check(
        2,
        "two_node: 1\nauto_tie_breaker: 1",
        QuorumOptions { wait_for_all: true, ..ties() },
        "two_node is off: with quorum.auto_tie_breaker",
    );
    check(3, "two_node: 1", waits(), "two_node is off, for there are more than two nodes");
    check(
        3,
        "auto_tie_breaker: 1",
        QuorumOptions::default(),
        "auto_tie_breaker is off, for the number of votes",
    );
    let both = with_quorum(3, "auto_tie_breaker: 1\nwait_for_all: 1");
    assert_eq!(options(&both), QuorumOptions { wait_for_all: true, ..ties() });
    let second = TieBreaker::List(vec![NodeId::new(2).unwrap()]);
    check(
        2,
        "auto_tie_breaker: 1\nauto_tie_breaker_node: 2 x",
        QuorumOptions { auto_tie_breaker: Some(second), ..QuorumOptions::default() },
        "only `2` of it counts",
    );
    check(
        2,
        "auto_tie_breaker: 1\nauto_tie_breaker_node: none",
        QuorumOptions::default(),
        "auto_tie_breaker is off",
    );
    check(
        2,
        "auto_tie_breaker_node: lowest",
        QuorumOptions::default(),
        "ignored, for quorum.auto_tie_breaker is off",
    );
}

#[test]
fn quorum_options_with_which_corosync_does_not_start_are_errors() {
    check_error(
        &with_quorum(5, "auto_tie_breaker: 1\nlast_man_standing: 1"),
        "c:30: quorum.auto_tie_breaker (1) must not go with quorum.last_man_standing in a node list with an odd number of votes",
    );
    for option in ["two_node", "last_man_standing", "auto_tie_breaker", "allow_downscale"] {
        check_error(
            &with_quorum(2, &format!("{option}: 1\ndevice {{\nmodel: net\n}}")),
            &format!("c:20: quorum.device.model (net) must not go with quorum.{option}"),
        );
    }
}

#[test]
fn with_tracking_or_downscale_the_node_list_is_expected() {
    for option in ["expected_votes_tracking", "allow_downscale"] {
        let text = with_quorum(4, &format!("expected_votes: 3\n{option}: 1"));
        assert_eq!(load(&text).unwrap().config.expected_votes(), Some(4));
        let warnings: Vec<String> = load(&text).unwrap().warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|said| said.contains("quorum.expected_votes (3) does not count")),
            "{warnings:?}"
        );
    }
    assert_eq!(load(&with_quorum(4, "expected_votes: 3")).unwrap().config.expected_votes(), Some(3));
}

#[test]
fn what_section_quorum_says_and_is_not_heeded_is_warned_about() {
    let quorum =
        |lines: &str| format!("{}quorum {{\nprovider: corosync_votequorum\n{lines}\n}}\n", with_totem(""));
    check_warnings(&quorum("two_node: 0\nwait_for_all: 0\nlast_man_standing: 0"), &[]);
    check_warnings(
        &quorum("device {\nmodel: net\nnet {\nhost: x\n}\n}"),
        &["c:16: section `quorum.device` (model, net.host): not implemented yet, ignored"],
    );
    check_warnings(
        &quorum("").replace("corosync_votequorum", "other"),
        &["c:15: quorum.provider is `other`: ignored"],
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
            "c:5: totem.tokn: unknown, ignored; check its spelling",
            "c:6: totem.rrp_mode: obsolete",
            "c:7: totem.downcheck: not implemented yet, ignored",
            "c:9: totem.token is set again at line 10, which counts",
            "c:12: section `totem.interface.member` (memberaddr): obsolete",
            "c:15: totem.interface.bindnetaddr: ignored, the node list's ring0_addr counts",
            "c:17: section `totem.strange` (deep.key): unknown",
            "c:22: totem.clear_node_high_bit is `maybe`, neither yes nor no; it counts as no",
            "c:23: totem.nodeid: ignored, as in corosync 3",
            "c:24: totem.knet_mtu: ignored: it belongs to transport knet",
        ],
    );
    check_warnings(
        &with_nodes("node {\nring0_addr: 10.77.11.1\nring1_addr: 10.0.0.1\n}"),
        &["c:10: nodelist.node.ring1_addr: ignored: there is one ring"],
    );
}

#[test]
fn an_empty_file_is_told_to_begin_with_the_version() {
    check_error("", "c: totem.version is missing; write `version: 2` into section totem");
    check_error("totem {\nversion: 1\n}", "c:2: totem.version must be 2, not `1`");
    check_error(
        "totem {\n",
        "c:1: the file ends within section `totem`, opened at line 1; add the missing `}`",
    );
}

#[cfg(feature = "tokio")]
#[test]
fn an_unreadable_file_is_told_by_its_name() {
    use quorate_membership::config;
    let check = |path: &str, expect: &str| {
        let error = config::load(path.as_ref(), &Overrides::default(), &host()).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check("/nowhere/corosync.conf", "/nowhere/corosync.conf: cannot be read (No such file");
    check("/", "/: cannot be read (");
}

#[cfg(feature = "tokio")]
#[test]
fn this_host_has_a_name_and_a_loopback_address() {
    let host = Host::local().unwrap();
    assert!(!host.name.is_empty());
    assert!(host.has([127, 0, 0, 1].into()));
}

fn quorate(lines: &str) -> String {
    format!("{}quorate {{\n{lines}\n}}\n", with_totem("token: 1000"))
}

#[test]
fn who_sets_the_windows_of_corosync_means_them_whoever_the_members_are() {
    let largest = |totem: &str, quorate: &str| {
        let text = format!("{}quorate {{\n{quorate}\n}}\n", with_totem(totem));
        load_with(&text, &Overrides::default()).unwrap().config.totem.largest_window
    };
    assert_eq!(largest("", ""), 1024);
    assert_eq!(largest("window_size: 100", ""), 0);
    assert_eq!(largest("max_messages: 20", ""), 0);
    assert_eq!(largest("window_size: 100", "window_size: 300"), 300);
    assert_eq!(largest("", "window_size: 0"), 0);
}

#[test]
fn a_node_says_that_it_can_take_what_its_socket_holds_twice() {
    let largest = |room| quorate_membership::config::TotemConfig::default().fitting(room).largest_window;
    assert_eq!(largest(None), 1024);
    assert_eq!(largest(Some(8 << 20)), 1024);
    assert_eq!(largest(Some(2 * 212_992)), 92);
    assert_eq!(largest(Some(0)), 0);
}

#[test]
fn the_lease_follows_from_the_token_timeout_and_the_rate_error_unless_it_is_set() {
    check_settings(
        &quorate(""),
        &[
            ("quorate.preempt", "no, default"),
            ("quorate.dc_deadtime", "20000 ms, default"),
            ("quorate.rate_error", "10000 millionths, default"),
            ("quorate.lease", "990 ms, derived from totem.token and quorate.rate_error"),
        ],
    );
    let line = with_totem("token: 1000").lines().count() + 2;
    let set = format!("5000 ms, c:{line}");
    check_settings(&quorate("lease: 5000"), &[("quorate.lease", &set)]);
}

#[test]
fn a_lease_that_an_idle_ring_cannot_renew_is_refused() {
    let line = with_totem("token: 1000").lines().count() + 2;
    check_error(
        &quorate("lease: 300"),
        &format!("c:{line}: quorate.lease (300 ms) must be more than twice totem.hold"),
    );
    check_error(&quorate("rate_error: 200001"), &format!("c:{line}: quorate.rate_error"));
}

proptest! {
    /// Lines that mean something, in any order and number.
    #[test]
    fn no_file_makes_it_panic(
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

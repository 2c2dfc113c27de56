//! Section `totem`: timeouts, numbers, the transport, and the source of its group and interface.

use super::*;

#[test]
fn timeouts_are_derived_as_corosync_derives_them() {
    check_settings(
        &with_totem("token: 1650"),
        &[
            ("totem.token", "1650 ms, c:5"),
            ("totem.token_retransmit", "52 ms, derived from totem.hold; corosync would use 392 ms"),
            ("totem.hold", "42 ms, derived from quorate.lease; corosync would use 303 ms"),
            ("totem.consensus", "1980 ms, derived from totem.token"),
            ("totem.join", "50 ms, default"),
        ],
    );
    check_settings(
        &with_totem("token: 200"),
        &[
            ("totem.token_retransmit", "33 ms, derived from totem.hold; corosync would use 47 ms"),
            ("totem.hold", "27 ms, derived from totem.token_retransmit"),
        ],
    );
    check_settings(
        &with_totem("token: 1650\ntoken_retransmit: 200\nconsensus: 4000"),
        &[
            ("totem.token_retransmit", "200 ms, c:6"),
            ("totem.hold", "42 ms, derived from quorate.lease; corosync would use 150 ms"),
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
            ("totem.token_retransmit", "52 ms, derived from totem.hold; corosync would use 392 ms"),
        ],
    );
    check_settings(
        &text("token_coefficient: 0", 3),
        &[("totem.token", "1000 ms, c:5"), ("totem.token_coefficient", "0 ms, c:6")],
    );
}

#[test]
fn zero_means_the_default_unless_it_is_a_valid_value() {
    check_settings(
        &with_totem("token: 0\nhold: 0\nwindow_size: 0\nsend_join: 0\ninterface {\nmcastport: 0\nttl: 0\n}"),
        &[
            ("totem.token", "3000 ms, default"),
            ("totem.hold", "42 ms, derived from quorate.lease; corosync would use 561 ms"),
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
    for bad in ["0x10", "-5", "4294967296", "99999999999999999999", "1e3", "500ms"] {
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
fn an_out_of_bounds_value_is_reported_at_its_line_or_source() {
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
        "c:5: totem.token (40 ms) must not be below 126 ms with 4 retransmits",
    );
    check_error(
        &with_totem("token_retransmits_before_loss_const: 100"),
        "c:5: totem.token (3000 ms) must not be below 3006 ms with 100 retransmits",
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
        "c:6: totem.interface.mcastport (1) must not be below 2, because the port below it is used too",
    );
}

#[test]
fn udpu_needs_a_node_list_and_no_group() {
    let listed =
        with_totem("interface {\nmcastaddr: 239.1.1.1\n}").replace("transport: udp", "transport: udpu");
    check_settings(&listed, &[("totem.transport", "udpu, c:3")]);
    let warning = "c:6: totem.interface.mcastaddr: ignored, transport udpu has no group";
    check_warnings(&listed, &[warning]);
    let unlisted = &listed[..listed.find("nodelist").unwrap()];
    check_error(unlisted, "c: nodelist is missing; transport udpu sends to its nodes");
}

#[test]
fn the_transport_is_udp_or_local() {
    let transport = |value: &str| with_totem("").replace("transport: udp", value);
    check_settings(&transport("transport: udp"), &[("totem.transport", "udp, c:3")]);
    check_settings(&transport("transport: local"), &[("totem.transport", "local, c:3")]);
    check_warnings(
        &transport(""),
        &["c: totem.transport is not set: the default here is udp, where corosync 3 would use knet"],
    );
    check_error(
        &transport("transport: knet"),
        "c:3: totem.transport: knet is not supported; write `transport: udp`",
    );
    check_error(&transport("transport: tcp"), "c:3: totem.transport must be udp, udpu, or local");
}

#[test]
fn clear_text_must_be_requested_and_encryption_is_rejected() {
    let secauth = |value: &str| with_totem("").replace("secauth: off", value);
    check_warnings(&secauth("secauth: off"), &[]);
    check_warnings(&secauth("crypto_cipher: none"), &[]);
    check_warnings(&secauth("secauth: on\ncrypto_cipher: none\ncrypto_hash: none"), &[]);
    check_warnings(
        &secauth(""),
        &["c: the ring uses clear text, although the file does not request it; confirm this with \
           `secauth: off` or `crypto_cipher: none` in section totem, or with --clear-text"],
    );
    let mut asked = Overrides::default();
    asked.clear_text = true;
    let warnings = load_with(&secauth(""), &asked).unwrap().warnings;
    assert!(warnings.iter().all(|warning| !warning.text.contains("clear text")), "{warnings:?}");

    check_error(
        &secauth("secauth: on"),
        "c:4: totem.secauth: on is not supported; transports udp and udpu have clear text only",
    );
    check_error(&secauth("secauth: on\ncrypto_cipher: none"), "c:4: totem.secauth: on is not supported");
    check_error(&secauth("crypto_cipher: aes256"), "c:4: totem.crypto_cipher: aes256 is not supported");
    check_error(&secauth("secauth: off\ncrypto_hash: sha1"), "c:5: totem.crypto_hash: sha1 is not supported");
    check_error(&secauth("secauth: yes"), "c:4: totem.secauth must be off, not `yes`");
}

#[test]
fn the_group_comes_from_the_file_or_the_cluster_name() {
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
        "c: totem.interface.mcastaddr is missing; add `cluster_name: NAME`",
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
}

#[test]
fn the_ip_version_decides_about_names_and_is_kept_to() {
    let node = |address: &str, id: u32| format!("node {{\nring0_addr: {address}\nnodeid: {id}\n}}\n");
    let file = |version: &str, one: &str, two: &str| {
        let totem = with_totem(version);
        let totem = &totem[..totem.find("nodelist").unwrap()];
        format!("{totem}nodelist {{\n{}{}}}\n", node(one, 1), node(two, 2))
    };
    let v6 = [
        ("nodelist.node.0.ring0_addr", "fd00::1, c:10"),
        ("totem.interface.mcastaddr", "ff15::74, derived from totem.cluster_name"),
    ];
    check_settings(&file("", "fd00::1", "fd00::2"), &v6);
    check_settings(&file("ip_version: ipv6", "fd00::1", "fd00::2"), &v6);
    check_settings(
        &file("ip_version: ipv6-4", "system1", "fd00::2"),
        &[("nodelist.node.0.ring0_addr", "fd00::1, derived from the host name system1 (c:10)")],
    );
    check_settings(
        &file("ip_version: ipv4-6", "system1", "10.77.11.2"),
        &[("nodelist.node.0.ring0_addr", "10.77.11.1, derived from the host name system1 (c:10)")],
    );
    check_error(
        &file("ip_version: ipv4", "fd00::1", "fd00::2"),
        "c:10: nodelist.node.ring0_addr is `fd00::1`; totem.ip_version does not allow this address",
    );
    check_error(
        &file("ip_version: ipv6", "system2", "fd00::2"),
        "c:10: `system2` (nodelist.node.ring0_addr) has no IPv6",
    );
    check_error(
        &file("", "fd00::1", "10.77.11.2"),
        "c: nodelist.node.ring0_addr (10.77.11.2 of node 2) must be of the same",
    );
    check_error(&with_totem("ip_version: 6"), "c:5: totem.ip_version must be ipv4, ipv6, ipv4-6 or ipv6-4");
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
        "c:44: no interface of this host is in the network of 192.168.3.0 (totem.interface.bindnetaddr); \
         this host has lo 127.0.0.1/8, eth0 10.77.11.1/24",
    );
    check_error(&bindnetaddr(""), "c:41: totem.interface.bindnetaddr is missing; add the ring's network");
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
        "c: totem.interface.bindnetaddr is missing; add the ring's network",
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
        "c:9: section `totem.interface` of ring 0 appears twice, first at c:5; corosync would merge the two",
    );
}

//! The node list, and how a node finds itself in it.

use super::*;

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
        let mut overrides = Overrides::default();
        overrides.name = Some(name.to_owned());
        load_with(&text, &overrides)
            .map(|loaded| (loaded.config.node.get(), loaded.config.bind().to_string()))
    };
    assert_eq!(choose("a"), Ok((1, "127.0.0.1".to_owned())));
    assert_eq!(choose("2"), Ok((2, "127.0.0.2".to_owned())));
    assert_eq!(choose("127.0.0.2"), Ok((2, "127.0.0.2".to_owned())));
    assert_eq!(
        choose("b"),
        Err("c: no listed node is called `b`; choose one with --name: a, 127.0.0.2".to_owned())
    );
    check_error(&text, "c: several listed nodes run on this host; choose one with --name: a, 127.0.0.2");
}

#[test]
fn local_nodes_may_share_an_address_with_a_port_each() {
    let nodes = "node {\nring0_addr: 127.0.0.1\nnodeid: 1\nport: 6001\n}\nnode {\nring0_addr: 127.0.0.1\nnodeid: 2\nport: 6002\n}";
    let local = with_nodes(nodes).replace("transport: udp", "transport: local");
    let mut overrides = Overrides::default();
    overrides.name = Some("2".to_owned());
    let config = load_with(&local, &overrides).unwrap().config;
    assert_eq!(config.nodes.iter().map(|node| node.port).collect::<Vec<_>>(), [Some(6001), Some(6002)]);
    assert!(
        load_with(&local.replace("6002", "6001"), &overrides)
            .unwrap_err()
            .contains("the address 127.0.0.1 appears twice, first at c:8")
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
        "c:9: nodelist.node.ring0_addr (fd00::1) must have a nodeid beside it",
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
        "c:14: section `nodelist` appears twice, first at c:8; corosync would merge the two",
    );
    check_error(
        &with_nodes(&"node {\nring0_addr: 10.77.11.1\n}\n".repeat(385)),
        "c:1160: nodelist (385 nodes) must have",
    );
    check_warnings(
        &with_nodes("node {\nring0_addr: 10.77.11.9\nname: system1\n}"),
        &["c:8: no interface has this node's address 10.77.11.9, so the node waits for it"],
    );
}

#[test]
fn a_listed_address_is_never_replaced_by_another() {
    let text = with_nodes("node {\nring0_addr: 10.77.11.9\nname: system1\n}");
    assert_eq!(load(&text).unwrap().config.bind(), IpAddr::from([10, 77, 11, 9]));
}

#[test]
fn bindnetaddr_warns_where_it_leaves_a_choice() {
    let text = |bindnetaddr: &str| {
        format!(
            "totem {{\nversion: 2\ntransport: udp\nsecauth: off\ninterface {{\nmcastaddr: 239.0.0.1\n\
             bindnetaddr: {bindnetaddr}\n}}\n}}\nquorum {{\nexpected_votes: 3\n}}\n"
        )
    };
    let mut host = host();
    let eth0 = host.interfaces[1].clone();
    let check = |host: &Host, bindnetaddr: &str, expect: &[&str]| {
        let loaded = parse("c", text(bindnetaddr).as_bytes(), &Overrides::default(), host).unwrap();
        assert_eq!(loaded.config.bind(), IpAddr::from([10, 77, 11, 1]));
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        let warnings = warnings.filter(|warning| warning.contains("bindnetaddr")).collect::<Vec<_>>();
        assert_eq!(warnings.len(), expect.len(), "{warnings:?}");
        assert!(
            warnings.iter().zip(expect).all(|(warning, expect)| warning.starts_with(expect)),
            "{warnings:?}"
        );
    };
    check(&host, "10.77.11.0", &[]);
    check(&host, "10.77.11.1", &[]);
    check(
        &host,
        "10.77.11.7",
        &["c:7: bindnetaddr 10.77.11.7 is not an address of this host; the node uses eth0"],
    );
    host.interfaces.push(Interface { address: [10, 77, 11, 100].into(), ..eth0 });
    check(&host, "10.77.11.1", &[]);
    check(
        &host,
        "10.77.11.0",
        &["c:7: bindnetaddr 10.77.11.0 is the network of several addresses of this host; the node uses eth0"],
    );
}

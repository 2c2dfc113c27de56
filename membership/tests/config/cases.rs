//! Mistakes from public files, one per file in `cases/`, each with the expected messages and
//! settings.

use super::*;

/// The expected result of a file. Messages are in the order of its lines and given by their
/// beginnings.
#[derive(Default)]
struct Case {
    file: &'static str,
    errors: &'static [&'static str],
    warnings: &'static [&'static str],
    /// Settings in the form `key value unit, source`.
    settings: &'static [&'static str],
}

const OK: Case = Case { file: "", errors: &[], warnings: &[], settings: &[] };

const CASES: &[Case] = &[
    Case {
        file: "01-nested-node",
        errors: &["11: section `node` is inside section `node`, opened at line 8; close that section with \
             `}` first"],
        ..OK
    },
    Case {
        file: "03-node-outside-nodelist",
        errors: &["13: section `node` is outside section `nodelist`: it would have no vote; move it into \
             `nodelist { }`"],
        ..OK
    },
    Case {
        file: "05-dotted-two-node",
        errors: &[
            "20: `quorum.two_node` is outside section `quorum`, where corosync ignores it; move it into",
        ],
        ..OK
    },
    Case {
        file: "07-tie-breaker-comma",
        warnings: &[
            "28: quorum.auto_tie_breaker_node is `1,2`: only `1` of it is used, as in corosync; separate \
             node ids with spaces",
        ],
        settings: &["quorum.auto_tie_breaker 1, c:27", "quorum.auto_tie_breaker_node 1, c:28"],
        ..OK
    },
    Case {
        file: "09-latin1-cluster-name",
        warnings: &["3: totem.cluster_name is not UTF-8; its bytes determine the group, as in corosync"],
        settings: &["totem.interface.mcastaddr 239.192.5.86, derived from totem.cluster_name"],
        ..OK
    },
    Case {
        file: "10-no-nodeid",
        warnings: &[
            "corosync 3.1 counts nodes whose only key is ring0_addr twice, and would use a token timeout of \
             5600 ms instead of 3650 ms; give each node a nodeid",
        ],
        ..OK
    },
    Case {
        file: "12-two-rings-udp",
        warnings: &[
            "11: interface of ring 1: ignored, because redundant rings are not supported; corosync 3 ignores \
             ringnumber and uses the last value of each key: mcastaddr 239.1.1.2, mcastport 5407",
        ],
        settings: &["totem.interface.mcastaddr 239.1.1.1, c:8", "totem.interface.mcastport 5405, c:9"],
        ..OK
    },
    Case {
        file: "13-no-provider",
        warnings: &[
            "quorum.two_node: both nodes are quorate when they do not hear each other",
            "17: quorum.provider is not set: votes are counted anyway, where corosync would count none",
        ],
        ..OK
    },
    Case {
        file: "15-effective-two-node-and-tie-breaker",
        warnings: &["quorum.two_node is off, because quorum.auto_tie_breaker"],
        settings: &[
            "quorum.two_node 0, derived from quorum.auto_tie_breaker, which excludes it, despite 1 (c:19)",
            "quorum.wait_for_all 1, derived from quorum.two_node",
            "quorum.auto_tie_breaker 1, c:20",
            "quorum.auto_tie_breaker_node lowest, default",
        ],
        ..OK
    },
    Case {
        file: "17-effective-tie-breaker-odd",
        warnings: &["quorum.auto_tie_breaker is off, because the node list has an odd number of votes"],
        settings: &[
            "quorum.auto_tie_breaker 0, derived from an odd number of votes without quorum.wait_for_all, \
             which excludes it, despite 1 (c:23)",
        ],
        ..OK
    },
    Case {
        file: "19-effective-tracking",
        warnings: &["quorum.expected_votes_tracking: ", "quorum.expected_votes (5) is ignored"],
        settings: &[
            "quorum.expected_votes 2 votes, derived from the votes of the node list, which apply with \
             expected_votes_tracking or allow_downscale, despite 5 (c:20)",
        ],
        ..OK
    },
    Case {
        file: "20-device-expected",
        settings: &[
            "quorum.device.votes 2 votes, derived from the number of nodes",
            "quorum.expected_votes 5 votes, derived from the votes of the node list and of the quorum device",
        ],
        ..OK
    },
    Case {
        file: "21-nbsp-before-number",
        errors: &["6: totem.token is `\\u{a0} 5000`; it contains an invisible character; retype the value"],
        ..OK
    },
    Case {
        file: "23-retransmits-1-lease",
        settings: &[
            "totem.token_retransmit 52 ms, derived from totem.hold; corosync would use 2500 ms",
            "totem.hold 42 ms, derived from quorate.lease; corosync would use 1990 ms",
            "quorate.lease 300 ms, default",
        ],
        ..OK
    },
    Case { file: "25-netmtu-9216", settings: &["totem.netmtu 9216 bytes, c:6"], ..OK },
    Case {
        file: "27-broadcast",
        errors: &[
            "7: totem.interface.broadcast: yes is not supported; remove it and set mcastaddr on all nodes",
        ],
        ..OK
    },
    Case {
        file: "28-provider-misspelt",
        errors: &["18: quorum.provider must be corosync_votequorum, not `corosync_votequorom`"],
        ..OK
    },
    Case {
        file: "29-ring1-udp",
        warnings: &[
            "11: nodelist.node.ring1_addr: ignored: there is only one ring, on ring0_addr; corosync would \
             not start with `10.78.11.1`, because `transport: udp` has one link",
            "17: nodelist.node.ring1_addr: ",
        ],
        ..OK
    },
    Case {
        file: "31-duplicate-address",
        errors: &[
            "12: the address 10.77.11.1 appears twice, first at c:8; give each node an address of its own",
        ],
        ..OK
    },
    Case {
        file: "32-comment-behind-number",
        errors: &["6: totem.token is `5000 # five seconds`; a comment needs a line of its own"],
        ..OK
    },
    Case {
        file: "33-comment-behind-cipher",
        errors: &["5: totem.crypto_cipher is `none # clear text`; a comment needs a line of its own"],
        ..OK
    },
    Case {
        file: "35-bom-before-section",
        errors: &["1: the file begins with a byte order mark; save it as UTF-8 without one"],
        ..OK
    },
    Case {
        file: "37-missing-brace-node",
        errors: &["11: section `node` is inside section `node`, opened at line 8; close that section with \
             `}` first"],
        ..OK
    },
    Case {
        file: "39-equals-sign",
        errors: &[
            "6: the line `token = 5000` is neither `section {` nor `key: value` nor `}`; write `:` instead of `=`",
        ],
        ..OK
    },
    Case {
        file: "40-brace-on-next-line",
        errors: &["1: `totem` opens a section only with `{` on its line; move the next line's `{` up"],
        ..OK
    },
    Case {
        file: "42-upper-case-section",
        errors: &["1: section `Totem` is unknown; did you mean `totem`?"],
        ..OK
    },
    Case {
        file: "44-nodelist-misspelt",
        errors: &["7: section `nodeslist` is unknown; did you mean `nodelist`?"],
        ..OK
    },
    Case {
        file: "45-nbsp-before-address",
        errors: &["9: nodelist.node.ring0_addr is `\\u{a0}10.77.11.1`; it contains an invisible character"],
        ..OK
    },
    Case {
        file: "47-token-100",
        errors: &["6: totem.token (100 ms) must not be below 126 ms with 4 retransmits \
             (totem.token_retransmits_before_loss_const), which need 30 ms each"],
        ..OK
    },
    Case {
        file: "48-loopback-by-hosts-file",
        errors: &[
            "9: nodelist.node.ring0_addr is `looped`; on this host it resolves to the loopback address \
             127.0.1.1, perhaps by /etc/hosts; write the node's address",
        ],
        ..OK
    },
    Case {
        file: "50-close-and-open-one-line",
        errors: &["6: `}` must be alone on its line; put the rest on another line"],
        ..OK
    },
    Case {
        file: "51-template-left",
        errors: &["9: `{` opens a section, and nothing may follow it; is this an unfilled template?"],
        ..OK
    },
    Case {
        file: "53-cluster-uuid",
        warnings: &["6: totem.cluster_uuid: ignored: pcs wrote it for its own use"],
        ..OK
    },
    Case {
        file: "55-address-with-prefix",
        errors: &[
            "9: nodelist.node.ring0_addr is `10.77.11.1/24`; write a single address, such as 10.77.11.1",
        ],
        ..OK
    },
    Case {
        file: "57-quoted-cluster-name",
        warnings: &["3: totem.cluster_name is `\"prod\"`: the quotes are part of the value"],
        settings: &["totem.interface.mcastaddr 239.192.17.135, derived from totem.cluster_name"],
        ..OK
    },
    Case {
        file: "59-leading-zero-address",
        warnings: &[
            "13: nodelist.node.ring0_addr is `10.77.11.010`, which is 10.77.11.8, because a leading 0 makes \
             a number octal",
        ],
        settings: &["nodelist.node.1.ring0_addr 10.77.11.8, derived from the host name 10.77.11.010 (c:13)"],
        ..OK
    },
    Case {
        file: "60-expected-votes-0",
        errors: &["19: quorum.expected_votes must be a whole number from 1 to 4294967295, not `0`"],
        ..OK
    },
    Case {
        file: "62-two-node-yes",
        errors: &["19: quorum.two_node must be 1 for yes or 0 for no, not `yes`"],
        ..OK
    },
    Case {
        file: "63-overridden-invalid-value",
        errors: &["5: totem.crypto_cipher must be none (the ring uses clear text), not `no`"],
        warnings: &["5: totem.crypto_cipher is set again at line 6, which takes precedence"],
        ..OK
    },
    Case {
        file: "64-coefficient-overflow",
        errors: &[
            "6: totem.token (4294970295 ms, derived from 3000 ms (default) and totem.token_coefficient, for \
             a list of 3 nodes) must not be above 1789569600 ms, coefficient included, because corosync \
             keeps totem.consensus in 32 bits",
        ],
        ..OK
    },
    Case {
        file: "65-threads-text",
        warnings: &[
            "6: totem.threads: obsolete, ignored: there are no threads to configure; corosync would not \
             start with `many`, which must be a number",
        ],
        ..OK
    },
    Case {
        file: "67-empty-address",
        errors: &["9: nodelist.node.ring0_addr is empty; write a value, or remove the line"],
        ..OK
    },
];

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/cases");

/// Returns a warning or an error without the file's name.
fn line(text: &impl ToString) -> String {
    let text = text.to_string();
    text.strip_prefix("c:").map_or_else(|| text.clone(), |text| text.trim_start().to_owned())
}

/// Describes how these messages differ from the expected ones, if they do.
fn mismatch<T: ToString>(case: &Case, kind: &str, got: &[T], expect: &[&str]) -> Option<String> {
    let got: Vec<String> = got.iter().map(line).collect();
    let fits =
        got.len() == expect.len() && got.iter().zip(expect).all(|(got, expect)| got.starts_with(expect));
    (!fits).then(|| format!("{}, {kind}:\ngave {got:#?}\nnot  {expect:#?}", case.file))
}

#[test]
fn every_public_mistake_is_reported_with_place_and_remedy() {
    let mut mismatches = Vec::new();
    for case in CASES {
        let text = std::fs::read(format!("{DIRECTORY}/{}.conf", case.file)).expect(case.file);
        let (errors, warnings, settings) = match parse("c", &text, &Overrides::default(), &host()) {
            Ok(loaded) => (Vec::new(), loaded.warnings, loaded.settings.iter().map(shown).collect()),
            Err(rejected) => (rejected.errors, rejected.warnings, Vec::new()),
        };
        mismatches.extend(mismatch(case, "errors", &errors, case.errors));
        mismatches.extend(mismatch(case, "warnings", &warnings, case.warnings));
        let missing = case.settings.iter().filter(|expect| !settings.iter().any(|got| got == *expect));
        mismatches.extend(missing.map(|expect| format!("{}: no {expect} in {settings:#?}", case.file)));
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

fn shown(setting: &Setting) -> String {
    let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
    format!("{} {}{unit}, {}", setting.key, setting.value, setting.source)
}

#[test]
fn every_case_file_has_its_expectation() {
    let mut files: Vec<String> = std::fs::read_dir(DIRECTORY)
        .expect("the directory of the cases")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".conf", ""))
        .collect();
    files.sort();
    assert_eq!(files, CASES.iter().map(|case| case.file).collect::<Vec<_>>());
}

/// The file has many mistakes, and one run finds all of them, each at its line.
#[test]
fn one_run_reports_all_problems_of_a_file() {
    let text = "totem {\nversion: 2\ncluster_name: t\ntransport: tcp\nsecauth: off\ntoken: 5000 # ms\nhold: x\n\
                join = 50\nmerge: 1\ntokn: 3000\n}\nnodelist {\nnode {\nring0_addr: 10.77.11.1/24\nnodeid: 1\n}\n\
                Node {\nring0_addr: 10.77.11.2\n}\n}\nquorum {\nprovider: votequorum\ntwo_node: true\n}\n";
    let rejected = parse("c", text.as_bytes(), &Overrides::default(), &host()).expect_err(text);
    let lines: Vec<_> =
        rejected.errors.iter().map(|error| error.place.as_ref().and_then(|p| p.line)).collect();
    assert_eq!(lines, [4, 6, 7, 8, 9, 14, 17, 22, 23].map(Some), "{rejected}");
    assert_eq!(rejected.to_string().lines().count(), lines.len());
    assert_eq!(rejected.warnings.len(), 1, "{:?}", rejected.warnings);
    assert_eq!(rejected.warnings[0].to_string(), "c:10: totem.tokn: unknown, ignored; did you mean `token`?");
}

#[test]
fn consequences_of_a_mistake_are_not_reported() {
    let only = |text: &str, expect: &str| {
        let rejected = parse("c", text.as_bytes(), &Overrides::default(), &host()).expect_err(text);
        let errors: Vec<String> = rejected.errors.iter().map(line).collect();
        assert!(errors.len() == 1 && errors[0].starts_with(expect), "{errors:#?}");
    };
    // An unclosed section encloses the sections behind it: here two nodes, below the node list.
    let nodes = "node {\nring0_addr: 10.77.11.2\nnodeid: 2\n}\nnode {\nring0_addr: 10.77.11.3\nnodeid: 3\n}";
    only(
        &with_nodes(&format!("node {{\nring0_addr: 10.77.11.1\nnodeid: 1\n{nodes}")),
        "11: section `node` is inside",
    );
    only(
        &with_totem("").replace("}\nnodelist", "nodelist"),
        "7: section `nodelist` is inside section `totem`, opened at line 1",
    );
    // If the token timeout were known, it might be long enough for the lease.
    only(&with_totem("token: x\nhold: 2000"), "5: totem.token must be a whole number");
    only(
        &with_nodes("node {\nring0_addr: nosuch\nnodeid: 2\n}"),
        "9: `nosuch` (nodelist.node.ring0_addr) has no IPv4",
    );
}

#[test]
fn a_structure_that_loses_a_node_is_refused() {
    let node = "node {\nring0_addr: 10.77.11.1\nnodeid: 1\n";
    let check = |list: &str, expect: &str| check_error(&with_nodes(list), expect);
    check(
        &format!("{node}}}\nnodes {{\nring0_addr: 10.77.11.2\n}}"),
        "c:12: section `nodes` in section `nodelist` would have no vote",
    );
    check(
        &format!("{node}extra {{\nnodeid: 5\n}}\n}}"),
        "c:11: section `extra` is in section `node`, so corosync takes its keys",
    );
    check(
        &format!("{node}}}\nring0_addr: 10.77.11.2"),
        "c:12: `ring0_addr` is outside a section `node`; write `node {`",
    );
    check(
        &format!("{node}}}\n}}\nnodelist.node {{\nring0_addr: 10.77.11.2"),
        "c:13: section `nodelist.node` is beside section",
    );
    check_error(
        &format!("{}quorum {{\nquorum_votes: 3\n}}\n", with_totem("")),
        "c:15: `quorum_votes` is outside",
    );
    check_error(
        &with_totem("quorum {\ntwo_node: 1\n}"),
        "c:5: section `quorum` is inside section `totem`, opened at line 1",
    );
    check_error(
        &with_totem("interface {\ninterface {\n}\n}"),
        "c:6: section `interface` is inside section `interface`",
    );
    check_error(
        &format!("{}interface {{\nmcastport: 1\n}}\n", with_totem("")),
        "c:14: section `interface` is outside",
    );
    check_error(
        &format!("{}cluster {{\nnode {{\n}}\n}}\n", with_totem("")),
        "c:14: section `cluster` is unknown; did you mean `nodelist`?",
    );
}

#[test]
fn a_dotted_key_counts_where_corosync_counts_it() {
    let text = with_totem("").replace("transport: udp\n", "") + "totem.transport: local\n";
    check_settings(&text, &[("totem.transport", "local, c:13")]);
    for key in ["totem.token: 6000", "quorum.expected_votes: 9", "quorate.lease: 9"] {
        let (section, _) = key.split_once('.').expect("a dot");
        check_error(
            &format!("{}{key}\n", with_totem("")),
            &format!("c:14: `{}` is outside section `{section}`", key.split(':').next().expect("a colon")),
        );
    }
    check_settings(
        &(with_totem("") + "totem.interface {\nmcastport: 5407\n}\n"),
        &[("totem.interface.mcastport", "5407, c:15")],
    );
}

/// Covers the group, the port and the digest. Two names that differ in one non-UTF-8 byte are two
/// clusters.
#[test]
fn a_cluster_name_counts_byte_by_byte() {
    let named = |name: &[u8]| {
        let text = with_totem("");
        let (before, behind) = text.split_once("cluster_name: t").expect("a name");
        let text = [before.as_bytes(), b"cluster_name: ", name, behind.as_bytes()].concat();
        parse("c", &text, &Overrides::default(), &host()).expect("fine")
    };
    let shown = |loaded: &Loaded| {
        let setting = loaded.settings.iter().find(|setting| setting.key == "totem.cluster_name");
        setting.expect("shown").value.to_string()
    };
    let (acute, grave) = (named(b"caf\xe9"), named(b"caf\xe8"));
    assert_eq!(acute.config.cluster_tag(), Some(ClusterTag::of(b"caf\xe9")));
    assert_eq!(grave.config.cluster_tag(), Some(ClusterTag::of(b"caf\xe8")));
    assert_ne!(acute.config.group(), grave.config.group());
    assert_eq!((shown(&acute), shown(&grave)), ("caf\\xe9".to_owned(), "caf\\xe8".to_owned()));
    let utf8 = named("café".as_bytes());
    assert_eq!(utf8.config.cluster_tag(), Some(ClusterTag::of("café".as_bytes())));
    assert_eq!(shown(&utf8), "café");
}

#[test]
fn a_loopback_address_among_others_is_refused() {
    let nodes = |first: &str, second: &str| {
        with_nodes(&format!(
            "node {{\nring0_addr: {first}\nnodeid: 1\n}}\nnode {{\nring0_addr: {second}\nnodeid: 2\n}}"
        ))
    };
    check_error(
        &nodes("127.0.0.1", "10.77.11.2"),
        "c:9: nodelist.node.ring0_addr is `127.0.0.1`; its peers cannot reach it at a loopback address",
    );
    let mut first = Overrides::default();
    first.name = Some("1".to_owned());
    assert!(load_with(&nodes("127.0.0.1", "127.0.0.2"), &first).is_ok(), "perhaps all live here");
    let local = nodes("looped", "127.0.0.2").replace("transport: udp", "transport: local");
    assert!(load_with(&local, &first).is_ok(), "all live here");
    let alone = with_nodes("node {\nring0_addr: looped\nnodeid: 1\nname: system1\n}");
    assert!(load(&alone).is_ok(), "there are no peers");
}

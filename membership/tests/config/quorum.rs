//! Section `quorum`, and votes.

use super::*;

#[test]
fn expected_votes_on_the_command_line_override_the_file() {
    let mut overrides = Overrides::default();
    overrides.expected_votes = Some(2);
    let loaded = load_with(ONE_X, &overrides).unwrap();
    assert_eq!(loaded.config.expected_votes(), Some(2));
    assert!(loaded.warnings.iter().all(|warning| !warning.text.contains("the number of expected votes")));

    let in_file = format!("{}quorum {{\nexpected_votes: 3\n}}\n", with_totem(""));
    let loaded = load_with(&in_file, &overrides).unwrap();
    assert_eq!(loaded.config.expected_votes(), Some(2));
    assert!(loaded.warnings.iter().any(|warning| {
        warning.to_string() == "c:15: quorum.expected_votes: ignored in favour of --expected-votes 2"
    }));
}

#[test]
fn votes_are_summed_over_the_node_list() {
    let text = with_nodes(
        "node {\nring0_addr: 10.77.11.1\nquorum_votes: 3\n}\nnode {\nring0_addr: 10.77.11.2\nname: b\n}",
    );
    check_settings(
        &text,
        &[
            ("quorum.expected_votes", "4 votes, derived from the votes of the node list"),
            ("quorum.votes", "3 votes, derived from this node's quorum_votes"),
            ("nodelist.node.1.quorum_votes", "1 votes, default"),
        ],
    );
    let quorum = |lines: &str| format!("{text}quorum {{\n{lines}\n}}\n");
    check_settings(&quorum("expected_votes: 5"), &[("quorum.expected_votes", "5 votes, c:18")]);
    check_error(&quorum("expected_votes: 0"), "c:18: quorum.expected_votes must be a whole number from 1");
    check_warnings(
        &quorum("expected_votes: 3"),
        &["c: quorum.expected_votes (3) is below the votes of the node list (4): two halves of the cluster"],
    );
    check_warnings(
        &quorum("expected_votes: 8"),
        &["c: quorum.expected_votes (8) needs 5 votes, but the node list has 4: no partition can be quorate"],
    );
    check_warnings(&quorum("expected_votes: 7"), &[]);
    check_warnings(&quorum("votes: 3"), &["c:18: quorum.votes: ignored"]);
}

/// Returns the file of a cluster of `count` nodes with one vote each and with these lines in
/// section `quorum`. The first of these lines is line 10 + 4 * `count`.
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
        "c:18: quorum.two_node must be 1 for yes or 0 for no, not `yes`",
    );
}

#[test]
fn conflicting_quorum_options_are_disabled_with_a_warning() {
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
        "two_node is off, because quorum.auto_tie_breaker",
    );
    check(3, "two_node: 1", waits(), "two_node is off, because there are more than two nodes");
    check(
        3,
        "auto_tie_breaker: 1",
        QuorumOptions::default(),
        "auto_tie_breaker is off, because the node list has an odd number of votes",
    );
    let both = with_quorum(3, "auto_tie_breaker: 1\nwait_for_all: 1");
    assert_eq!(options(&both), QuorumOptions { wait_for_all: true, ..ties() });
    let second = TieBreaker::List(vec![NodeId::new(2).unwrap()]);
    check(
        2,
        "auto_tie_breaker: 1\nauto_tie_breaker_node: 2 x",
        QuorumOptions { auto_tie_breaker: Some(second), ..QuorumOptions::default() },
        "only `2` of it is used",
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
        "ignored, because quorum.auto_tie_breaker is off",
    );
}

#[test]
fn quorum_options_that_stop_corosync_are_errors() {
    check_error(
        &with_quorum(5, "auto_tie_breaker: 1\nlast_man_standing: 1"),
        "c:30: quorum.auto_tie_breaker (1) must not be combined with quorum.last_man_standing if the node \
         list has an odd number of votes",
    );
    for option in ["two_node", "last_man_standing", "auto_tie_breaker", "allow_downscale"] {
        check_error(
            &with_quorum(2, &format!("{option}: 1\ndevice {{\nmodel: net\n}}")),
            &format!("c:20: quorum.device.model (net) must not be combined with quorum.{option}"),
        );
    }
}

#[test]
fn a_quorum_device_has_votes_beside_those_of_the_nodes() {
    let device = |nodes, lines: &str| load(&with_quorum(nodes, &format!("device {{\nmodel: net\n{lines}}}")));
    let votes = |nodes, lines| {
        let config = device(nodes, lines).unwrap().config;
        (config.device_votes(), config.expected_votes())
    };
    assert_eq!(votes(2, "votes: 1\n"), (1, Some(3)));
    assert_eq!(votes(2, ""), (1, Some(3)), "one less than the nodes");
    assert_eq!(votes(3, "votes: 1\nnet {\nhost: x\n}\n"), (1, Some(4)));
    assert_eq!(votes(3, ""), (2, Some(5)));
    let timeouts = device(2, "timeout: 2000\nsync_timeout: 3000\n").unwrap().config.quorum.device.unwrap();
    assert_eq!((timeouts.timeout.as_millis(), timeouts.sync_timeout.as_millis()), (2000, 3000));
    assert_eq!(load(&with_quorum(2, "device {\nmodel:\n}")).unwrap().config.quorum.device, None);
}

#[test]
fn votes_of_a_quorum_device_that_do_not_fit_give_warnings() {
    let warned = |lines: &str| -> Vec<String> {
        load(&with_quorum(3, lines)).unwrap().warnings.iter().map(ToString::to_string).collect()
    };
    let has = |lines: &str, text: &str| {
        let warnings = warned(lines);
        assert!(warnings.iter().any(|warning| warning.contains(text)), "{warnings:?}");
    };
    has(
        "expected_votes: 3\ndevice {\nmodel: net\nvotes: 1\n}",
        "quorum.expected_votes (3) is below the votes of the node list and of the quorum device (4)",
    );
    has("device {\nmodel: net\nvotes: 3\n}", "quorum.device.votes (3) is too high: 4 of 6 votes are needed");
    assert!(!warned("device {\nmodel: net\n}").iter().any(|warning| warning.contains("device")));
}

#[test]
fn a_quorum_device_that_stops_corosync_is_an_error() {
    check_error(
        &with_quorum(2, "expected_votes: 3\ndevice {\nmodel: net\n}"),
        "c:20: quorum.device.model (net) must have `votes` in section `device`",
    );
    check_error(
        &with_quorum(2, "expected_votes: 2\ndevice {\nmodel: net\nvotes: 1\n}"),
        "c:18: quorum.expected_votes (2) must be at least 2 above quorum.device.votes (1)",
    );
    check_error(
        &with_quorum(2, "device {\nmodel: net\nvotes: one\n}"),
        "c:20: quorum.device.votes must be a whole number",
    );
}

#[test]
fn tracking_or_downscale_expects_the_votes_of_the_node_list() {
    for option in ["expected_votes_tracking", "allow_downscale"] {
        let text = with_quorum(4, &format!("expected_votes: 3\n{option}: 1"));
        assert_eq!(load(&text).unwrap().config.expected_votes(), Some(4));
        let warnings: Vec<String> = load(&text).unwrap().warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|said| said.contains("quorum.expected_votes (3) is ignored")),
            "{warnings:?}"
        );
    }
    assert_eq!(load(&with_quorum(4, "expected_votes: 3")).unwrap().config.expected_votes(), Some(3));
}

#[test]
fn ignored_keys_of_section_quorum_give_warnings() {
    let quorum =
        |lines: &str| format!("{}quorum {{\nprovider: corosync_votequorum\n{lines}\n}}\n", with_totem(""));
    check_warnings(&quorum("two_node: 0\nwait_for_all: 0\nlast_man_standing: 0"), &[]);
    check_warnings(
        &quorum("device {\nvotes: 1\n}"),
        &["c:16: section `quorum.device` (votes): ignored: without `model` there is no quorum device"],
    );
    check_error(
        &quorum("").replace("corosync_votequorum", "other"),
        "c:15: quorum.provider must be corosync_votequorum, not `other`",
    );
}

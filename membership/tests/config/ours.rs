//! Section `quorate`, which corosync does not have: windows and the lease.

use super::*;

fn quorate(lines: &str) -> String {
    format!("{}quorate {{\n{lines}\n}}\n", with_totem("token: 1000"))
}

#[test]
fn explicit_corosync_windows_disable_larger_ones() {
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
fn a_node_announces_half_of_what_its_socket_holds() {
    let largest = |room| quorate_membership::config::TotemConfig::default().fitting(room).largest_window;
    assert_eq!(largest(None), 1024);
    assert_eq!(largest(Some(8 << 20)), 1024);
    assert_eq!(largest(Some(2 * 212_992)), 92);
    assert_eq!(largest(Some(0)), 0);
}

#[test]
fn a_derived_lease_does_not_exceed_the_token_timeout() {
    check_settings(
        &quorate(""),
        &[
            ("quorate.preempt", "no, default"),
            ("quorate.dc_deadtime", "20000 ms, default"),
            ("quorate.rate_error", "10000 millionths, default"),
            ("quorate.lease", "300 ms, default"),
        ],
    );
    check_settings(
        &with_totem("token: 200"),
        &[("quorate.lease", "198 ms, derived from totem.token and quorate.rate_error")],
    );
    let line = with_totem("token: 1000").lines().count() + 2;
    let set = format!("5000 ms, c:{line}");
    check_settings(&quorate("lease: 5000"), &[("quorate.lease", &set)]);
}

#[test]
fn a_lease_is_derived_from_an_explicit_hold() {
    check_settings(
        &with_totem("token: 10000\nhold: 1600"),
        &[("quorate.lease", "8000 ms, derived from totem.hold and totem.token_retransmit")],
    );
    check_settings(
        &with_totem("token_retransmit: 500"),
        &[("quorate.lease", "589 ms, derived from totem.hold and totem.token_retransmit")],
    );
    // A corosync file is not rejected over a key that corosync does not have.
    check_settings(
        &with_totem("token_retransmits_before_loss_const: 1"),
        &[
            ("totem.hold", "42 ms, derived from quorate.lease; corosync would use 1990 ms"),
            ("quorate.lease", "300 ms, default"),
        ],
    );
}

#[test]
fn a_hold_is_derived_from_an_explicit_lease() {
    check_settings(
        &quorate("lease: 150"),
        &[
            ("totem.hold", "21 ms, derived from quorate.lease; corosync would use 180 ms"),
            ("totem.token_retransmit", "30 ms, derived from totem.hold; corosync would use 238 ms"),
        ],
    );
    check_settings(&quorate("lease: 5000"), &[("totem.hold", "180 ms, derived from totem.token_retransmit")]);
}

#[test]
fn a_lease_too_short_for_a_busy_host_is_rejected() {
    let line = with_totem("token: 1000").lines().count() + 2;
    check_error(
        &quorate("lease: 55"),
        &format!(
            "c:{line}: quorate.lease (55 ms) must not be below 56 ms with a totem.hold of 14 ms, or the DC \
             on a busy host loses it without a fault; write `lease: 56`, or remove totem.hold"
        ),
    );
    check_error(
        &quorate("lease: 200").replace("token: 1000", "token: 1000\nhold: 60"),
        &format!("c:{}: quorate.lease (200 ms) must not be below 240 ms", line + 1),
    );
    check_warnings(&quorate("lease: 240").replace("token: 1000", "token: 1000\nhold: 60"), &[]);
    check_warnings(&quorate("lease: 59"), &[]);
    check_error(&quorate("rate_error: 200001"), &format!("c:{line}: quorate.rate_error"));
}

#[test]
fn a_lease_that_one_lost_datagram_ends_gives_a_warning() {
    check_warnings(
        &quorate("lease: 300").replace("token: 1000", "token: 3000\ntoken_retransmit: 500"),
        &["c: quorate.lease (300 ms) is too short for resending a lost token (totem.hold 42 ms, \
             totem.token_retransmit 500 ms): one lost datagram can interrupt the DC; write `lease: 590`, or \
             remove totem.token_retransmit"],
    );
}

//! Section `quorate`, which corosync does not have: windows and the lease.

use super::*;

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
            ("quorate.lease", "990 ms, derived from totem.token, totem.hold and quorate.rate_error"),
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
        &format!("c:{line}: quorate.lease (300 ms) must be more than 363 ms, twice totem.hold"),
    );
    check_error(&quorate("rate_error: 200001"), &format!("c:{line}: quorate.rate_error"));
}

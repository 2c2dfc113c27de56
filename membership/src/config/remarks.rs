//! What became of the keys that corosync knows, or knew, and that have no effect here.

/// The sections whose keys are read.
pub(super) fn is_known_section(path: &str) -> bool {
    matches!(path, "totem" | "totem.interface" | "nodelist" | "nodelist.node" | "quorum" | "quorate")
}

/// What to tell the user about a key or section that has no effect.
pub(super) fn on(path: &str) -> &'static str {
    let remark = REMARKS.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == *pattern,
    });
    remark.map_or("unknown, ignored; check its spelling and its section", |(_, remark)| remark)
}

/// The first pattern that fits counts; `*` at its end stands for anything.
const REMARKS: &[(&str, &str)] = &[
    ("compatibility", "obsolete (corosync 1), ignored: there is one wire format, that of corosync 3"),
    ("aisexec", "obsolete (corosync 1), ignored: the node runs as the user who starts it"),
    (
        "service",
        "obsolete (corosync 1), ignored: no plugins are loaded, and the DC is elected by quorate itself",
    ),
    ("amf", "obsolete (corosync 1), ignored: there is no availability management"),
    ("logging", "ignored: logs go to standard error, and RUST_LOG chooses what is logged"),
    ("uidgid", "ignored: the mode of the status socket decides who may use it"),
    ("system", "ignored: priority and scheduling are up to the service manager"),
    ("resources*", "ignored: there is no resource watchdog"),
    ("qb", "ignored: there is no libqb"),
    ("nozzle", "ignored: it belongs to transport knet"),
    ("totem.vsftype", "obsolete (corosync 1), ignored: quorum is counted in votes (section quorum)"),
    ("totem.rrp_*", "obsolete (corosync 1 and 2), ignored: there are no redundant rings"),
    ("totem.threads", "obsolete, ignored: nothing is left to run in threads"),
    ("totem.nodeid", "ignored, as in corosync 3: set nodelist.node.nodeid"),
    ("totem.knet_*", "ignored: it belongs to transport knet"),
    ("totem.link_mode", "ignored: it belongs to transport knet"),
    ("totem.block_unlisted_ips", "ignored: it belongs to transport knet"),
    ("totem.interface.knet_*", "ignored: it belongs to transport knet"),
    ("totem.interface.member", "obsolete, ignored: list the nodes in section nodelist"),
    ("totem.crypto_*", "ignored: the ring speaks clear text"),
    ("totem.key*", "not read: the ring speaks clear text"),
    ("totem.config_version", "ignored: this node never announces a configuration version"),
    ("totem.ip_dscp", "not implemented yet, ignored"),
    ("nodelist.node.ring*", "ignored: there is one ring, on ring0_addr"),
    ("quorum.device", "not implemented yet, ignored: there is no quorum device and it has no votes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obsolete_keys_say_what_became_of_them_and_others_that_they_are_unknown() {
        let check = |path: &str, expect: &str| assert!(on(path).contains(expect), "{path}: {}", on(path));
        check("totem.vsftype", "votes");
        check("totem.rrp_mode", "no redundant rings");
        check("totem.knet_transport", "knet");
        check("totem.tokn", "unknown");
        check("totem.keyfile", "clear text");
        check("nodelist.node.ring1_addr", "one ring");
        check("servic", "unknown");
    }
}

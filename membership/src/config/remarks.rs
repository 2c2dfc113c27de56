//! Remarks on the keys that corosync knows, or knew, and that have no effect here.

/// Returns `true` for the sections whose keys are read.
pub(super) fn is_known_section(path: &str) -> bool {
    matches!(path, "totem" | "totem.interface" | "nodelist" | "nodelist.node" | "quorum" | "quorate")
}

/// Returns the remark on a key or section that has no effect. Returns `None` if corosync never knew
/// it.
pub(super) fn on(path: &str) -> Option<&'static str> {
    REMARKS.iter().find(|(pattern, _)| fits(pattern, path)).map(|(_, remark)| *remark)
}

/// Returns the values that corosync 3.1 requires for a key that has no effect here, as a clause.
/// Returns `None` if it accepts this one.
pub(super) fn refusal(path: &str, value: &str) -> Option<String> {
    let (_, wanted) = WANTED.iter().find(|(pattern, _)| fits(pattern, path))?;
    match wanted {
        Wanted::Number => {
            let digits = value.trim_start().trim_start_matches(['+', '-']);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            (!is_number).then(|| "which must be a number".to_owned())
        }
        Wanted::OneOf(values) => {
            (!values.contains(&value)).then(|| format!("which must be one of {}", values.join(", ")))
        }
        Wanted::Nothing(why) => Some((*why).to_owned()),
    }
}

/// Matches a path. `*` at the end of a pattern matches anything.
fn fits(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or(path == pattern, |prefix| path.starts_with(prefix))
}

enum Wanted {
    Number,
    OneOf(&'static [&'static str]),
    /// Rejects every value.
    Nothing(&'static str),
}

const YES_NO: Wanted = Wanted::OneOf(&["yes", "no"]);
const ON_OFF: Wanted = Wanted::OneOf(&["on", "off"]);

/// Values for which a real corosync 3.1.7 refused to start, by its own messages. The first pattern
/// that matches counts.
const WANTED: &[(&str, Wanted)] = &[
    ("totem.threads", Wanted::Number),
    ("totem.nodeid", Wanted::Number),
    ("totem.config_version", Wanted::Number),
    ("totem.rrp_token_expired_timeout", Wanted::Number),
    ("totem.rrp_problem_count_*", Wanted::Number),
    ("totem.rrp_autorecovery_check_timeout", Wanted::Number),
    (
        "totem.knet_compression_model",
        Wanted::OneOf(&["none", "zlib", "lz4", "lz4hc", "lzo2", "lzma", "bzip2", "zstd"]),
    ),
    ("totem.knet_pmtud_interval", Wanted::Number),
    ("totem.knet_mtu", Wanted::Number),
    ("totem.knet_compression_*", Wanted::Number),
    ("totem.link_mode", Wanted::OneOf(&["active", "passive", "rr"])),
    ("totem.crypto_model", Wanted::OneOf(&["nss", "openssl"])),
    ("totem.interface.knet_transport", Wanted::OneOf(&["udp", "sctp"])),
    ("totem.interface.knet_link_priority", Wanted::OneOf(&["1"])),
    ("totem.interface.knet_p*", Wanted::Number),
    ("nodelist.node.ring*", Wanted::Nothing("because `transport: udp` has one link")),
    ("quorum.leaving_timeout", Wanted::Number),
    ("quorum.device.votes", Wanted::Number),
    ("quorum.device.timeout", Wanted::Number),
    ("quorum.device.sync_timeout", Wanted::Number),
    ("quorum.device.master_wins", Wanted::Number),
    ("system.qb_ipc_type", Wanted::OneOf(&["native", "shm", "socket"])),
    ("system.sched_rr", YES_NO),
    ("system.move_to_root_cgroup", Wanted::OneOf(&["yes", "no", "auto"])),
    ("system.allow_knet_handle_fallback", YES_NO),
    ("logging.to_stderr", YES_NO),
    ("logging.to_syslog", YES_NO),
    ("logging.to_logfile", YES_NO),
    ("logging.debug", Wanted::OneOf(&["on", "off", "trace"])),
    ("logging.timestamp", Wanted::OneOf(&["on", "off", "hires"])),
    ("logging.fileline", ON_OFF),
    ("logging.function_name", ON_OFF),
    ("logging.blackbox", ON_OFF),
];

/// The remarks by path. The first pattern that matches counts.
const REMARKS: &[(&str, &str)] = &[
    ("compatibility", "obsolete (corosync 1), ignored: the only wire format is that of corosync 3"),
    ("aisexec", "obsolete (corosync 1), ignored: the node runs as the user who starts it"),
    ("service", "obsolete (corosync 1), ignored: there are no plugins, and Quorate elects the DC itself"),
    ("amf", "obsolete (corosync 1), ignored: there is no availability management"),
    ("logging", "ignored: logs go to standard error, and RUST_LOG chooses what is logged"),
    (
        "uidgid",
        "counts for `--serve-corosync-clients` only: the mode of the status socket controls access to it",
    ),
    (
        "system",
        "ignored, except qb_ipc_type for `--serve-corosync-clients`: priority and scheduling are up to the \
         service manager",
    ),
    ("resources*", "ignored: there is no resource watchdog"),
    ("qb", "ignored: libqb is not used"),
    ("nozzle", "ignored: it is for transport knet"),
    ("event", "obsolete (openais), ignored: there is no event service"),
    ("pload", "ignored: `quorate bench` measures a ring's throughput"),
    ("totem.cluster_uuid", "ignored: pcs wrote it for its own use, and corosync does not read it"),
    ("totem.vsftype", "obsolete (corosync 1), ignored: quorum is counted in votes (section quorum)"),
    ("totem.rrp_*", "obsolete (corosync 1 and 2), ignored: redundant rings are not supported"),
    ("totem.threads", "obsolete, ignored: there are no threads to configure"),
    ("totem.nodeid", "ignored, as in corosync 3: set nodelist.node.nodeid"),
    ("totem.knet_*", "ignored: it is for transport knet"),
    ("totem.link_mode", "ignored: it is for transport knet"),
    ("totem.block_unlisted_ips", "ignored: it is for transport knet"),
    ("totem.interface.knet_*", "ignored: it is for transport knet"),
    ("totem.interface.member", "obsolete, ignored: list the nodes in section nodelist"),
    ("totem.crypto_*", "ignored: the ring uses clear text"),
    ("totem.key*", "not read: the ring uses clear text"),
    ("totem.config_version", "ignored: this node never announces a configuration version"),
    ("totem.ip_dscp", "not implemented yet, ignored"),
    ("nodelist.node.ring*", "ignored: there is only one ring, on ring0_addr"),
    (
        "quorum.leaving_timeout",
        "obsolete (corosync 2), ignored: a node that leaves is out of the ring at once",
    ),
    ("quorum.device", "ignored: without `model` there is no quorum device"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obsolete_keys_are_explained() {
        let check = |path: &str, expect: &str| {
            let remark = on(path).unwrap_or_default();
            assert!(remark.contains(expect), "{path}: {remark}");
        };
        check("totem.vsftype", "votes");
        check("totem.rrp_mode", "redundant rings");
        check("totem.knet_transport", "knet");
        check("totem.keyfile", "clear text");
        check("totem.cluster_uuid", "pcs");
        check("nodelist.node.ring1_addr", "one ring");
        assert_eq!((on("totem.tokn"), on("servic")), (None, None));
    }

    #[test]
    fn values_that_corosync_rejects_are_known() {
        for (path, right, wrong) in [
            ("totem.threads", "0", "many"),
            ("totem.knet_mtu", " 1200", "big"),
            ("totem.knet_compression_model", "zlib", "zip"),
            ("totem.link_mode", "rr", "roundrobin"),
            ("totem.interface.knet_link_priority", "1", "2"),
            ("quorum.device.votes", "1", ""),
            ("logging.debug", "trace", "yes"),
            ("system.sched_rr", "no", "off"),
        ] {
            assert_eq!(refusal(path, right), None, "{path}: {right}");
            assert!(refusal(path, wrong).is_some(), "{path}: {wrong}");
        }
        assert_eq!(refusal("totem.tokn", "x"), None);
    }
}

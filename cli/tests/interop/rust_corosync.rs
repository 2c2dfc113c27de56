//! Calls corosync's five libraries through the crate `rust-corosync`, on the node of this host. It
//! ends with a panic if a call fails or an event does not come.
//!
//! `others.py` builds it outside of the workspace, since it links C libraries.

use std::sync::Mutex;

use rust_corosync::cmap::{Data, Map, NotifyCallback, TrackType};
use rust_corosync::{DispatchFlags, NodeId, TrackFlags, cfg, cmap, cpg, quorum, votequorum};

/// The events that the libraries have delivered, as text.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn see(what: String) {
    SEEN.lock().unwrap().push(what);
}

/// Dispatches events until one is as wanted.
fn until(wanted: &str, mut dispatch: impl FnMut() -> rust_corosync::Result<()>) {
    for _ in 0..50 {
        if SEEN.lock().unwrap().iter().any(|seen| seen == wanted) {
            return;
        }
        dispatch().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("not seen: {wanted}, but {:?}", SEEN.lock().unwrap());
}

fn main() {
    let me = cfg_works();
    cmap_works();
    cpg_works(me);
    quorum_works();
    votequorum_works(me);
    println!("all calls work on node {me}");
}

fn cfg_works() -> NodeId {
    let callbacks = cfg::Callbacks { corosync_cfg_shutdown_callback_fn: None };
    let handle = cfg::initialize(&callbacks).unwrap();
    let me = cfg::local_get(&handle).unwrap();
    assert!(cfg::node_status_get(&handle, me, cfg::NodeStatusVersion::V1).unwrap().reachable);
    me
}

fn cmap_works() {
    let handle = cmap::initialize(Map::Icmap).unwrap();
    match cmap::get(&handle, "totem.cluster_name").unwrap() {
        Data::String(name) => assert_eq!(name, "namespaces"),
        _ => panic!("the name of the cluster is no text"),
    }
    let number = |handle, key| match cmap::get(handle, key).unwrap() {
        Data::UInt32(number) => number,
        _ => panic!("{key} is no number of 32 bits"),
    };
    let changed = NotifyCallback {
        notify_fn: Some(|_, _, _, key, _, _, _| see(format!("changed {key}"))),
    };
    cmap::set_u32(&handle, "test.number", 7).unwrap();
    let tracker = cmap::track_add(&handle, "test.", TrackType::MODIFY | TrackType::PREFIX, &changed, 0).unwrap();
    cmap::inc(&handle, "test.number").unwrap();
    assert_eq!(number(&handle, "test.number"), 8);
    until("changed test.number", || cmap::dispatch(&handle, DispatchFlags::All));
    cmap::track_delete(&handle, tracker).unwrap();
    let stats = cmap::initialize(Map::Stats).unwrap();
    match cmap::get(&stats, "stats.srp.orf_token_rx").unwrap() {
        Data::UInt64(tokens) => assert!(tokens > 0),
        _ => panic!("a counter is no number of 64 bits"),
    }
}

fn cpg_works(me: NodeId) {
    let model = cpg::Model1Data {
        flags: cpg::Model1Flags::None,
        deliver_fn: Some(|_, group, node, _, message, _| {
            see(format!("{group} {node} {}", String::from_utf8_lossy(message)));
        }),
        confchg_fn: Some(|_, group, members, _, joined| {
            see(format!("{group} members {} joined {}", members.len(), joined.len()));
        }),
        totem_confchg_fn: None,
    };
    let handle = cpg::initialize(&cpg::ModelData::ModelV1(model), 0).unwrap();
    assert_eq!(cpg::local_get(&handle).unwrap(), me);
    cpg::join(&handle, "rust").unwrap();
    until("rust members 1 joined 1", || cpg::dispatch(&handle, DispatchFlags::All));
    assert_eq!(cpg::membership_get(&handle, "rust").unwrap().len(), 1);
    cpg::mcast_joined(&handle, cpg::Guarantee::TypeAgreed, b"hello").unwrap();
    until(&format!("rust {me} hello"), || cpg::dispatch(&handle, DispatchFlags::All));
    cpg::leave(&handle, "rust").unwrap();
}

fn quorum_works() {
    let model = quorum::Model1Data {
        flags: quorum::Model1Flags::None,
        quorum_notification_fn: Some(|_, quorate, _, members| {
            see(format!("quorate {quorate} with {}", members.len()));
        }),
        nodelist_notification_fn: None,
    };
    let (handle, _) = quorum::initialize(&quorum::ModelData::ModelV1(model), 0).unwrap();
    assert!(quorum::getquorate(&handle).unwrap());
    quorum::trackstart(&handle, TrackFlags::Changes).unwrap();
    until("quorate true with 2", || quorum::dispatch(&handle, DispatchFlags::All));
    quorum::trackstop(&handle).unwrap();
}

fn votequorum_works(me: NodeId) {
    let callbacks = votequorum::Callbacks {
        quorum_notification_fn: Some(|_, _, quorate, nodes| {
            see(format!("votes: quorate {quorate} with {}", nodes.len()));
        }),
        nodelist_notification_fn: None,
        expectedvotes_notification_fn: None,
    };
    let handle = votequorum::initialize(&callbacks).unwrap();
    let info = votequorum::get_info(&handle, me).unwrap();
    assert_eq!((info.node_votes, info.node_expected_votes, info.quorum), (1, 2, 2));
    votequorum::trackstart(&handle, 0, TrackFlags::Changes).unwrap();
    until("votes: quorate true with 2", || votequorum::dispatch(&handle, DispatchFlags::All));
}

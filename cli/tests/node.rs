//! Tests `quorate node`, `status` and `demo` with real processes.

mod common;

use std::fs;
use std::io::{PipeWriter, Read, Write, pipe};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{PATIENCE, Ring, agreement, eventually, failure, quorate, run};
use rustix::process::Signal;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn three_nodes_form_a_ring_and_show_the_known_layouts() {
    let ring = Ring::of(3);
    let nodes = ring.start_all();
    let dc = agreement(&nodes.iter().collect::<Vec<_>>());
    let output = run(nodes[1].command("status").arg("--quorate"));
    assert!(output.status.success());
    let text = stdout(&output);
    for line in [
        "Stack: quorate",
        &format!("Current DC: node{dc} - partition with quorum"),
        "3 Nodes configured, 3 expected votes",
        "Online: [ node1 node2 node3 ]",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line} is not in:\n{text}");
    }
    assert!(text.contains("\nLast updated: ") && text.contains("\nVersion: "), "{text}");

    let output = run(&mut nodes[1].command("quorum"));
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for line in [
        "Quorate:          Yes",
        "Quorum:           2  ",
        "Flags:            Quorate ",
        "         2          1 node2 (local)",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line:?} is not in:\n{text}");
    }

    let text = stdout(&run(nodes[1].command("status").args(["--format", "modern"])));
    let line =
        format!("  * Current DC: node{dc} (version {}) - partition with quorum\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&line) && text.contains("  * Online: [ node1 node2 node3 ]\n"), "{text}");
    let text = stdout(&run(nodes[1].command("status").args(["--format", "xml"])));
    assert!(text.contains(&format!("name=\"node{dc}\" id=\"{dc}\" with_quorum=\"true\"")), "{text}");
    assert!(text.contains("<status code=\"0\" message=\"OK\"/>"), "{text}");

    let output = run(nodes[1].command("status").arg("--json"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["node"], 2);
    assert_eq!(answer["name"], "node2");
    assert!(answer["stats"]["tokens"].as_u64().unwrap() > 0);
    assert_eq!(answer["stats"]["refused"], serde_json::json!({}));
}

#[test]
fn a_released_role_moves_and_watchers_see_it() {
    let ring = Ring::of(3);
    let nodes = ring.start_all();
    let dc = agreement(&nodes.iter().collect::<Vec<_>>());
    let at = |id: u64| &nodes[usize::try_from(id).unwrap() - 1];
    let seen = ring.path().join("seen");
    let mut watching = at(dc).command("watch").stdout(fs::File::create(&seen).unwrap()).spawn().unwrap();
    let wait = |words: &str| {
        eventually(words, || fs::read_to_string(&seen).unwrap().contains(words).then_some(()));
    };
    wait(": members [1 2 3], ");
    wait(&format!("DC: node {dc} (node{dc}), term "));
    wait("lease: this node may act as DC");

    let release = |id: u64| run(quorate().args(["dc", "release", "--json", "--socket"]).arg(&at(id).socket));
    let refused = failure(&release(if dc == 1 { 2 } else { 1 }));
    assert_eq!(refused, "this node is not DC of a quorate ring; ask the DC");

    let output = release(dc);
    assert!(output.status.success(), "{output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let heir = answer["dc"].as_u64().unwrap();
    assert_ne!(heir, dc);
    wait(&format!("DC: node {heir} (node{heir}), term "));
    wait("lease: none");
    eventually("the heir acts", || (at(heir).status()["lease"] == "held").then_some(()));
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_killed_dc_is_replaced_and_comes_back() {
    let ring = Ring::of(3);
    let mut nodes = ring.start_all();
    let dc = agreement(&nodes.iter().collect::<Vec<_>>());
    let index = usize::try_from(dc).unwrap() - 1;
    drop(nodes.remove(index));
    let heir = agreement(&nodes.iter().collect::<Vec<_>>());
    assert_ne!(heir, dc);
    let text = stdout(&run(&mut nodes[0].command("status")));
    assert!(text.contains(&format!("OFFLINE: [ node{dc} ]")), "{text}");

    // Its socket file still exists, its process does not.
    nodes.push(ring.start(u8::try_from(dc).unwrap()));
    agreement(&nodes.iter().collect::<Vec<_>>());
}

#[test]
fn a_node_that_starts_alone_names_the_missing_nodes() {
    let ring = Ring::of(3);
    let node = ring.start(1);
    eventually("a settled ring of one", || (node.status()["settled"] == true).then_some(()));
    let output = run(&mut node.command("status"));
    assert!(output.status.success(), "reachable is what counts");
    assert!(!stdout(&output).contains("with quorum"), "{}", stdout(&output));
    assert_eq!(run(node.command("status").arg("--quorate")).status.code(), Some(1));

    let output = run(&mut node.command("quorum"));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "quorate: not quorate: the cluster is starting for the first time and needs all of its voters once: \
         start node 2, node 3, or remove it from the node lists\n"
    );
}

#[test]
fn a_node_without_quorum_reports_the_needed_votes() {
    let ring = Ring::of(3);
    let mut nodes = ring.start_all();
    nodes.truncate(1);
    let node = &nodes[0];
    let lost = |status: serde_json::Value| status["settled"] == true && status["quorate"] == false;
    eventually("a settled ring of one", || lost(node.status()).then_some(()));
    assert_eq!(run(node.command("status").arg("--quorate")).status.code(), Some(1));

    let output = run(node.command("quorum").arg("--json"));
    assert_eq!(output.status.code(), Some(2), "as corosync-quorumtool");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let quorum = &answer["quorum"];
    assert_eq!(
        (&quorum["quorate"], &quorum["total_votes"], &quorum["quorum"]),
        (&false.into(), &1.into(), &2.into())
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "quorate: not quorate: 1 of 2 votes needed are present\n"
    );
}

#[test]
fn a_leaving_node_ends_well_without_a_timeout() {
    let ring = Ring::of(3);
    let mut nodes = ring.start_all();
    let mut leaver = nodes.remove(2);
    let asked = Instant::now();
    leaver.signal(Signal::TERM);
    assert!(leaver.process.wait().unwrap().success(), "{}", leaver.log());
    assert!(!leaver.socket.exists());
    agreement(&nodes.iter().collect::<Vec<_>>());
    assert!(asked.elapsed() < PATIENCE);
    let cause = nodes[0].status()["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("node 3 left"), "{cause}");
    let log = leaver.log();
    assert!(log.contains("SIGTERM: leaving the ring"), "{log}");
}

#[test]
fn the_log_has_one_line_a_ring_with_its_cause() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let quorate = || Some(nodes[0].log()).filter(|log| log.contains("DC: node 1, term "));
    let log = eventually("a line that names the DC and its term", quorate);
    let line = log.lines().find(|line| line.contains("ring 1.")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("members [1], joined [1], left []: this node started"), "{line}");
    assert!(log.contains("this partition has quorum: votes 1, needed 1"), "{log}");
}

#[test]
fn the_socket_is_for_its_owner_only() {
    let ring = Ring::of(1);
    let node = ring.start(1);
    assert_eq!(fs::metadata(&node.socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_node_at_the_same_socket_is_refused() {
    let ring = Ring::of(1);
    let node = ring.start(1);
    let refusal = ring.refusal(1);
    assert!(refusal.starts_with("a node is already running at "), "{refusal}");
    assert!(refusal.contains("--socket"), "{refusal}");
    assert!(run(&mut node.command("status")).status.success());
}

#[test]
fn a_port_in_use_is_named() {
    let ring = Ring::of(1);
    let _taken = UdpSocket::bind(format!("{}:5405", ring.address(1))).unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("5405") && refusal.contains("use"), "{refusal}");
}

#[test]
fn a_missing_configuration_is_named() {
    let ring = Ring::of(1);
    fs::remove_file(ring.conf()).unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("corosync.conf") && refusal.contains("No such file"), "{refusal}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let ring = Ring::of(1);
    fs::remove_file(ring.conf()).unwrap();
    fs::create_dir(ring.conf()).unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("corosync.conf"), "{refusal}");
}

#[test]
fn a_bad_configuration_is_named_with_its_line() {
    let ring = Ring::of(1);
    fs::write(ring.conf(), ring.corosync_conf("join: soon")).unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("corosync.conf:8") && refusal.contains("soon"), "{refusal}");
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let ring = Ring::of(1);
    let conf = "totem {\n version: 2\n transport: udp\n secauth: off\n nodeid: 1\n interface {\n bindnetaddr: 203.0.113.0\n \
                mcastaddr: 239.255.1.1\n mcastport: 5405\n }\n}\nquorum {\n provider: corosync_votequorum\n \
                expected_votes: 1\n}\n";
    fs::write(ring.conf(), conf).unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("203.0.113.0"), "{refusal}");
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let ring = Ring::of(1);
    fs::write(ring.path().join("state1"), "a file").unwrap();
    let refusal = ring.refusal(1);
    assert!(refusal.contains("state1"), "{refusal}");
}

#[test]
fn without_a_node_status_says_how_to_start_one() {
    let ring = Ring::of(1);
    let output = run(quorate().args(["quorum", "--socket"]).arg(ring.socket(1)));
    assert_eq!(output.status.code(), Some(1));
    let output = run(quorate().args(["status", "--socket"]).arg(ring.socket(1)));
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("quorate: no node at ") && stderr.contains("quorate node"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["levitate"][..], &["cat"], &["status", "--node", "0"], &["cat", ""]] {
        assert_eq!(run(quorate().args(arguments)).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_version_and_completions_are_printed() {
    let version = stdout(&run(quorate().arg("--version")));
    assert_eq!(version, format!("quorate {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(quorate().args(["completions", shell])));
        assert!(script.contains("demo") && script.contains("state-dir"), "{shell}");
    }
}

#[test]
fn the_demo_shows_all_four_acts() {
    let output = run(quorate().arg("demo"));
    let text = stdout(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{text}");
    for line in ["the ring formed", "a new one elected", "the lost node came back", "all nodes left"] {
        assert!(text.split_once("Results:").unwrap().1.contains(line), "{text}");
    }
}

/// Writes until the pipe is full.
#[allow(clippy::unwrap_used, reason = "tests panic")]
fn fill(mut pipe: &PipeWriter) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while pipe.write(&vec![b'x'; size]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

#[test]
fn an_unread_log_does_not_end_the_node() {
    let ring = Ring::of(1);
    let (reader, writer) = pipe().unwrap();
    let mut node = ring.start_logging_to(1, writer);
    drop(reader);
    node.signal(Signal::HUP);
    eventually("the line is counted", || {
        (node.answer()["log_lines_lost"].as_u64().unwrap() > 0).then_some(())
    });
    assert_eq!(node.process.try_wait().unwrap(), None);
    node.signal(Signal::TERM);
    assert!(node.process.wait().unwrap().success());
}

#[test]
fn a_stuck_log_reader_does_not_block_the_node() {
    let ring = Ring::of(1);
    let (mut reader, writer) = pipe().unwrap();
    let ours = writer.try_clone().unwrap();
    let mut node = ring.start_logging_to(1, writer);
    eventually("a settled ring of one", || (node.status()["settled"] == true).then_some(()));
    fill(&ours);
    // Signals coalesce, and a malformed request is logged only at debug level, so filling the log's
    // buffer takes long.
    node.signal(Signal::HUP);
    assert!(node.send(&[], b"still here\n").status.success());
    assert_eq!(node.status()["settled"], true);

    // Once it is read again, nothing is missing, because the buffer had room.
    let mut read = [0; 1 << 16];
    let mut text = String::new();
    while !text.contains("SIGHUP") {
        let length = reader.read(&mut read).unwrap();
        text += &String::from_utf8_lossy(&read[..length]);
    }
    fill(&ours);
    node.signal(Signal::TERM);
    let asked = Instant::now();
    assert!(node.process.wait().unwrap().success());
    assert!(asked.elapsed() < PATIENCE);
}

#[test]
fn log_lines_lost_on_a_full_disk_are_counted() {
    // `/dev/full` never has space. The unit tests of the log check how it reports lost lines.
    let ring = Ring::of(1);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let node = ring.start_logging_to(1, full);
    assert!(node.answer()["log_lines_lost"].as_u64().unwrap() > 0);
}

#[test]
fn signals_that_ask_for_nothing_do_not_end_a_node() {
    let ring = Ring::of(1);
    let mut node = ring.start(1);
    for (signal, words) in [
        (Signal::HUP, "SIGHUP: the configuration is applied only at the start and cannot be reloaded yet"),
        (Signal::USR1, "SIGUSR1: this signal does nothing"),
        (Signal::USR2, "SIGUSR2: this signal does nothing"),
        (Signal::ALARM, "SIGALRM: this signal does nothing"),
        (Signal::XCPU, "SIGXCPU: this signal does nothing"),
    ] {
        node.signal(signal);
        eventually(words, || node.log().contains(words).then_some(()));
    }
    for number in ["35", "64"] {
        let id = node.process.id().to_string();
        assert!(Command::new("kill").args(["-s", number, &id]).status().unwrap().success());
        let words = format!("signal {number}: this signal does nothing");
        eventually(&words, || node.log().contains(&words).then_some(()));
    }
    assert_eq!(node.status()["settled"], true);
    node.signal(Signal::QUIT);
    assert!(node.process.wait().unwrap().success());
    assert!(node.log().contains("SIGQUIT: leaving the ring"), "{}", node.log());
}

#[test]
fn a_removed_socket_is_made_again_and_a_second_start_refused() {
    let ring = Ring::of(1);
    let node = ring.start(1);
    for lock in [false, true] {
        fs::remove_file(&node.socket).unwrap();
        if lock {
            fs::remove_file(node.socket.with_extension("sock.lock")).unwrap();
        }
        // The socket, if it exists again, or else the node's port rejects the second start.
        ring.refusal(1);
        eventually("the node answers", || run(&mut node.command("status")).status.success().then_some(()));
    }
    assert!(node.log().contains("the socket was removed and has been created again"), "{}", node.log());
}

#[test]
fn idle_clients_do_not_exclude_the_operator() {
    let ring = Ring::of(1);
    let mut command = Command::new("prlimit");
    let node = ring.command(1);
    command.arg("--nofile=64:64").arg(node.get_program()).args(node.get_args()).env_remove("QUORATE_SOCKET");
    let mut process = command.stderr(fs::File::create(ring.path().join("log")).unwrap()).spawn().unwrap();
    let ask = |what: &str| run(quorate().arg(what).arg("--socket").arg(ring.socket(1)));
    eventually("the node answers", || ask("status").status.success().then_some(()));
    let idle: Vec<_> = (0..100).map_while(|_| UnixStream::connect(ring.socket(1)).ok()).collect();
    assert_eq!(idle.len(), 100);
    let cats: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(ring.socket(1)).unwrap();
            stream.write_all(b"{\"version\":1,\"request\":\"cat\",\"group\":\"g\"}\n").unwrap();
            stream
        })
        .collect();
    for what in ["status", "quorum"] {
        let asked = Instant::now();
        let output = ask(what);
        assert!(output.status.success(), "{output:?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    let release = run(quorate().args(["dc", "release", "--socket"]).arg(ring.socket(1)));
    assert!(failure(&release).starts_with("no other member can take over"), "{release:?}");
    let mut watching = UnixStream::connect(ring.socket(1)).unwrap();
    watching.write_all(b"{\"version\":1,\"request\":\"watch\"}\n").unwrap();
    let mut first = [0; 18];
    watching.read_exact(&mut first).unwrap();
    assert_eq!(&first, br#"{"event":"regular""#);
    drop((idle, cats));
    process.kill().unwrap();
    process.wait().unwrap();
    let log = fs::read_to_string(ring.path().join("log")).unwrap();
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn a_pipe_in_the_place_of_a_file_does_not_hang_the_start() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    for name in ["quorate_1", "quorate_1.lock"] {
        let ring = Ring::of(1);
        let state = ring.path().join("state1");
        fs::create_dir(&state).unwrap();
        mknodat(CWD, state.join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let refusal = ring.refusal(1);
        assert!(refusal.contains(&format!("{name} is not a regular file; remove it")), "{refusal}");
    }
}

#[test]
fn starts_short_of_descriptors_end_with_one_line() {
    let ring = Ring::of(1);
    let node = ring.command(1);
    for limit in [4, 6, 8, 10, 12, 16, 20, 24, 32, 40] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(node.get_program()).args(node.get_args());
        let output = run(command.env_remove("QUORATE_SOCKET").env_remove("RUST_LOG"));
        let why = failure(&output);
        assert!(why.contains("open files") || why.contains("Too many open files"), "{limit}: {why}");
    }
}

#[test]
fn starts_short_of_threads_end_with_one_line() {
    if !rustix::process::geteuid().is_root() {
        // The limit counts all threads of a user, so the test needs a user without others.
        return;
    }
    let ring = Ring::of(1);
    fs::set_permissions(ring.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Another user may not be able to reach the program where it was built.
    let program = ring.path().join("quorate");
    // A child that another test forks meanwhile would have a copy by this process open for writing,
    // and then it cannot be run ("Text file busy").
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_quorate")).arg(&program).status().unwrap();
    assert!(copied.success());
    let node = ring.command(1);
    for limit in [1, 2, 3, 4] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit"]);
        command.arg(format!("--nproc={limit}:{limit}")).arg(&program).args(node.get_args());
        let why = failure(&run(command.env_remove("QUORATE_SOCKET").env_remove("RUST_LOG")));
        assert!(why.contains("limit on threads"), "{limit}: {why}");
    }
}

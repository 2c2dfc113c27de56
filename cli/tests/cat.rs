//! Tests `quorate cat` on real rings.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::thread;

use common::{Ring, agreement, events, failure, payloads};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn cat_on_a_single_node_ends_when_all_was_delivered() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let output = nodes[0].send(&[], b"one\n\n{\"three\":3}\nfour, without a newline");
    assert!(output.status.success(), "{output:?}");
    let events = events(&output.stdout);
    assert_eq!(events[0]["event"], "regular");
    assert_eq!(events[0]["members"], serde_json::json!([1]));
    assert_eq!(payloads(&events), ["one", "", "{\"three\":3}", "four, without a newline"]);
    assert_eq!((&events[1]["event"], &events[1]["reason"]), (&"group".into(), &"join".into()));
    assert_eq!(events[1]["members"], events[1]["joined"]);
    let first = &events[2];
    assert_eq!(first["pid"], events[1]["members"][0]["pid"]);
    assert_eq!((&first["from"], &first["guarantee"]), (&Value::from(1), &Value::from("agreed")));
    assert_eq!(first["ring"], events[0]["ring"]);
    assert!(first["seq"].is_u64());
}

#[test]
fn cat_without_input_prints_configuration_and_group() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let output = nodes[0].send(&[], b"");
    assert!(output.status.success(), "{output:?}");
    let events = events(&output.stdout);
    let kinds: Vec<&Value> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["regular", "group"]);
}

#[test]
fn a_stdin_that_cannot_be_read_is_an_error() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let directory = std::fs::File::open(ring.path()).unwrap();
    let output = nodes[0].command("cat").arg("g").stdin(directory).output().unwrap();
    assert!(failure(&output).starts_with("stdin could not be read to its end: Is a directory"));
}

#[test]
fn any_bytes_pass_up_to_a_mebibyte_a_line() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let long = vec![b'x'; 1 << 20];
    let output = nodes[0].send(&["--safe"], &[b"\xff\x00\n", &long[..], b"\n"].concat());
    assert!(output.status.success(), "{:?}", String::from_utf8_lossy(&output.stderr));
    let events = events(&output.stdout);
    assert_eq!(events[2]["payload_base64"], "/wA=");
    assert_eq!(events[2]["guarantee"], "safe");
    assert_eq!(events[3]["payload"].as_str().unwrap().len(), 1 << 20);

    let output = nodes[0].send(&[], &[b"short\n", &long[..], b"x\n"].concat());
    assert_eq!(failure(&output), "line 2 is longer than 1048576 bytes; send it in parts");
}

#[test]
fn with_status_a_client_gets_quorum_and_dc() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let output = nodes[0].send(&["--status"], b"");
    let events = events(&output.stdout);
    assert_eq!(events[0]["event"], "regular");
    assert_eq!(events[1]["event"], "status");
    assert_eq!(events[1]["dc"], 1);
    assert_eq!(events[1]["quorate"], true);
}

#[test]
fn three_nodes_see_one_order_without_loss_or_duplicates() {
    const LINES: usize = 1000;
    let ring = Ring::of(3);
    let nodes = ring.start_all();
    let mut listeners: Vec<Child> = nodes.iter().map(|node| node.cat(&["g", "--stay"])).collect();
    // Sending starts only after all listeners run. Each prints that it has joined.
    let mut outputs = Vec::new();
    for listener in &mut listeners {
        let mut output = BufReader::new(listener.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("\"group\"") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0);
        }
        outputs.push(output);
    }
    let senders: Vec<_> = (0..3)
        .map(|i| {
            let lines: String = (0..LINES).map(|line| format!("{i} {line}\n")).collect();
            let mut sender = nodes[i].cat(if i == 1 { &["g", "--safe"] } else { &["g"] });
            let mut stdin = sender.stdin.take().unwrap();
            (sender, thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap()))
        })
        .collect();
    for (sender, writer) in senders {
        let output = sender.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let seen: Vec<Vec<(Value, Value)>> = outputs
        .into_iter()
        .map(|output| {
            let events = output.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
            let delivered = events.filter(|event| event["event"] == "deliver").take(3 * LINES);
            delivered.map(|event| (event["from"].clone(), event["payload"].clone())).collect()
        })
        .collect();
    for mut listener in listeners {
        listener.kill().unwrap();
        listener.wait().unwrap();
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    for i in 0..3 {
        let own: Vec<String> = seen[0]
            .iter()
            .filter(|(from, _)| *from == i + 1)
            .map(|(_, payload)| payload.as_str().unwrap().to_owned())
            .collect();
        let sent: Vec<String> = (0..LINES).map(|line| format!("{i} {line}")).collect();
        assert_eq!(own, sent);
    }
}

#[test]
fn messages_of_a_nodes_clients_are_counted_separately() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let node = &nodes[0];
    thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                let lines: String = (0..200).map(|line| format!("{client} {line}\n")).collect();
                let output = node.send(&[], lines.as_bytes());
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                // The client ended neither too early nor never, regardless of the other senders.
                let own = payloads(&events(&output.stdout));
                let own = own.iter().filter(|payload| payload.starts_with(&format!("{client} "))).count();
                assert_eq!(own, 200);
            });
        }
    });
}

#[test]
fn a_killed_cat_leaves_with_another_reason() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut listener = nodes[0].cat(&["g", "--stay"]);
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines();
    let mut next = |pid: u32, reason: &str| loop {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let who = |key: &str| event[key].as_array().into_iter().flatten().any(|member| member["pid"] == pid);
        if event["reason"] == reason && (who("joined") || who("left")) {
            return event["members"].as_array().unwrap().len();
        }
    };
    assert_eq!(next(listener.id(), "join"), 1);
    let mut killed = nodes[0].cat(&["g", "--stay"]);
    assert_eq!(next(killed.id(), "join"), 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(next(killed.id(), "procdown"), 1);
    let mut ended = nodes[0].cat(&["g"]);
    assert_eq!(next(ended.id(), "join"), 2);
    drop(ended.stdin.take());
    assert!(ended.wait().unwrap().success());
    assert_eq!(next(ended.id(), "leave"), 1);
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn a_client_that_never_reads_is_cut_off_with_a_reason() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut sleeper = UnixStream::connect(&nodes[0].socket).unwrap();
    sleeper.write_all(b"{\"version\":1,\"request\":\"cat\",\"group\":\"g\"}\n").unwrap();
    let mut listening = BufReader::new(sleeper.try_clone().unwrap());
    let mut line = String::new();
    while !line.contains("\"group\"") {
        line.clear();
        assert!(listening.read_line(&mut line).unwrap() > 0);
    }
    let line = [&vec![b'x'; 1 << 20][..], b"\n"].concat();
    let output = nodes[0].send(&[], &line.repeat(70));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut answer = Vec::new();
    sleeper.read_to_end(&mut answer).unwrap();
    let last = answer.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
    let last: Value = serde_json::from_slice(last).unwrap();
    assert_eq!(last["event"], "error");
    assert!(
        last["message"].as_str().unwrap().starts_with("this client left more than 64 MiB unread"),
        "{last}"
    );
}

#[test]
fn a_client_gets_the_causes_of_ring_change_and_node_end() {
    let ring = Ring::of(3);
    let mut nodes = ring.start_all();
    let mut listener = nodes[0].cat(&["g", "--stay"]);
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["members"], serde_json::json!([1, 2, 3]));
    assert_eq!(next()["reason"], "join");

    nodes[2].signal(Signal::TERM);
    assert!(nodes[2].process.wait().unwrap().success());
    let transitional = next();
    assert_eq!(transitional["event"], "transitional");
    assert_eq!(transitional["members"], serde_json::json!([1, 2]));
    let regular = next();
    assert_eq!(regular["event"], "regular");
    assert_eq!(regular["left"], serde_json::json!([3]));
    assert!(regular["cause"].as_str().unwrap().contains("node 3 left"), "{regular}");
    agreement(&[&nodes[0], &nodes[1]]);

    nodes[0].signal(Signal::TERM);
    let output = listener.wait_with_output().unwrap();
    assert_eq!(failure(&output), "the node has left the ring: this node was asked to leave");
    assert!(nodes[0].process.wait().unwrap().success());
}

#[test]
fn a_staying_cat_receives_later_messages() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut listener = nodes[0].cat(&["g", "--stay"]);
    let mut stdin = listener.stdin.take().unwrap();
    stdin.write_all(b"mine\n").unwrap();
    drop(stdin);
    // It may not listen yet before its own line comes back.
    let mut stdout = BufReader::new(listener.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("mine") {
        line.clear();
        stdout.read_line(&mut line).unwrap();
    }
    assert!(nodes[0].send(&[], b"later\n").status.success());
    line.clear();
    stdout.read_line(&mut line).unwrap();
    while line.contains("\"group\"") {
        // Another process joins before it sends.
        line.clear();
        stdout.read_line(&mut line).unwrap();
    }
    assert!(line.contains("later"), "{line}");
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn stdout_closed_with_input_left_is_not_success() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut cat = nodes[0].cat(&["g"]);
    let mut first = String::new();
    BufReader::new(cat.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("regular"), "{first}");
    // Nothing reads any more, which the next printed line reveals.
    let mut stdin = cat.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    let output = cat.wait_with_output().unwrap();
    assert!(failure(&output).starts_with("stdout was closed before the end of the input"));

    // All input was sent and delivered, and the process stays only to print.
    let mut cat = nodes[0].cat(&["g", "--stay"]);
    cat.stdin.take().unwrap().write_all(b"two").unwrap();
    let mut seen = BufReader::new(cat.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"two\"") {
        line.clear();
        assert!(seen.read_line(&mut line).unwrap() > 0);
    }
    drop(seen);
    assert!(nodes[0].send(&[], b"three\n").status.success());
    assert!(cat.wait().unwrap().success());
}

#[test]
fn a_cat_killed_within_a_line_sends_no_half() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut listener = nodes[0].cat(&["g", "--stay"]);
    let mut seen = BufReader::new(listener.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"group\"") {
        line.clear();
        seen.read_line(&mut line).unwrap();
    }
    let mut killed = nodes[0].cat(&["g", "--stay"]);
    let mut stdin = killed.stdin.take().unwrap();
    stdin.write_all(b"whole\nhalf").unwrap();
    while !line.contains("\"whole\"") {
        line.clear();
        assert!(seen.read_line(&mut line).unwrap() > 0);
    }
    // The half line came with it, or comes while this process sleeps.
    thread::sleep(std::time::Duration::from_millis(200));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut after = Vec::new();
    while !line.contains("procdown") {
        line.clear();
        assert!(seen.read_line(&mut line).unwrap() > 0);
        after.push(line.clone());
    }
    assert!(after.iter().all(|line| !line.contains("deliver")), "{after:?}");
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn rejected_clients_can_read_the_reason() {
    let ring = Ring::of(1);
    let nodes = ring.start_all();
    let mut kept: Vec<Child> = (0..64).map(|_| nodes[0].cat(&["g", "--stay"])).collect();
    for child in &mut kept {
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("regular"), "{first}");
    }
    // Their input comes at once, so each is in the middle of a write when it is rejected.
    let input = vec![b'\n'; 1 << 20];
    let refused: Vec<_> = (0..16).map(|_| nodes[0].cat(&["g"])).collect();
    for mut child in refused {
        let mut stdin = child.stdin.take().unwrap();
        let input = input.clone();
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        let why = failure(&output);
        assert!(why.starts_with("the node already serves 64 cat clients"), "{why}");
    }
    assert_eq!(nodes[0].status()["settled"], true);
    for mut child in kept {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

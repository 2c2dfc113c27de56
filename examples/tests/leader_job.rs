//! Tests the example `leader_job`: three processes with a web service share a table.

mod talker;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use talker::Talker;

const LEADER_JOB: &str = env!("CARGO_BIN_EXE_leader_job");

/// Sends a request to a member. Returns the status and the whole answer, if it answers.
fn ask(member: u32, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((format!("127.0.0.{member}"), 8080)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// Places an order with a member, or with the leader that it redirects to. Returns the leader.
fn order(member: u32) -> u32 {
    let begun = Instant::now();
    let mut at = member;
    loop {
        match ask(at, "POST", "/orders", "a book") {
            Some((201, _)) => return at,
            Some((307, answer)) => {
                let (_, place) = answer.split_once("location: http://127.0.0.").expect("a place");
                at = place.split(':').next().and_then(|id| id.parse().ok()).expect("a member");
            }
            _ => at = member,
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no order is accepted");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn orders_are_taken_wherever_the_leader_is() {
    let state = tempfile::tempdir().expect("a directory");
    let mut members = [1, 2, 3].map(|id| Some(Talker::start(LEADER_JOB, id, state.path())));
    let first = order(2);
    drop(members[first as usize - 1].take());
    let other = if first == 3 { 2 } else { 3 };
    assert_ne!(order(other), first);
    let shown = ask(other, "GET", "/", "").expect("an answer");
    assert!(shown.1.contains(", 2 orders, "), "{}", shown.1);
    assert_eq!(ask(other, "GET", "/ready", "").map(|(status, _)| status), Some(200));
}

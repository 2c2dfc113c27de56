//! `quorate watch`.

use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;

use serde::Deserialize;

use crate::socket::address::Which;
use crate::socket::client::{self, Status};
use crate::socket::{Wish, json};
use crate::{Failure, written};

const OUTPUT: &str = "\
One line per change, after the state at the start:
  06:57:17.123 ring 1.8: members [1 2 3], joined [3], left []: node 3 asked to join
  06:57:17.125 quorum: votes 3 of 3, needed 2
  06:57:17.125 DC: node 1 (system1), term 147573952589676412929
  06:57:17.126 lease: this node may act as DC
  06:57:18.500 ring 1.8 ends: remaining [1 2], left [3]

With --json, one object per line, as the node sends it: {\"event\":\"regular\",...},
{\"event\":\"transitional\",...}, {\"event\":\"status\",...}, {\"event\":\"stalled\",\"ms\":750}.

Exit codes: 0 its output was closed, 1 the node stopped or left the ring (one line on stderr says why), 2 wrong usage.";

/// Print each change of the ring, quorum, DC and lease, with its cause, as it happens
#[derive(Debug, clap::Args)]
#[command(after_long_help = OUTPUT)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let mut node = BufReader::new(client::open(&args.which, Wish::Watch)?);
    let mut told = Told::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let broken = |error| Failure::new(format!("the connection to the node broke: {error}"));
        node.read_until(b'\n', &mut line).map_err(broken)?;
        if let Some(why) = json::error_message(&line) {
            return Err(Failure::new(why));
        }
        if !line.ends_with(b"\n") {
            return Err(Failure::new("the node closed the connection; see its log"));
        }
        let text = if args.json {
            String::from_utf8_lossy(&line).into_owned()
        } else {
            let now = jiff::Zoned::now().strftime("%H:%M:%S%.3f").to_string();
            told.news(client::read(&line)?).iter().map(|news| format!("{now} {news}\n")).collect()
        };
        let mut out = std::io::stdout().lock();
        if !written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// A line of the node.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Word {
    Regular {
        ring: String,
        members: Vec<u32>,
        joined: Vec<u32>,
        left: Vec<u32>,
        cause: String,
    },
    Transitional {
        previous: String,
        members: Vec<u32>,
        left: Vec<u32>,
    },
    Status(Box<Status>),
    Stalled {
        ms: u64,
    },
    #[serde(other)]
    New,
}

/// The status that has been printed.
#[derive(Default)]
struct Told {
    status: Option<Box<Status>>,
}

impl Told {
    /// Returns the changes, one sentence each.
    fn news(&mut self, word: Word) -> Vec<String> {
        match word {
            Word::Regular { ring, members, joined, left, cause } => {
                let (members, joined, left) = (list(&members), list(&joined), list(&left));
                vec![format!("ring {ring}: members {members}, joined {joined}, left {left}: {cause}")]
            }
            Word::Transitional { previous, members, left } => {
                vec![format!("ring {previous} ends: remaining {}, left {}", list(&members), list(&left))]
            }
            Word::Status(status) => self.status(status),
            Word::Stalled { ms } => vec![format!("this node's process was paused for {ms} ms")],
            Word::New => Vec::new(),
        }
    }

    fn status(&mut self, status: Box<Status>) -> Vec<String> {
        let before = self.status.as_deref();
        let mut news = Vec::new();
        let mut tell = |tell: fn(&Status) -> Option<String>| {
            let sentence = tell(&status);
            if sentence != before.and_then(tell) {
                news.extend(sentence);
            }
        };
        // A node without a ring has no quorum. While a new ring is being formed, its quorum and DC
        // are not known yet.
        let known = status.settled || status.ring.is_none();
        if known {
            tell(quorum);
            tell(dc);
        }
        tell(lease);
        if known || before.is_none() {
            self.status = Some(status);
        } else if let Some(before) = &mut self.status {
            before.lease = status.lease;
        }
        news
    }
}

fn quorum(status: &Status) -> Option<String> {
    let number = |votes: Option<u32>| votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
    let (expected, needed) = (number(status.expected_votes), number(status.quorum));
    let votes = format!("votes {} of {expected}, needed {needed}", status.total_votes);
    Some(match &status.inquorate {
        None => format!("quorum: {votes}"),
        Some(why) if status.ring.is_none() => format!("NO quorum: {why}"),
        Some(why) => format!("NO quorum: {votes}: {why}"),
    })
}

fn dc(status: &Status) -> Option<String> {
    Some(match (status.dc, &status.term, &status.vacant) {
        (Some(dc), Some(term), _) => {
            format!("DC: node {dc} ({}), term {}", status.name(dc), term.fencing_token)
        }
        (Some(dc), None, _) => format!("DC: node {dc} ({}), no term", status.name(dc)),
        (None, _, Some(why)) => format!("DC: NONE: {why}"),
        (None, _, None) => "DC: NONE".to_owned(),
    })
}

fn lease(status: &Status) -> Option<String> {
    let sentence = match status.lease.as_str() {
        "held" => "lease: this node may act as DC",
        "waiting" => "lease: waiting (this node is DC, but may not act now)",
        _ => "lease: none",
    };
    Some(sentence.to_owned())
}

fn list(nodes: &[u32]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    format!("[{}]", nodes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::client::tests::{inquorate, quorate};

    #[test]
    fn only_changes_are_printed() {
        let mut told = Told::default();
        let mut news = |status: Status| told.news(Word::Status(Box::new(status)));
        let first = quorate().status;
        let whole = [
            "quorum: votes 2 of 3, needed 2",
            "DC: node 1 (n1), term 239807672958224171009",
            "lease: this node may act as DC",
        ];
        assert_eq!(news(first.clone()), whole);
        assert!(news(first.clone()).is_empty());
        // On the way to the next ring, the only known fact is that the node may not act.
        let between = Status { settled: false, dc: None, term: None, lease: "none".into(), ..first.clone() };
        assert_eq!(news(between), ["lease: none"]);
        let alone = [
            "NO quorum: votes 1 of 3, needed 2: 1 of 2 votes needed are present",
            "DC: node 1 (n1), no term",
        ];
        assert_eq!(news(inquorate().status), alone);
        let why = "this node is in no ring: no token came for 1650 ms".to_owned();
        let lost = Status {
            ring: None,
            settled: false,
            dc: None,
            inquorate: Some(why.clone()),
            ..inquorate().status
        };
        assert_eq!(news(lost.clone()), [format!("NO quorum: {why}"), "DC: NONE".to_owned()]);
        assert!(news(lost).is_empty());
        assert_eq!(news(first), whole);
    }

    #[test]
    fn rings_have_their_cause_and_unknown_events_are_skipped() {
        let mut told = Told::default();
        let mut news = |line: &str| told.news(serde_json::from_str(line).unwrap());
        let ring = r#"{"event":"regular","ring":"1.8","members":[1,2],"joined":[2],"left":[],"cause":"node 2 asked to join"}"#;
        assert_eq!(news(ring), ["ring 1.8: members [1 2], joined [2], left []: node 2 asked to join"]);
        let end = r#"{"event":"transitional","ring":"1.c","previous":"1.8","members":[1],"left":[2]}"#;
        assert_eq!(news(end), ["ring 1.8 ends: remaining [1], left [2]"]);
        assert_eq!(news(r#"{"event":"stalled","ms":750}"#), ["this node's process was paused for 750 ms"]);
        assert!(news(r#"{"event":"eclipse","of":"the sun"}"#).is_empty());
    }
}

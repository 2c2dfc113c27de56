//! `quorate status`.

use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::Failure;
use crate::socket::address::Which;
use crate::socket::{Request, Wish, json};

/// How long the node may take to answer. Even while it re-forms its ring, it answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show the state of the group, as the local node sees it now.
///
/// The text is what cluster operators know, from live state: who is DC, whether this partition has quorum, who is online,
/// and why the ring last changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the node answered, quorate or not
  1  with --quorate: it answered, and its partition is WITHOUT quorum
  2  wrong usage
  3  no node answered")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object: version, node, name, status, and stats (counters since the node started)
    #[arg(long)]
    json: bool,
    /// Exit with 1 if the node's partition has no quorum
    #[arg(long)]
    quorate: bool,
}

pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let answer = match ask(&args.which) {
        Ok(answer) => answer,
        Err(failure) => {
            eprintln!("quorate: {failure}");
            return Ok(ExitCode::from(3));
        }
    };
    crate::print(&render(&answer, args.json))?;
    Ok(if args.quorate && !answer.status.quorate { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The answer, as far as this command looks into it; and all of it, for machines.
pub(crate) struct Answer {
    pub(crate) text: String,
    status: Quorate,
    whole: Value,
}

#[derive(Deserialize)]
struct Quorate {
    quorate: bool,
}

impl Answer {
    /// Without the text.
    pub(crate) fn whole(&self) -> &Value {
        &self.whole
    }
}

/// Asks a node.
pub(crate) fn ask(which: &Which) -> Result<Answer, Failure> {
    let mut stream = which.connect()?;
    let broken = |error| Failure::new(format!("the node does not answer: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.write_all(&Request::new(Wish::Status).line()).map_err(broken)?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).map_err(broken)?;
    parse(&line)
}

fn parse(line: &[u8]) -> Result<Answer, Failure> {
    if let Some(message) = json::error_message(line) {
        return Err(Failure::new(message));
    }
    if line.is_empty() {
        return Err(Failure::new("the node hung up without an answer: see its log"));
    }
    let parts = || {
        let mut whole: Value = serde_json::from_slice(line).ok()?;
        let text = whole.as_object_mut()?.remove("text")?.as_str()?.to_owned();
        let status = Quorate::deserialize(whole.get("status")?).ok()?;
        Some(Answer { text, status, whole })
    };
    parts().ok_or_else(|| {
        Failure::new("the node's answer is not understood: are `quorate` and the node of the same version?")
    })
}

fn render(answer: &Answer, as_json: bool) -> String {
    if as_json { format!("{}\n", answer.whole) } else { answer.text.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        br#"{"version":1,"node":1,"name":"n1","text":"Current DC: NONE\n","status":{"quorate":false},"stats":{"tokens":1}}"#;

    #[test]
    fn the_text_is_for_people_and_the_rest_for_machines() {
        let answer = parse(ANSWER).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(!answer.status.quorate);
        assert_eq!(render(&answer, false), "Current DC: NONE\n");
        assert_eq!(
            render(&answer, true),
            "{\"name\":\"n1\",\"node\":1,\"stats\":{\"tokens\":1},\"status\":{\"quorate\":false},\"version\":1}\n"
        );
    }

    #[test]
    fn an_answer_that_is_none_is_a_failure() {
        let failure = |line: &[u8]| parse(line).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert_eq!(failure(&json::error("the node is stopping")), "the node is stopping");
        assert!(failure(b"").starts_with("the node hung up"));
        assert!(failure(b"{}").starts_with("the node's answer is not understood"));
        assert!(failure(b"\xff").starts_with("the node's answer is not understood"));
    }
}

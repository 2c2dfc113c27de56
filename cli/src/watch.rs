//! `quorate watch`.

use std::io::Write;
use std::process::ExitCode;

use quorate_client::Event;
use quorate_client::text::Changes;

use crate::which::Which;
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
    let mut events = args.which.client()?.watch()?;
    let mut changes = Changes::default();
    loop {
        let line = events.next_line()?;
        let text = if args.json {
            String::from_utf8_lossy(line).into_owned()
        } else {
            let event = Event::parse(line).map_err(quorate_client::Error::NotUnderstood)?;
            let now = jiff::Zoned::now().strftime("%H:%M:%S%.3f").to_string();
            changes.of(event).iter().map(|change| format!("{now} {change}\n")).collect()
        };
        let mut out = std::io::stdout().lock();
        if !written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

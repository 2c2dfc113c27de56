//! `quorate lsb-check`: whether a cluster can control a service by its init script.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use crate::{Failure, print};

/// Check an init script the way Pacemaker uses it.
///
/// The script is run with `start`, `status` and `stop`, and each exit code is compared with what
/// the Linux Standard Base asks for. A cluster that gets other codes starts a service twice, takes
/// a stopped one for failed, or fences the node. The service is started and stopped for real, so it
/// must not be in use. If it runs already, nothing is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorate lsb-check /etc/init.d/nginx
  quorate lsb-check /etc/init.d/nginx --break 'chmod 0 /etc/nginx/nginx.conf' \\
                                      --mend 'chmod 644 /etc/nginx/nginx.conf'

Exit codes:
  0  every step that was run gave the right code
  1  a step did not, or the service was running already
  2  wrong usage")]
pub(crate) struct LsbCheckArgs {
    /// The init script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// Shell command that makes the next start fail. Without it, that step is left out
    #[arg(long = "break", value_name = "COMMAND", requires = "mend")]
    break_it: Option<String>,
    /// Shell command that undoes --break
    #[arg(long, value_name = "COMMAND")]
    mend: Option<String>,
    /// Time limit of each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Print one JSON object with the field steps
    #[arg(long)]
    json: bool,
}

/// A step of the sequence.
struct Step {
    name: &'static str,
    action: &'static str,
    expects: Expected,
    /// The rule of the LSB, and the reaction of a cluster to other codes.
    rule: &'static str,
}

#[derive(Clone, Copy)]
enum Expected {
    Code(i32),
    /// Any code but 0.
    Failure,
}

impl Expected {
    fn is_met(self, code: Option<i32>) -> bool {
        match self {
            Self::Code(expected) => code == Some(expected),
            Self::Failure => code.is_some_and(|code| code != 0),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Code(code) => code.to_string(),
            Self::Failure => "not 0".to_owned(),
        }
    }
}

/// The sequence for a service that is stopped, which it leaves stopped.
const SEQUENCE: [Step; 6] = [
    Step {
        name: "start",
        action: "start",
        expects: Expected::Code(0),
        rule: "`start` of a stopped service returns 0 once it runs. Any other code makes the cluster stop the \
               service and try another node",
    },
    Step {
        name: "status while it runs",
        action: "status",
        expects: Expected::Code(0),
        rule: "`status` of a running service returns 0. 3 means that it is stopped, and any other code that it \
               has failed",
    },
    Step {
        name: "start while it runs",
        action: "start",
        expects: Expected::Code(0),
        rule: "`start` of a running service changes nothing and returns 0",
    },
    Step {
        name: "stop",
        action: "stop",
        expects: Expected::Code(0),
        rule: "`stop` of a running service returns 0 once it is stopped. After any other code, the cluster \
               fences the node",
    },
    Step {
        name: "status while it is stopped",
        action: "status",
        expects: Expected::Code(3),
        rule: "`status` of a stopped service returns 3. With 0, the cluster takes it for running on two nodes, \
               and with any other code for failed",
    },
    Step {
        name: "stop while it is stopped",
        action: "stop",
        expects: Expected::Code(0),
        rule: "`stop` of a stopped service changes nothing and returns 0. After any other code, the cluster \
               fences the node",
    },
];

/// The step between --break and --mend.
const FAILING: Step = Step {
    name: "start that fails",
    action: "start",
    expects: Expected::Failure,
    rule: "`start` that cannot start the service returns a code other than 0. With 0, the cluster takes the \
           service for running",
};

/// The result of a step.
#[derive(Serialize)]
struct Outcome {
    step: &'static str,
    /// The exit code. `None` if the script was ended by a signal or by the time limit.
    code: Option<i32>,
    expected: String,
    ok: bool,
    /// The output of the script.
    output: String,
    /// The signal or the time limit that ended the script.
    ended_by: Option<String>,
    #[serde(skip)]
    rule: &'static str,
}

pub(crate) fn run(args: &LsbCheckArgs) -> Result<ExitCode, Failure> {
    let outcomes = examine(args)?;
    print(&if args.json { json(&outcomes) } else { text(&outcomes, args.break_it.is_none()) })?;
    Ok(if outcomes.iter().all(|outcome| outcome.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the steps.
fn examine(args: &LsbCheckArgs) -> Result<Vec<Outcome>, Failure> {
    let limit = Duration::from_secs(args.timeout);
    // A relative path without a slash would be looked for in PATH.
    let script = std::path::absolute(&args.script).unwrap_or_else(|_| args.script.clone());
    let run = |step: &Step| run_step(&script, step, limit);
    let before = Step { name: "status before", action: "status", expects: Expected::Code(3), rule: "" };
    if run(&before)?.code == Some(0) {
        return Err(Failure::new(format!(
            "the service of {} runs already, and this check would stop it; stop it first",
            script.display()
        )));
    }
    let mut outcomes = SEQUENCE.iter().map(run).collect::<Result<Vec<_>, _>>()?;
    if let (Some(break_it), Some(mend)) = (&args.break_it, &args.mend) {
        shell(break_it)?;
        let outcome = run(&FAILING);
        shell(mend)?;
        let outcome = outcome?;
        if outcome.code == Some(0) {
            run_step(&script, &SEQUENCE[3], limit)?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn run_step(script: &Path, step: &Step, limit: Duration) -> Result<Outcome, Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot run {}: {error}", script.display()));
    // A service that the script starts keeps its output open, so the output is a file and no pipe.
    let mut file = tempfile::tempfile().map_err(cannot)?;
    let output = |file: &File| file.try_clone().map(Stdio::from).map_err(cannot);
    let child = Command::new(script)
        .arg(step.action)
        .stdin(Stdio::null())
        .stdout(output(&file)?)
        .stderr(output(&file)?)
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let status = wait(child, limit).map_err(cannot)?;
    let mut printed = Vec::new();
    file.rewind().and_then(|()| file.take(64 << 10).read_to_end(&mut printed)).map_err(cannot)?;
    let code = status.and_then(|status| status.code());
    let ended_by = match status {
        None => Some(format!("the time limit of {} s", limit.as_secs())),
        Some(status) => status.signal().map(|signal| format!("signal {signal}")),
    };
    Ok(Outcome {
        step: step.name,
        code,
        expected: step.expects.text(),
        ok: step.expects.is_met(code),
        output: String::from_utf8_lossy(&printed).trim_end().to_owned(),
        ended_by,
        rule: step.rule,
    })
}

/// Waits for a script, and kills it and its process group at the time limit. Returns `None` then.
fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // A failure means that it has just ended.
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn shell(command: &str) -> Result<(), Failure> {
    let status = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("`{command}` failed: {status}"))),
        Err(error) => Err(Failure::new(format!("cannot run `{command}`: {error}"))),
    }
}

fn json(outcomes: &[Outcome]) -> String {
    let object = serde_json::json!({ "version": 1, "steps": outcomes });
    format!("{object}\n")
}

fn text(outcomes: &[Outcome], left_out: bool) -> String {
    let mut text = format!("{:<28}{:>6}  {:<8}\n", "step", "code", "expected");
    for outcome in outcomes {
        let code = outcome.code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let verdict = if outcome.ok { "ok" } else { "WRONG" };
        let _ = writeln!(text, "{:<28}{code:>6}  {:<8}  {verdict}", outcome.step, outcome.expected);
        if outcome.ok {
            continue;
        }
        if let Some(by) = &outcome.ended_by {
            let _ = writeln!(text, "    ended by {by}");
        }
        let _ = writeln!(text, "    {}", outcome.rule);
        for line in outcome.output.lines() {
            let _ = writeln!(text, "    | {line}");
        }
    }
    if left_out {
        text.push_str(
            "start that fails            not run; name a command that makes it fail with --break\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examines a script whose service is a file. `body` is what the script does with `$1`.
    fn examined(body: &str) -> Result<Vec<Outcome>, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let [script, service] = ["script", "service"].map(|name| directory.path().join(name));
        let text = format!("#!/bin/sh\nservice={}\n{body}\n", service.display());
        // A process of another test may have a file open that this one writes, and a file that is
        // open for writing cannot be run. So a shell writes it.
        let write = ["-c", r#"printf %s "$2" >"$1" && chmod 755 "$1""#, "sh"];
        let done = Command::new("sh").args(write).arg(&script).arg(text).status().unwrap();
        assert!(done.success());
        examine(&LsbCheckArgs {
            script,
            break_it: Some(format!("touch {}.broken", service.display())),
            mend: Some(format!("rm {}.broken", service.display())),
            timeout: 1,
            json: false,
        })
    }

    const GOOD: &str = r#"
case $1 in
start) [ ! -e "$service.broken" ] && touch "$service" ;;
stop) rm -f "$service" ;;
status) [ -e "$service" ] || exit 3 ;;
esac"#;

    #[test]
    fn a_script_that_keeps_to_the_lsb_passes() {
        let outcomes = examined(GOOD).unwrap();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.ok).count(), 7);
    }

    #[test]
    fn the_step_with_the_wrong_code_is_named() {
        for (from, to, step) in [
            ("exit 3", "exit 1", "status while it is stopped"),
            ("rm -f", "rm", "stop while it is stopped"),
            ("touch", "mkdir", "start while it runs"),
            ("stop) rm", "stop) sleep 9; rm", "stop"),
            (r#"[ ! -e "$service.broken" ] && "#, "", "start that fails"),
        ] {
            let outcomes = examined(&GOOD.replacen(from, to, 1)).unwrap();
            let first = outcomes.iter().find(|outcome| !outcome.ok).unwrap();
            assert_eq!(first.step, step);
            assert!(text(&outcomes, false).contains(first.rule));
        }
    }

    #[test]
    fn a_running_service_is_left_alone() {
        let error = examined("case $1 in status) exit 0 ;; esac").err().unwrap();
        assert!(error.to_string().contains("runs already"));
    }

    #[test]
    fn a_script_that_cannot_be_run_is_an_error() {
        let step = &SEQUENCE[0];
        let error = run_step(Path::new("/nonexistent/script"), step, Duration::from_secs(1)).err().unwrap();
        assert!(error.to_string().starts_with("cannot run /nonexistent/script: No such file"));
    }
}

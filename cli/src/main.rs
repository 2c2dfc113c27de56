//! `quorate`: group membership, quorum and DC election, the daemon and its tools.
// These macros panic if the reader has closed the pipe. `log` and `print` do not.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod cat;
mod completions;
mod config;
mod dc;
mod decode;
mod demo;
mod lab;
mod log;
mod lsb_check;
mod metrics;
mod node;
mod pcap;
mod quorum;
mod socket;
mod status;
mod watch;
mod which;

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Group membership, totally ordered multicast, quorum and DC election.
///
/// The nodes of a group form a Totem ring, wire-compatible with corosync 3.1, which gives all
/// messages one order. They agree on the members, on whether the members have quorum, and on which
/// of them is the designated controller (DC).
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
#[command(after_help = "\
Try it: `quorate demo` runs three nodes on this host and kills the DC.

Exit codes: 0 done, 1 failed (one line on stderr says why and what to do), 2 wrong usage. `status`,
`quorum` and `decode` have their own. If no node answers, `status` exits with 3, as crm_mon does,
`quorum` with 1, as corosync-quorumtool does, and the others with 1.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::NodeArgs),
    Status(status::StatusArgs),
    Quorum(quorum::QuorumArgs),
    Watch(watch::WatchArgs),
    Cat(cat::CatArgs),
    /// Control the designated controller
    Dc(dc::DcArgs),
    Demo(demo::DemoArgs),
    /// Show or check a configuration
    Config(config::ConfigArgs),
    Decode(decode::DecodeArgs),
    LsbCheck(lsb_check::LsbCheckArgs),
    /// Open a page with a simulated cluster, and cut its network (needs quorate-lab)
    Lab(lab::LabArgs),
    /// Run simulated clusters under every kind of fault (needs quorate-lab)
    Sim(lab::LabArgs),
    /// Measure rings on this machine (needs quorate-lab)
    Bench(lab::LabArgs),
    Completions(completions::CompletionsArgs),
}

/// The failure of a command: one line with the cause and the remedy.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<Box<dyn Error>> for Failure {
    fn from(error: Box<dyn Error>) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints text to stdout.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(|_| ())
}

/// Returns `true` if stdout is still open. A closed reader is not a failure, as in
/// `quorate cat g | head -1`.
fn written(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot write to stdout: {error}"))),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Node(args) => node::run(args),
        Command::Status(args) => status::run(&args),
        Command::Quorum(args) => quorum::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Cat(args) => cat::run(&args),
        Command::Dc(args) => dc::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Config(args) => config::run(args),
        Command::Decode(args) => match decode::run(args) {
            Ok(code) => Ok(code),
            // Exit code 1 means that something in the capture was rejected.
            Err(error) => {
                log::say(format_args!("quorate: {error}"));
                Ok(ExitCode::from(2))
            }
        },
        Command::LsbCheck(args) => lsb_check::run(&args),
        Command::Lab(args) => lab::run("lab", &args),
        Command::Sim(args) => lab::run("sim", &args),
        Command::Bench(args) => lab::run("bench", &args),
        Command::Completions(args) => completions::run(&args),
    };
    let code = done.unwrap_or_else(|failure| {
        // A configuration can have several problems, one per line.
        for line in failure.to_string().lines() {
            log::say(format_args!("quorate: {line}"));
        }
        ExitCode::FAILURE
    });
    log::flush();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    /// To clap, `--help` of a command is an error of a kind that is printed to stdout and ends with
    /// exit code 0.
    #[test]
    fn help_goes_to_stdout_and_is_no_failure() {
        use clap::CommandFactory;
        fn commands(command: &clap::Command, path: &[String]) -> Vec<Vec<String>> {
            // quorate-lab has its own help.
            let own = command
                .get_subcommands()
                .filter(|command| !["lab", "sim", "bench"].contains(&command.get_name()));
            let below = own.flat_map(|command| {
                let path: Vec<_> = path.iter().cloned().chain([command.get_name().to_owned()]).collect();
                commands(command, &path)
            });
            [path.to_vec()].into_iter().chain(below).collect()
        }
        let all = commands(&Cli::command(), &["quorate".to_owned()]);
        assert!(all.len() > 10, "{all:?}");
        for command in all {
            for flag in ["--help", "-h"] {
                let help = Cli::try_parse_from(command.iter().cloned().chain([flag.to_owned()])).unwrap_err();
                assert_eq!((help.exit_code(), help.use_stderr()), (0, false), "{command:?}");
                let usage = format!("Usage: {}", command.join(" "));
                assert!(help.to_string().contains(&usage), "{command:?}: {help}");
            }
        }
    }
}

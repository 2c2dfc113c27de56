//! `quorate config`: shows a configuration and the values in effect, and checks configurations.

mod check;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use quorate::config::{self, Loaded, Overrides, Rejected, Warning, grammar};
use serde::Serialize;

use crate::{Failure, print};

/// The configuration, and the command-line options that override it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Source {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/corosync/corosync.conf")]
    pub(crate) config: PathBuf,
    /// This node's name, address or id in the node list. Without a node list, its name
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// Number of votes when all nodes are present. Overrides the configuration
    #[arg(long, value_name = "VOTES", value_parser = clap::value_parser!(u32).range(1..))]
    expected_votes: Option<u32>,
    /// Send and accept clear text, as `secauth: off` does in the configuration
    #[arg(long)]
    clear_text: bool,
}

impl Source {
    /// Reads and checks the configuration for this host. The caller shows the warnings, except
    /// those of a rejected file, which are printed here.
    pub(crate) fn load(&self) -> Result<Loaded, Box<dyn Error>> {
        let mut overrides = Overrides::default();
        overrides.name.clone_from(&self.name);
        overrides.expected_votes = self.expected_votes;
        overrides.clear_text = self.clear_text;
        let host = config::this_host()
            .map_err(|error| format!("this host's interfaces cannot be listed: {error}"))?;
        Ok(config::load(&self.config, &overrides, &host).inspect_err(|rejected| warn(&rejected.warnings))?)
    }

    /// Reads the directory `uidgid.d` next to the configuration. The entries of its files name
    /// users and groups that may connect to a corosync daemon.
    pub(crate) fn uidgid(&self) -> Result<Vec<grammar::Entry>, Rejected> {
        let directory = self.config.with_file_name("uidgid.d");
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files: Vec<_> = files.map(|file| file.path()).filter(|path| path.is_file()).collect();
        files.sort();
        let mut entries = Vec::new();
        for file in files {
            let parsed = config::parse_document(&file.display().to_string(), &config::read(&file)?)?;
            entries.extend(parsed.entries.into_iter().filter(|entry| entry.path.starts_with("uidgid.")));
        }
        Ok(entries)
    }

    /// Reads all keys and values that corosync's clients find: those of the file, and those of
    /// `uidgid.d`.
    pub(crate) fn all_entries(&self) -> Result<Vec<grammar::Entry>, Rejected> {
        let mut entries = self.entries()?;
        entries.extend(self.uidgid()?);
        Ok(entries)
    }

    /// Reads the keys and values of the configuration as they stand in the file.
    pub(crate) fn entries(&self) -> Result<Vec<grammar::Entry>, Rejected> {
        let file = self.config.display().to_string();
        Ok(config::parse_document(&file, &config::read(&self.config)?)?.entries)
    }
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print a configuration: each value, its unit, and its origin
    Show(ShowArgs),
    /// Check one configuration, or compare those of several nodes.
    ///
    /// All errors and warnings of each file are printed, and the differences between the files. The
    /// exit code is 0 if all files can be used and agree, and 1 otherwise. Warnings do not count. A
    /// single file is checked for this host if this host is one of its nodes. Several files are
    /// compared without knowledge of their hosts.
    Check(check::CheckArgs),
}

#[derive(Args, Debug)]
struct ShowArgs {
    #[command(flatten)]
    source: Source,
    /// Print every effective value, set or not. By default, only the values set in the file are
    /// printed
    #[arg(long)]
    effective: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `quorate config`.
pub(crate) fn run(args: ConfigArgs) -> Result<ExitCode, Failure> {
    match args.command {
        ConfigCommand::Show(args) => print(&shown(&args)?).map(|()| ExitCode::SUCCESS),
        ConfigCommand::Check(args) => check::run(&args),
    }
}

fn shown(args: &ShowArgs) -> Result<String, Box<dyn Error>> {
    if args.effective {
        let loaded = args.source.load()?;
        warn(&loaded.warnings);
        Ok(if args.json { json(&Effective::of(&loaded))? } else { columns(&effective_rows(&loaded)) })
    } else {
        let said = said(&args.source)?;
        Ok(if args.json { json(&said)? } else { columns(&said_rows(&said)) })
    }
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        crate::log::say(format_args!("warning: {warning}"));
    }
}

/// The output of `--effective --json`.
#[derive(Serialize)]
struct Effective<'a> {
    settings: &'a [config::Setting],
    warnings: &'a [Warning],
}

impl<'a> Effective<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        Self { settings: &loaded.settings, warnings: &loaded.warnings }
    }
}

/// A key as it stands in the file.
#[derive(Serialize)]
struct Said {
    key: String,
    value: String,
    source: config::Place,
}

fn said(source: &Source) -> Result<Vec<Said>, Rejected> {
    let file = source.config.display().to_string();
    let place = |line| config::Place { file: file.clone(), line: Some(line) };
    Ok(source
        .entries()?
        .into_iter()
        .map(|e| Said { key: e.path, value: e.value, source: place(e.line) })
        .collect())
}

fn effective_rows(loaded: &Loaded) -> Vec<[String; 3]> {
    let row = |setting: &config::Setting| {
        let value = format!("{} {}", setting.value, setting.unit);
        [setting.key.clone(), value.trim_end().to_owned(), setting.source.to_string()]
    };
    loaded.settings.iter().map(row).collect()
}

fn said_rows(said: &[Said]) -> Vec<[String; 3]> {
    said.iter().map(|said| [said.key.clone(), said.value.clone(), said.source.to_string()]).collect()
}

/// Formats the rows in aligned columns.
fn columns(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[key, value, source]| format!("{key:first$}  {value:second$}  {source}\n")).collect()
}

fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "totem {\nversion: 2\ntransport: local\nsecauth: off\ntoken: 1650\ncluster_name: t\n}\n\
                        nodelist {\nnode {\nring0_addr: 127.0.0.1\nnodeid: 1\nname: one\n}\n}\n";

    fn source(text: &str) -> (tempfile::TempDir, Source) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("corosync.conf");
        std::fs::write(&config, text).expect("a file in it");
        (directory, Source { config, name: None, expected_votes: None, clear_text: false })
    }

    #[test]
    fn effective_values_are_shown_with_unit_and_origin() {
        let (directory, source) = source(FILE);
        let loaded = source.load().unwrap();
        let file = directory.path().join("corosync.conf").display().to_string();
        let text = columns(&effective_rows(&loaded)).replace(&file, "c");
        let check = |expect: [&str; 3]| {
            let line =
                text.lines().find(|line| line.starts_with(&format!("{} ", expect[0]))).expect(expect[0]);
            let (left, source) = line.split_at(line.rfind(expect[2]).expect(line));
            assert_eq!(
                (left.split_whitespace().skip(1).collect::<Vec<_>>().join(" ").as_str(), source),
                (expect[1], expect[2])
            );
        };
        check(["totem.token", "1650 ms", "c:5"]);
        check(["totem.hold", "42 ms", "derived from quorate.lease; corosync would use 303 ms"]);
        check(["totem.merge", "200 ms", "default"]);
        check(["quorum.expected_votes", "1 votes", "derived from the votes of the node list"]);

        let json = json(&Effective::of(&loaded)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let token = json["settings"].as_array().unwrap().iter().find(|s| s["key"] == "totem.token").unwrap();
        assert_eq!((&token["value"], &token["unit"]), (&1650.into(), &"ms".into()));
        assert_eq!((&token["source"]["kind"], &token["source"]["line"]), (&"file".into(), &5.into()));
    }

    #[test]
    fn without_effective_only_values_of_the_file_are_shown() {
        let (directory, source) = source("foo {\nkey: a b\n}\n");
        let file = directory.path().join("corosync.conf").display().to_string();
        let text = columns(&said_rows(&said(&source).unwrap())).replace(&file, "c");
        assert_eq!(text, "foo.key  a b  c:2\n");
    }
}

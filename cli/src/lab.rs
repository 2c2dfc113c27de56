//! `quorate lab`, `quorate sim` and `quorate bench`: commands of the program `quorate-lab`.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::Failure;

const PROGRAM: &str = "quorate-lab";

/// Arguments that are passed on as they are, `--help` among them.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct LabArgs {
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process with the laboratory's command of the same name. The program
/// `quorate-lab` is looked for in the directory of this one, and then in PATH.
pub(crate) fn run(command: &str, args: &LabArgs) -> Result<ExitCode, Failure> {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let program = beside.as_deref().filter(|beside| beside.is_file()).unwrap_or(Path::new(PROGRAM));
    let error = Command::new(program).arg(command).args(&args.arguments).exec();
    Err(Failure::new(match error.kind() {
        ErrorKind::NotFound => format!(
            "`quorate {command}` is a command of {PROGRAM}, which is neither beside this program nor in PATH: install \
             the package {PROGRAM}"
        ),
        _ => format!("{} cannot be run: {error}", program.display()),
    }))
}

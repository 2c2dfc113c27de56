//! `quorate-lab sim quorum`: recorded cases of quorum.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use quorate_netsim::cases::{Case, Cases};

use crate::Failure;
use crate::output::print;

/// Runs all cases of a file, and prints the differences from the recordings.
pub(crate) fn run(file: &Path) -> Result<ExitCode, Failure> {
    let text =
        if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    let name = file.display();
    let text = text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    let cases: Cases = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{name} is not a file of quorum cases: {error}")))?;

    let (mut decided, mut simulated, mut unexpected) = (0, 0, 0);
    for case in &cases.cases {
        let differences = case.run().map_err(|error| Failure::new(format!("{name}: {error}")))?;
        for difference in differences {
            let count = match (difference.decision, difference.simulated) {
                (Some(_), _) => &mut decided,
                (None, true) => &mut simulated,
                (None, false) => &mut unexpected,
            };
            *count += 1;
            print(&format!("{difference}\n"))?;
        }
    }
    let steps: usize = cases.cases.iter().map(Case::steps).sum();
    print(&format!(
        "{} cases, {steps} steps: nodes say something else {} times, {decided} decided, {simulated} where a simulator was \
         recorded, {unexpected} unexpected\n",
        cases.cases.len(),
        decided + simulated + unexpected,
    ))?;
    Ok(if unexpected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

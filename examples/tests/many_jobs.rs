//! The example `many_jobs`: three processes that share twelve jobs.

mod talker;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use talker::Talker;

const MANY_JOBS: &str = env!("CARGO_BIN_EXE_many_jobs");

/// Asks a member which nodes run the jobs, until it is these, with these numbers of jobs.
fn spread(member: &mut Talker, expected: &[(&str, usize)]) {
    let expected = BTreeMap::from_iter(expected.iter().copied());
    let begun = Instant::now();
    loop {
        let mut spread: BTreeMap<String, usize> = BTreeMap::new();
        for job in 1..=12 {
            member.says(&format!("job {job}"));
            let answer = std::iter::repeat_with(|| member.next_line())
                .find(|line| !line.starts_with("begins ") && !line.starts_with("ends "))
                .expect("without end");
            *spread.entry(answer.rsplit(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        if spread.iter().map(|(node, jobs)| (node.as_str(), *jobs)).eq(expected.clone()) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{spread:?} instead of {expected:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_member_that_leaves_gives_its_jobs_to_the_others() {
    let state = tempfile::tempdir().expect("a directory");
    let start = |id| Talker::start(MANY_JOBS, id, state.path());
    let [mut one, mut two, mut three] = [1, 2, 3].map(start);
    for member in [&mut one, &mut two, &mut three] {
        spread(member, &[("1", 4), ("2", 4), ("3", 4)]);
    }
    one.leaves();
    spread(&mut two, &[("2", 6), ("3", 6)]);
    let mut one = start(1);
    spread(&mut one, &[("1", 4), ("2", 4), ("3", 4)]);
}

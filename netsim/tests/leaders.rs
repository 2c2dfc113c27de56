//! Named leaders on whole nodes: partitions, crashes and restarts, while members stand for names
//! and withdraw, begin late, see events late, resign and leave.
//!
//! `SEEDS=a..b` runs these seeds.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod trouble;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::leaders::{Candidate, Feed, Leaders, Preference};
use quorate::{Events, Term};
use quorate_netsim::{Fault, Host, Scenario};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::trouble::{LENGTH, each, ms, seeds, trouble};

/// The acts for each job.
#[derive(Default)]
struct Acts {
    jobs: BTreeMap<u32, Job>,
    /// An act under a lower term than one before.
    broken: Option<String>,
    /// A job without acts in the end.
    late: Option<String>,
}

/// The acts for one job.
#[derive(Default)]
struct Job {
    last: Option<(Duration, Term)>,
    /// Each time from which on another node acted, with the time without acts before it.
    changes: Vec<Change>,
    count: u64,
    /// The longest times without acts that ended after these moments.
    gaps: Vec<(Duration, Duration)>,
}

/// Another node acts for a job.
#[derive(Debug)]
struct Change {
    at: Duration,
    from: u32,
    to: u32,
    gap: Duration,
}

impl Acts {
    /// A resource sees an act. It would reject one of a lower term. As nothing delays acts here,
    /// two members could act at the same time then.
    fn note(&mut self, job: u32, term: Term) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let acts = self.jobs.entry(job).or_default();
        if let Some((at, last)) = acts.last {
            if term < last {
                let late = format!("job {job}: term {term:?} after {last:?}, at {now:?}");
                self.broken.get_or_insert(late);
            }
            let gap = now - at;
            if gap > ms(2) {
                acts.gaps.push((now, gap));
            }
            if last.node != term.node {
                acts.changes.push(Change { at: now, from: last.node.get(), to: term.node.get(), gap });
            }
        }
        acts.last = Some((now, term));
        acts.count += 1;
    }
}

/// Acts once in a millisecond while the member leads for this job.
async fn act(job: u32, candidate: &Candidate, acts: &Rc<RefCell<Acts>>) {
    while let Ok(guard) = candidate.guard().await {
        while let Ok(term) = guard.check() {
            acts.borrow_mut().note(job, term);
            tokio::time::sleep(ms(1)).await;
        }
    }
}

/// The time until which members see events late, resign and leave.
const CALM: u64 = LENGTH - 1500;

/// Passes on each event up to this many milliseconds after the one before.
async fn feed_late(mut feed: Feed, mut events: Events, delay: u64, mut rng: ChaCha8Rng) {
    while let Some(event) = events.next().await {
        if turmoil::sim_elapsed().is_some_and(|now| now < ms(CALM)) {
            tokio::time::sleep(ms(rng.random_range(0..=delay))).await;
        }
        feed.handle(&event);
    }
}

/// Stands for jobs, again and again, for some time each and with some preference.
async fn stand_at_times(
    host: Host,
    jobs: u32,
    seed: u64,
    acts: Rc<RefCell<Acts>>,
) -> Result<(), Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed << 8 | u64::from(host.id.get()));
    // An application that begins late, or is slow at times.
    if rng.random_bool(0.2) {
        tokio::time::sleep(ms(rng.random_range(0..2000))).await;
    }
    let (leaders, feed) = Leaders::attach(host.node.clone(), "jobs".parse()?, &host.dc);
    let delay = [0, 0, 5, 50][rng.random_range(0..4)];
    let delays = ChaCha8Rng::seed_from_u64(rng.random());
    tokio::task::spawn_local(feed_late(feed, host.events, delay, delays));
    for job in 0..jobs {
        let (leaders, acts) = (leaders.clone(), Rc::clone(&acts));
        let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
        tokio::task::spawn_local(async move {
            loop {
                let preference = Preference { priority: rng.random_range(1..3), weight: 1 };
                let candidate = leaders.stand_with(&format!("job {job}"), preference).unwrap();
                let time = ms(rng.random_range(100..4000));
                if tokio::time::timeout(time, act(job, &candidate, &acts)).await.is_ok() {
                    return; // the node has left
                }
                drop(candidate);
                tokio::time::sleep(ms(rng.random_range(0..50))).await;
            }
        });
    }
    // The others have a quorum in the end.
    if host.id.get() <= 3 || rng.random_bool(0.5) {
        std::future::pending::<()>().await;
    }
    let leaves_at = ms(rng.random_range(500..CALM));
    tokio::time::sleep(leaves_at.saturating_sub(turmoil::sim_elapsed().unwrap_or_default())).await;
    leaders.resign().await;
    host.node.leave().await;
    Ok(())
}

fn run_at_times(seed: u64) -> Acts {
    let acts = Rc::new(RefCell::new(Acts::default()));
    let of_nodes = Rc::clone(&acts);
    let scenario = trouble(seed);
    scenario
        .run_service(move |host| stand_at_times(host, 6, seed, Rc::clone(&of_nodes)))
        .unwrap_or_else(|failure| panic!("{failure}"));
    let mut acts = acts.take();
    let late = |(job, acts): (&u32, &Job)| {
        let last = acts.last.map(|(at, _)| at);
        last.is_none_or(|at| at < ms(LENGTH - 300)).then(|| format!("job {job}: no act after {last:?}"))
    };
    acts.late = acts.jobs.iter().find_map(late);
    acts
}

#[test]
fn no_two_members_act_for_one_name() {
    let [count, changes] = [const { AtomicU64::new(0) }; 2];
    let seeds = seeds(0..20);
    each(seeds.clone(), |seed| {
        let acts = run_at_times(seed);
        if let Some(broken) = acts.broken.or(acts.late) {
            panic!("seed {seed}: {broken}\n{}", trouble(seed));
        }
        for job in acts.jobs.values() {
            count.fetch_add(job.count, Ordering::Relaxed);
            changes.fetch_add(job.changes.len() as u64, Ordering::Relaxed);
        }
    });
    println!("{seeds:?}: {count:?} acts, and {changes:?} times another node took over");
    let runs = seeds.end - seeds.start;
    assert!(count.into_inner() > 10_000 * runs && changes.into_inner() > 20 * runs);
}

/// Stands for a hundred jobs.
async fn stand(host: Host, acts: Rc<RefCell<Acts>>) -> Result<(), Box<dyn Error>> {
    let leaders = Leaders::open(host.node, "jobs".parse()?, &host.dc, host.events);
    for job in 0..100 {
        let candidate = leaders.stand(&format!("job {job}"))?;
        let acts = Rc::clone(&acts);
        tokio::task::spawn_local(async move { act(job, &candidate, &acts).await });
    }
    std::future::pending().await
}

#[test]
fn a_hundred_jobs_move_with_their_members() {
    let acts = Rc::new(RefCell::new(Acts::default()));
    let of_nodes = Rc::clone(&acts);
    // With these timeouts, the others form a ring at 2.6 s at the latest, and all leases are over.
    let (crash, restart, end) = (ms(2000), ms(4000), ms(6000));
    Scenario::new(5, end)
        .at(crash, Fault::Crash(5))
        .at(restart, Fault::Restart(5))
        .run_service(move |host| stand(host, Rc::clone(&of_nodes)))
        .unwrap_or_else(|failure| panic!("{failure}"));
    let acts = acts.take();
    assert_eq!(acts.broken, None);
    assert_eq!(acts.jobs.len(), 100);

    let within = |from: Duration, to: Duration| {
        let changes = acts.jobs.values().flat_map(|job| &job.changes);
        changes.filter(move |change| (from..to).contains(&change.at)).collect::<Vec<_>>()
    };
    assert!(within(ms(0), crash).is_empty(), "all are there from the start");
    let taken = within(crash, restart);
    assert!(taken.len() == 20 && taken.iter().all(|change| change.from == 5), "{taken:?}");
    let given = within(restart, end);
    assert!(given.len() == 20 && given.iter().all(|change| change.to == 5), "{given:?}");
    for node in 1..5 {
        assert_eq!(taken.iter().filter(|change| change.to == node).count(), 5);
        assert_eq!(given.iter().filter(|change| change.from == node).count(), 5);
    }
    let longest = |changes: &[&Change]| changes.iter().map(|change| change.gap).max().unwrap();
    println!("a crash: {:?} without acts; a new member: {:?}", longest(&taken), longest(&given));
    assert!(longest(&given) < ms(50), "without a lease to wait for");
    // The jobs of the others are interrupted by the change of the ring only.
    let stays = acts.jobs.values().filter(|job| job.changes.is_empty());
    let gaps: Vec<Duration> = stays.flat_map(|job| &job.gaps).map(|(_, gap)| *gap).collect();
    println!("others: {:?}", gaps.iter().max());
}

#[cfg(feature = "mutants")]
#[test]
fn a_leader_that_releases_first_is_found() {
    use quorate_netsim::mutants::Mutant;

    let _active = Mutant::LeaderReleasesFirst.activate();
    let found = (0..200).find_map(|seed| Some((seed, run_at_times(seed).broken?)));
    println!("{found:?}");
    assert!(found.is_some());
}

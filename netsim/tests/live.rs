//! Runs that are steered from outside.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::time::Duration;

use quorate_membership::Guarantee;
use quorate_netsim::{Fault, InjectError, Live, Load, Scenario};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn scenario(seed: u64) -> Scenario {
    Scenario::new(5, ms(10_000))
        .seed(seed)
        .load(Load { every: ms(7), until: ms(8000), longest: 3000, safe_percent: 30 })
        .at(ms(400), Fault::Crash(4))
        .at(ms(900), Fault::Restart(4))
}

/// Injects faults of many kinds at times at which something else happens, too.
fn steer(live: &mut Live) {
    let send = Fault::Send { node: 2, count: 20, length: 4000, guarantee: Guarantee::Safe };
    let faults = [
        (1000, Fault::Cut(1, 2)),
        (1000, Fault::CutOneWay { from: 3, to: 1 }),
        (1203, Fault::Pause { node: 5, lasts: ms(300) }),
        (1500, Fault::Partition(vec![vec![1, 2], vec![3, 4, 5]])),
        (1999, send),
        (2400, Fault::Heal),
        (2700, Fault::Crash(1)),
        (2701, Fault::Freeze { node: 2, lasts: ms(150) }),
        (3000, "for 1s delay 30 % by up to 5ms of tokens".parse().unwrap()),
        (3500, Fault::Restart(1)),
    ];
    for (at, fault) in faults {
        live.run_until(ms(at));
        live.inject(fault).unwrap();
    }
    live.run_until(ms(5000));
}

#[test]
fn a_steered_run_is_the_run_of_its_scenario() {
    for seed in 0..5 {
        let mut live = scenario(seed).live().unwrap();
        steer(&mut live);
        let copy: Scenario = live.scenario().to_string().parse().unwrap();
        assert_eq!(copy, live.scenario());
        let ended = live.end();
        let again = copy.run_core().unwrap();
        assert_eq!(ended.violation, None);
        assert_eq!(again.fingerprint, ended.summary.fingerprint, "seed {seed}");
        assert_eq!(again.deliveries, ended.summary.deliveries);
    }
}

#[test]
fn a_run_in_steps_is_the_run_in_one_go() {
    let scenario = Scenario::new(3, ms(1200)).seed(3).at(ms(700), Fault::Crash(1));
    let mut live = scenario.live().unwrap();
    while live.ended().is_none() {
        live.step();
    }
    assert_eq!(live.now(), ms(1200));
    assert_eq!(live.end().summary, scenario.run_core().unwrap());
}

#[test]
fn a_fault_in_the_midst_of_a_moment_comes_after_it() {
    let scenario = scenario(9);
    let mut live = scenario.live().unwrap();
    live.run_until(ms(1500));
    for _ in 0..50 {
        live.step();
        live.inject(Fault::Cut(1, 2)).unwrap();
        live.step();
        live.inject(Fault::Mend(1, 2)).unwrap();
    }
    let copy = live.scenario();
    assert_eq!(copy.run_core().unwrap().fingerprint, live.end().summary.fingerprint);
}

#[test]
fn a_fault_before_the_first_event_happens_once() {
    let mut live = scenario(4).live().unwrap();
    let send = Fault::Send { node: 2, count: 3, length: 10, guarantee: Guarantee::Agreed };
    live.inject(send).unwrap();
    live.run_until(ms(2000));
    let copy = live.scenario();
    assert_eq!(copy.run_core().unwrap().fingerprint, live.end().summary.fingerprint);
}

#[test]
fn a_run_with_a_calm_ends_as_its_scenario_does() {
    let scenario = Scenario::new(3, ms(5000)).seed(2).calm(ms(2000));
    let mut live = scenario.live().unwrap();
    live.run_until(ms(700));
    live.inject(Fault::LoseRecord(2)).unwrap();
    live.inject(Fault::Restart(2)).unwrap();
    live.run_until(Duration::MAX);
    assert!(live.ended().is_some());
    assert!(live.now() > ms(5000));
    let copy = live.scenario();
    assert_eq!(copy.run_core().unwrap(), live.end().summary);
}

#[test]
fn time_never_runs_backwards() {
    let mut live = scenario(4).live().unwrap();
    live.run_until(ms(2000));
    live.run_until(ms(1000));
    assert_eq!(live.now(), ms(2000));
    live.run_until(ms(9999));
    while live.now() < ms(10_000) {
        live.step();
    }
    // Whether or not the end has been noticed, it is too late.
    assert_eq!(live.inject(Fault::Cut(1, 2)), Err(InjectError::Over));
}

#[test]
fn the_end_of_a_run_is_no_event_of_its_nodes() {
    let mut live = Scenario::new(3, ms(1000)).live().unwrap();
    live.run_until(ms(1000));
    assert!(live.ended().is_some());
    let last = live.news().notes.pop().unwrap().text;
    assert!(last.contains("may act as DC"), "{last}");
}

#[test]
fn a_run_whose_nodes_are_all_down_goes_on() {
    let mut live = Scenario::new(1, ms(9000)).live().unwrap();
    live.run_until(ms(1000));
    live.inject(Fault::Crash(1)).unwrap();
    live.run_until(ms(4000));
    assert_eq!(live.now(), ms(4000));
    (0..100).for_each(|_| live.step());
    assert_eq!(live.now(), ms(4000));
    live.inject(Fault::Restart(1)).unwrap();
    live.run_until(ms(9000));
    assert!(live.ended().is_some_and(|ended| ended.violation.is_none()));
    assert_eq!(live.scenario().run_core().unwrap().fingerprint, live.fingerprint());
}

#[test]
fn news_tells_everything_once_and_forgets_the_rest() {
    let mut live = scenario(1).live().unwrap();
    let mut drawn = 0;
    let mut told: Vec<String> = Vec::new();
    for at in (0..=9000).step_by(50) {
        live.run_until(ms(at));
        if at == 2000 {
            live.inject(Fault::Partition(vec![vec![1, 2], vec![3, 4, 5]])).unwrap();
        }
        let news = live.news();
        assert_eq!(news.first, drawn);
        drawn += news.datagrams.len();
        assert!(news.late.iter().all(|(number, _)| *number < news.first));
        told.extend(news.notes.iter().map(|note| note.text.clone()));
        // In each band, a node is in one state at a time.
        for node in 1..=5 {
            let open = news.spans.iter().filter(|span| span.node == node && span.until > news.now);
            assert!(open.count() <= 3);
        }
    }
    assert_eq!(live.cuts().len(), 12);
    let whole = live.scenario().run_core_drawn().1.unwrap();
    assert_eq!(whole.datagrams.len(), drawn);
    let mut expected: Vec<String> = whole.notes.into_iter().map(|note| note.text).collect();
    // The end of the run ends all leases.
    expected.sort();
    told.sort();
    assert_eq!(told, expected);
}

#[test]
fn joined_news_tells_the_same_as_one() {
    let (mut often, mut once) = (scenario(6).live().unwrap(), scenario(6).live().unwrap());
    let mut joined = often.news();
    for at in (0..=4000).step_by(70) {
        often.run_until(ms(at));
        once.run_until(ms(at));
        joined = joined.then(often.news());
    }
    let mut one = once.news();
    for (number, arrival) in joined.late {
        let to = &mut joined.datagrams[number].to;
        match to.iter_mut().find(|known| known.node == arrival.node && known.at.is_none()) {
            Some(expected) => *expected = arrival,
            None => to.push(arrival),
        }
    }
    assert_eq!(joined.datagrams, one.datagrams);
    assert_eq!(joined.notes, one.notes);
    for spans in [&mut joined.spans, &mut one.spans] {
        spans.sort_by_key(|span| (span.node, span.from, span.what));
    }
    assert_eq!(joined.spans, one.spans);
}

#[test]
fn a_lease_that_ends_in_a_pause_is_drawn_as_ended() {
    let mut live = Scenario::new(3, ms(9000)).live().unwrap();
    live.run_until(ms(2000));
    live.inject(Fault::Pause { node: 1, lasts: ms(3000) }).unwrap();
    live.news();
    live.run_until(ms(4000));
    let spans = live.news().spans;
    let acts = |node: u32| spans.iter().rfind(|span| span.node == node && span.what == ACTS).unwrap().until;
    assert!((2_000_000..2_400_000).contains(&acts(1)), "{}", acts(1));
    assert_eq!(acts(2), 4_000_001);
}

const ACTS: quorate_picture::State = quorate_picture::State::Dc(quorate_picture::DcState::Acts);

#[test]
fn a_fault_that_comes_too_late_is_an_error_that_says_why() {
    let mut live = Scenario::new(3, ms(1000)).calm(ms(500)).live().unwrap();
    let why = |live: &mut Live, fault| live.inject(fault).unwrap_err().to_string();
    assert_eq!(why(&mut live, Fault::Crash(4)), "a fault of node 4: nodes are numbered from 1 to 3");
    let replay = why(&mut live, Fault::Replay(3));
    assert!(replay.starts_with("`3 old datagrams come again` has to be in the scenario"), "{replay}");
    let flip = "for 1ms flip up to 1 bits in 1 % of datagrams".parse().unwrap();
    assert!(matches!(live.inject(flip), Err(InjectError::FromTheBeginning(_))));
    live.run_until(ms(600));
    assert_eq!(why(&mut live, Fault::Crash(1)), "the scenario ends all trouble at 500ms");
    live.run_until(ms(100_000));
    assert_eq!(why(&mut live, Fault::Crash(1)), "the run is over");
}

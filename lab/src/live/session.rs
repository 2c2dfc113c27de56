//! A run that a page steers.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use quorate_netsim::{Ended, Live, ParseScenarioError, Scenario, invariants};
use quorate_picture::{News, NoteKind};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::bugs;
use super::copy::Copied;
use super::story::{Caption, Story};

/// The pause between two reports to the page.
const FRAME: Duration = Duration::from_millis(50);
/// The time that a run may take of each frame.
const BUSY: Duration = Duration::from_millis(35);
/// The simulated time that a run advances before it looks at the clock.
const SLICE: Duration = Duration::from_millis(5);
/// The most datagrams in a report. A page could not draw more in time.
const DRAWN: usize = 2500;
/// The most nodes that a page shows.
const NODES: u32 = 16;

/// A request of the page.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Command {
    /// Begin again, with this scenario, and perhaps with a known bug.
    Begin {
        scenario: String,
        bug: Option<String>,
    },
    /// Begin the story of this name.
    Tell {
        story: String,
    },
    Play,
    Pause,
    /// Advance to the next event that shows.
    Step,
    Pace(Pace),
    /// Let a fault happen, as a sentence.
    Inject {
        fault: String,
    },
    /// Write down the run as a scenario and a test.
    Copy,
}

/// The pace of a run.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// Simulated seconds per second.
    Times(f64),
    /// Events that show, per second.
    Events(f64),
}

/// The news of a run, for the page.
#[derive(Debug, Serialize)]
struct Report {
    /// The facts about a run that has just begun, with an empty picture.
    begun: Option<Begun>,
    /// The run as a scenario, up to now.
    scenario: String,
    /// The trace hash, up to now.
    hash: String,
    plays: bool,
    /// The number of captions that the run has reached.
    captions: usize,
    news: News,
    /// The number of datagrams that the news leaves out, because there were too many.
    skipped: usize,
    /// Which node cannot hear which: the sender, and the receiver.
    cuts: Vec<(u32, u32)>,
    ended: Option<End>,
    error: Option<String>,
    copied: Option<Copied>,
}

#[derive(Debug, Serialize)]
struct Begun {
    nodes: u32,
    /// Its scenario, from the beginning.
    scenario: String,
    /// The groups of properties that are checked, and their subjects.
    checks: Vec<(&'static str, &'static str)>,
    /// The known bugs that can be switched on, and what they do.
    bugs: Vec<(String, &'static str)>,
    /// The one that is.
    bug: Option<String>,
    /// Whether the network changes bytes, so that only panics are checked.
    blind: bool,
    /// The names and titles of all stories.
    stories: Vec<(&'static str, &'static str)>,
    /// The name of the story that is told.
    story: Option<&'static str>,
    captions: Vec<Caption>,
}

impl Begun {
    fn of(scenario: &Scenario, bug: Option<&bugs::Active>, story: Option<&Story>) -> Self {
        let stories = Story::all().unwrap_or_default();
        Self {
            stories: stories.iter().map(|story| (story.name, story.title)).collect(),
            story: story.map(|story| story.name),
            captions: story.map_or(Vec::new(), |story| story.captions.clone()),
            nodes: scenario.nodes(),
            scenario: scenario.to_string(),
            blind: scenario.is_damaged(),
            checks: invariants::GROUPS.to_vec(),
            bugs: bugs::all(),
            bug: bug.map(bugs::Active::name),
        }
    }
}

#[derive(Debug, Serialize)]
struct End {
    /// The property that was violated.
    property: Option<&'static str>,
    what: String,
}

impl End {
    fn of(ended: &Ended) -> Self {
        match &ended.violation {
            Some(violation) => Self { property: Some(violation.property), what: violation.to_string() },
            None => {
                Self { property: None, what: "The scenario is over. No invariant was violated.".to_owned() }
            }
        }
    }
}

/// A run, and what its page knows of it.
pub(super) struct Session {
    live: Live,
    /// The facts about the run, if the page has not been told of it.
    begun: Option<Begun>,
    bug: Option<bugs::Active>,
    /// The captions that the run has not reached.
    captions: VecDeque<Caption>,
    /// The number of those that it has reached.
    said: usize,
    plays: bool,
    pace: Pace,
    /// The part of a microsecond, or of an event, that is left over.
    due: f64,
    pending: Option<News>,
    error: Option<String>,
    copied: Option<Copied>,
    reports: Sender<String>,
}

impl Session {
    /// Returns a session that begins with this scenario.
    pub(super) fn new(scenario: &Scenario, reports: Sender<String>) -> Result<Self, String> {
        Ok(Self {
            begun: Some(Begun::of(scenario, None, None)),
            live: begin(scenario)?,
            bug: None,
            captions: VecDeque::new(),
            said: 0,
            plays: true,
            pace: Pace::Times(1.0),
            due: 0.0,
            pending: None,
            error: None,
            copied: None,
            reports,
        })
    }

    /// Does what the page asks for, until it is closed. A page that does not take its reports stops
    /// its run.
    pub(super) fn run(mut self, commands: &Receiver<String>) {
        let mut last = Instant::now();
        let mut told = true;
        loop {
            let rests = !self.plays && told;
            let wait = if rests { Duration::from_secs(3600) } else { FRAME.saturating_sub(last.elapsed()) };
            match commands.recv_timeout(wait) {
                Ok(command) => self.obey(&command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for command in commands.try_iter() {
                self.obey(&command);
            }
            let elapsed = if rests { Duration::ZERO } else { last.elapsed() };
            last = Instant::now();
            if self.plays && told {
                self.advance(elapsed);
            }
            told = match self.reports.try_reserve() {
                Ok(_) => true,
                Err(TrySendError::Full(())) => false,
                Err(TrySendError::Closed(())) => return,
            };
            if told {
                let report = self.report();
                // There is room, and only this thread sends.
                let _ = self.reports.try_send(report);
            }
        }
    }

    fn obey(&mut self, command: &str) {
        let result = match serde_json::from_str(command) {
            Ok(command) => self.handle(command),
            Err(error) => Err(format!("the page asked for something unknown: {error}")),
        };
        if let Err(error) = result {
            self.error = Some(error);
        }
    }

    fn handle(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Begin { scenario, bug } => {
                let scenario = scenario.parse().map_err(|error| format!("the scenario: {error}"))?;
                self.begin(&scenario, bug.as_deref(), None)?;
            }
            Command::Tell { story } => {
                let story = Story::named(&story)?;
                self.begin(&story.scenario, None, Some(&story))?;
                self.pace = Pace::Times(1.0);
            }
            Command::Play => self.plays = self.live.ended().is_none(),
            Command::Pause => self.plays = false,
            Command::Step => {
                self.plays = false;
                self.step(Instant::now());
            }
            Command::Pace(pace) => (self.pace, self.due) = (pace, 0.0),
            Command::Inject { fault } => {
                let fault = fault.parse().map_err(|error: ParseScenarioError| error.to_string())?;
                let at = self.live.inject(fault).map_err(|error| error.to_string())?;
                // On a page that pauses, the fault shows at once, too.
                self.live.run_until(at);
            }
            Command::Copy => self.copied = Some(Copied::of(&self.live, self.bug.as_ref())),
        }
        Ok(())
    }

    fn begin(&mut self, scenario: &Scenario, bug: Option<&str>, story: Option<&Story>) -> Result<(), String> {
        let live = begin(scenario)?;
        let bug = bug.map(bugs::find).transpose()?;
        // One bug at a time.
        self.bug = None;
        self.bug = bug.map(bugs::activate);
        self.begun = Some(Begun::of(scenario, self.bug.as_ref(), story));
        self.captions = story.map_or_else(VecDeque::new, |story| story.captions.clone().into());
        self.said = 0;
        (self.live, self.pending) = (live, None);
        (self.plays, self.due) = (true, 0.0);
        Ok(())
    }

    /// Advances the run by what the pace allows, for at most [`BUSY`].
    fn advance(&mut self, elapsed: Duration) {
        let began = Instant::now();
        let elapsed = elapsed.min(4 * FRAME).as_secs_f64();
        self.due += elapsed
            * match self.pace {
                Pace::Times(times) => times.clamp(1e-4, 1e3) * 1e6,
                Pace::Events(events) => events.clamp(0.1, 1e3),
            };
        let whole = self.due.floor();
        self.due -= whole;
        match self.pace {
            Pace::Times(_) => {
                let until = self.live.now() + Duration::from_micros(whole as u64);
                let until = self.captions.front().map_or(until, |caption| until.min(caption.at));
                while self.live.now() < until && self.live.ended().is_none() && began.elapsed() < BUSY {
                    self.live.run_until(until.min(self.live.now() + SLICE));
                }
                self.reach_caption();
            }
            Pace::Events(_) => {
                for _ in 0..whole as u64 {
                    if self.plays && began.elapsed() < BUSY {
                        self.step(began);
                    }
                }
            }
        }
        self.plays &= self.live.ended().is_none();
    }

    /// Pauses at the next caption, if the run has reached it.
    fn reach_caption(&mut self) {
        while self.captions.front().is_some_and(|caption| caption.at <= self.live.now()) {
            let Some(caption) = self.captions.pop_front() else { break };
            self.said += 1;
            self.plays = false;
            if let Some(pace) = caption.pace {
                (self.pace, self.due) = (Pace::Times(pace), 0.0);
            }
        }
    }

    /// Takes events up to one that shows, for at most [`BUSY`] since this time.
    fn step(&mut self, began: Instant) {
        while self.live.ended().is_none() && began.elapsed() < BUSY {
            let before = self.live.events();
            self.live.step();
            let news = self.live.news();
            let shows = !(news.datagrams.is_empty() && news.late.is_empty() && news.notes.is_empty());
            self.keep(news);
            if shows || self.live.events() == before {
                break;
            }
        }
        self.reach_caption();
    }

    fn keep(&mut self, news: News) {
        self.pending = Some(match self.pending.take() {
            Some(before) => before.then(news),
            None => news,
        });
    }

    /// Returns what the page does not know yet, as JSON.
    fn report(&mut self) -> String {
        let next = self.live.news();
        let mut news = match self.pending.take() {
            Some(before) => before.then(next),
            None => next,
        };
        let skipped = news.datagrams.len().saturating_sub(DRAWN);
        news.datagrams.drain(..skipped);
        news.first += skipped;
        let messages = news.notes.iter().filter(|note| note.kind == NoteKind::Message).count();
        let mut surplus = messages.saturating_sub(DRAWN / 5);
        news.notes.retain(|note| {
            let goes = note.kind == NoteKind::Message && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        let report = Report {
            begun: self.begun.take(),
            scenario: self.live.scenario().to_string(),
            hash: format!("{:016x}", self.live.fingerprint()),
            plays: self.plays,
            captions: self.said,
            news,
            skipped,
            cuts: self.live.cuts(),
            ended: self.live.ended().map(End::of),
            error: self.error.take(),
            copied: self.copied.take(),
        };
        // Only a map with keys other than strings could fail, and the report has none.
        serde_json::to_string(&report).unwrap_or_default()
    }
}

/// Begins a run of a scenario that a page can show.
pub(super) fn begin(scenario: &Scenario) -> Result<Live, String> {
    if scenario.nodes() > NODES {
        return Err(format!("{} nodes: a page shows at most {NODES}", scenario.nodes()));
    }
    scenario.live().map_err(|failure| failure.why())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use serde_json::Value;
    use tokio::sync::mpsc::Receiver as Reports;

    use super::*;

    fn scenario() -> Scenario {
        "3 nodes for 100s, token timeout 200ms, seed 1".parse().unwrap()
    }

    /// Runs a session on a thread of its own. Returns what steers it, what it reports, and its end.
    fn begun() -> (mpsc::Sender<String>, Reports<String>, thread::JoinHandle<()>) {
        let (commands, asked) = mpsc::channel();
        let (reports, reported) = tokio::sync::mpsc::channel(1);
        let thread = thread::spawn(move || Session::new(&scenario(), reports).unwrap().run(&asked));
        (commands, reported, thread)
    }

    /// Returns the first report of which this is true.
    fn wait_for(reported: &mut Reports<String>, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let report = serde_json::from_str(&reported.blocking_recv().unwrap()).unwrap();
            if is_it(&report) {
                return report;
            }
        }
    }

    #[test]
    fn a_session_ends_with_its_page() {
        let (commands, mut reported, thread) = begun();
        wait_for(&mut reported, |report| report["begun"].is_object());
        drop(commands);
        thread.join().unwrap();
        let (_commands, reported, thread) = begun();
        drop(reported);
        thread.join().unwrap();
    }

    #[test]
    fn a_page_that_takes_no_reports_stops_its_run() {
        let (_commands, mut reported, _thread) = begun();
        let now = |report: Value| report["news"]["now"].as_u64().unwrap();
        wait_for(&mut reported, |_| true);
        thread::sleep(20 * FRAME);
        // One report has waited. A frame counts for at most four.
        let waited = now(wait_for(&mut reported, |_| true));
        assert!(waited <= 9 * FRAME.as_micros() as u64, "{waited}");
    }

    #[test]
    fn commands_are_obeyed_and_wrong_ones_reported() {
        let (commands, mut reported, _thread) = begun();
        let ask = |command: &str| commands.send(command.to_owned()).unwrap();
        ask(r#"{"do": "dance"}"#);
        let error = wait_for(&mut reported, |report| report["error"].is_string());
        assert!(error["error"].as_str().unwrap().starts_with("the page asked for something unknown"));
        ask(r#"{"do": "pause"}"#);
        ask(r#"{"do": "inject", "fault": "node 2 crashes"}"#);
        let report =
            wait_for(&mut reported, |report| report["scenario"].to_string().contains("node 2 crashes"));
        assert_eq!(report["plays"], false);
        let down = |span: &Value| span["node"] == 2 && span["state"] == "down";
        assert!(report["news"]["spans"].as_array().unwrap().iter().any(down), "{report}");
        ask(r#"{"do": "begin", "scenario": "40 nodes for 1s, token timeout 200ms, seed 1"}"#);
        let error = wait_for(&mut reported, |report| report["error"].is_string());
        assert_eq!(error["error"], "40 nodes: a page shows at most 16");
        ask(r#"{"do": "begin", "scenario": "2 nodes for 1s, token timeout 200ms, seed 1"}"#);
        wait_for(&mut reported, |report| report["begun"]["nodes"] == 2);
        let report = wait_for(&mut reported, |report| report["ended"].is_object());
        assert_eq!(report["ended"]["property"], Value::Null);
    }

    #[test]
    fn a_run_without_nodes_waits_for_one_to_start() {
        let (reports, mut reported) = tokio::sync::mpsc::channel(1);
        let mut session = Session::new(&scenario(), reports).unwrap();
        session.handle(Command::Step).unwrap();
        for node in 1..=3 {
            session.handle(Command::Inject { fault: format!("node {node} crashes") }).unwrap();
        }
        for _ in 0..200 {
            session.handle(Command::Step).unwrap();
        }
        assert!(session.live.ended().is_none());
        session.handle(Command::Inject { fault: "node 1 starts again".to_owned() }).unwrap();
        session.handle(Command::Copy).unwrap();
        assert!(session.live.now() < Duration::from_secs(1));
        let copied = session.copied.take().unwrap();
        assert!(serde_json::to_string(&copied).unwrap().contains("node 1 starts again"));
        assert!(reported.try_recv().is_err());
    }
}

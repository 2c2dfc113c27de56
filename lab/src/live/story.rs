//! Guided stories: scenarios with captions.
//!
//! A story is a file with a scenario. Its first line, a comment, is the title. Comments of the form
//! `# at TIME: text` are captions. The run pauses at each of them. `# at TIME, pace 1/100: text`
//! also sets the pace from there on.

use std::time::Duration;

use quorate_netsim::Scenario;
use serde::Serialize;

/// The files, in the order in which they are told.
const FILES: [(&str, &str); 8] = [
    ("ring", include_str!("stories/1-ring.txt")),
    ("lost-message", include_str!("stories/2-lost-message.txt")),
    ("lost-token", include_str!("stories/3-lost-token.txt")),
    ("dc-dies", include_str!("stories/4-dc-dies.txt")),
    ("split-brain", include_str!("stories/5-split-brain.txt")),
    ("recovery", include_str!("stories/6-recovery.txt")),
    ("agreed-and-safe", include_str!("stories/7-agreed-and-safe.txt")),
    ("two-nodes", include_str!("stories/8-two-nodes.txt")),
];

/// A scenario with captions.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) scenario: Scenario,
    pub(super) captions: Vec<Caption>,
}

/// A text that appears at its time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Caption {
    /// The time, in microseconds.
    #[serde(serialize_with = "as_micros")]
    pub(super) at: Duration,
    pub(super) text: String,
    /// The pace from there on: simulated seconds per second.
    pub(super) pace: Option<f64>,
}

fn as_micros<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.as_micros() as u64)
}

impl Story {
    /// Returns all stories.
    pub(super) fn all() -> Result<Vec<Self>, String> {
        FILES
            .iter()
            .map(|(name, text)| Self::parse(name, text).map_err(|why| format!("{name}: {why}")))
            .collect()
    }

    /// Returns the story of this name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let known =
            || Self::all().map(|all| all.iter().map(|story| story.name).collect::<Vec<_>>().join(", "));
        let story = Self::all()?.into_iter().find(|story| story.name == name);
        story.ok_or_else(|| format!("no story is called {name}: there are {}", known().unwrap_or_default()))
    }

    fn parse(name: &'static str, text: &'static str) -> Result<Self, String> {
        let mut captions: Vec<Caption> = Vec::new();
        let comments = || text.lines().filter_map(|line| line.strip_prefix('#'));
        for line in comments() {
            if let Some(caption) = line.strip_prefix(" at ") {
                captions.push(Caption::parse(caption)?);
            } else if let Some(more) = line.strip_prefix("   ")
                && let Some(caption) = captions.last_mut()
            {
                caption.text.push(' ');
                caption.text.push_str(more);
            }
        }
        Ok(Self {
            name,
            title: comments().next().map(str::trim).ok_or("the first line has to be the title")?,
            scenario: text.parse().map_err(|error| format!("{error}"))?,
            captions,
        })
    }
}

impl Caption {
    fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("`# at {line}` is no caption: `# at 1200ms, pace 1/100: text` is one");
        let (head, text) = line.split_once(": ").ok_or_else(wrong)?;
        let (time, pace) = match head.split_once(", pace 1/") {
            Some((time, part)) => (time, Some(1.0 / part.parse::<f64>().map_err(|_| wrong())?)),
            None => (head, None),
        };
        let number = time.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let value: u64 = number.parse().map_err(|_| wrong())?;
        let at = match &time[number.len()..] {
            "us" => Duration::from_micros(value),
            "ms" => Duration::from_millis(value),
            "s" => Duration::from_secs(value),
            _ => return Err(wrong()),
        };
        Ok(Self { at, text: text.to_owned(), pace })
    }
}

#[cfg(test)]
mod tests {
    use quorate::NodeId;
    use quorate_netsim::History;
    use quorate_netsim::history::What;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn told(name: &str) -> History {
        let (result, history) = Story::named(name).unwrap().scenario.run_core_traced();
        result.unwrap();
        history
    }

    /// Returns the members of a node's ring, whether they have a quorum, and the DC.
    fn status(history: &History, node: u32, at: u64) -> (Vec<u32>, bool, Option<u32>) {
        let status = history.status(node, ms(at)).unwrap();
        let members = status.nodes.iter().filter(|node| node.online).map(|node| node.id.get());
        (members.collect(), status.quorate, status.dc.map(NodeId::get))
    }

    fn may_act(history: &History, node: u32, at: u64) -> bool {
        history.status(node, ms(at)).is_some_and(|status| status.lease == quorate_election::Lease::Held)
    }

    #[test]
    fn a_story_has_a_title_and_captions_in_the_order_of_time() {
        for Story { name, title, scenario, captions } in Story::all().unwrap() {
            assert!(!title.is_empty() && captions.len() >= 4, "{name}");
            assert!(captions.is_sorted_by_key(|caption| caption.at), "{name}");
            assert!(captions[0].pace.is_some(), "{name}");
            let end = scenario.run_core().unwrap().simulated;
            assert_eq!(captions.last().map(|caption| caption.at), Some(end), "{name}");
            let mut pace = 1.0;
            for pair in captions.windows(2) {
                pace = pair[0].pace.unwrap_or(pace);
                let waits = (pair[1].at - pair[0].at).as_secs_f64() / pace;
                assert!(waits < 15.0, "{name}: {waits} s until `{}`", pair[1].text);
            }
        }
    }

    #[test]
    fn the_ring_of_the_first_story_has_all_nodes_and_a_dc() {
        let history = told("ring");
        for node in 1..=3 {
            assert_eq!(status(&history, node, 299), (vec![1, 2, 3], true, Some(1)));
        }
        assert!(may_act(&history, 1, 299) && !may_act(&history, 1, 60));
    }

    #[test]
    fn the_lost_message_is_delivered_by_all_in_one_order() {
        let history = told("lost-message");
        let messages = |node| history.delivered(node).iter().map(|one| one.message).collect::<Vec<_>>();
        assert_eq!(messages(1).len(), 3);
        assert_eq!((messages(2), messages(3)), (messages(1), messages(1)));
    }

    #[test]
    fn the_ring_without_a_token_becomes_one_with_the_same_members() {
        let history = told("lost-token");
        assert!(!may_act(&history, 1, 760));
        for node in 1..=3 {
            let rings = history.records().iter().filter(|record| {
                matches!(&record.what, What::Regular(regular) if regular.members.len() == 3)
                    && record.life.is_some_and(|life| life.node.get() == node)
            });
            assert_eq!(rings.count(), 2);
            assert_eq!(status(&history, node, 1199), (vec![1, 2, 3], true, Some(1)));
        }
        assert!(may_act(&history, 1, 1199));
    }

    #[test]
    fn another_node_acts_after_the_dc_has_died() {
        let history = told("dc-dies");
        assert!(may_act(&history, 1, 990) && !may_act(&history, 2, 1430));
        assert_eq!(status(&history, 2, 1499), (vec![2, 3], true, Some(2)));
        assert!(may_act(&history, 2, 1499));
    }

    #[test]
    fn in_split_brain_only_the_larger_part_acts() {
        let history = told("split-brain");
        assert!(may_act(&history, 1, 1600) && !may_act(&history, 1, 1670));
        assert_eq!(status(&history, 1, 2100), (vec![1, 2], false, Some(1)));
        assert_eq!(status(&history, 5, 2100), (vec![3, 4, 5], true, Some(3)));
        assert!(may_act(&history, 3, 2100) && !may_act(&history, 1, 2100));
        for node in 1..=5 {
            assert_eq!(status(&history, node, 4999).0, [1, 2, 3, 4, 5]);
            assert!(status(&history, node, 4999).1);
        }
    }

    #[test]
    fn transitional_messages_stay_in_one_part() {
        let history = told("recovery");
        for node in [1, 2] {
            assert!(history.delivered(node).iter().all(|message| message.transitional));
            assert_eq!(history.delivered(node).len(), 3);
        }
        assert!(history.delivered(3).is_empty() && history.delivered(4).is_empty());
        assert_eq!(status(&history, 4, 2999).0, [1, 2, 3, 4]);
    }

    #[test]
    fn a_safe_message_is_delivered_later_than_it_arrives() {
        let history = told("agreed-and-safe");
        let at = |node: u32, number: u32| {
            let record = history.records().iter().find(|record| {
                matches!(&record.what, What::Delivered(one) if one.message.is_some_and(|message| message.number == u64::from(number)))
                    && record.life.is_some_and(|life| life.node.get() == node)
            });
            record.unwrap().at.as_micros()
        };
        assert!([1, 2, 3].iter().all(|node| at(*node, 1) < 503_500));
        assert!([1, 2, 3].iter().all(|node| at(*node, 2) > 603_500));
    }

    #[test]
    fn of_two_nodes_neither_goes_on_alone() {
        let history = told("two-nodes");
        assert!(!status(&history, 2, 1460).1);
        assert!(status(&history, 1, 2990).1 && status(&history, 2, 2990).1);
        assert!(!status(&history, 1, 3460).1 && !status(&history, 2, 3460).1);
        assert!(status(&history, 1, 4999).1 && status(&history, 2, 4999).1);
    }

    #[test]
    fn a_caption_that_cannot_be_read_is_an_error_that_shows_one() {
        let why = Caption::parse("1200: text").unwrap_err();
        assert!(why.contains("`# at 1200ms, pace 1/100: text` is one"), "{why}");
        assert_eq!(
            Caption::parse("2s, pace 1/50: text").unwrap(),
            Caption { at: ms(2000), text: "text".to_owned(), pace: Some(0.02) }
        );
    }
}

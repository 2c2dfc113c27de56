//! S16: no accepted message is lost silently. When a node's queue is empty and it has delivered
//! every received frame, all of its own messages have come back.

use std::collections::BTreeMap;

use quorate_membership::NodeId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct NoLoss {
    accounts: BTreeMap<NodeId, Account>,
}

struct Account {
    life: Life,
    accepted: u64,
    delivered: u64,
}

impl Online for NoLoss {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let account = self.accounts.entry(life.node).or_insert(Account { life, accepted: 0, delivered: 0 });
        match &record.what {
            What::Started => *account = Account { life, accepted: 0, delivered: 0 },
            What::Accepted { .. } => account.accepted += 1,
            What::Delivered(own) if own.message.is_some_and(|message| message.sender == account.life) => {
                account.delivered += 1;
            }
            What::Inside(Inside::Holds(holds)) => {
                let Account { accepted, delivered, .. } = *account;
                if holds.queued == 0 && holds.all_delivered && delivered != accepted {
                    let what = format!("{life} sent {accepted} messages, but got {delivered} of them back");
                    return violated("S16", record.at, what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;
    use crate::history::Holds;

    /// Node 1 has sent two messages and got `back` of them back; `queued` bytes still wait.
    fn account(back: u64, queued: usize) -> Story {
        let mut story = Story::ring(2);
        for number in 1..=2 {
            story.accept(1, number);
        }
        for number in 1..=back {
            story.deliver(1, 1, number, 1);
        }
        let holds = Holds { frames: 0, queued, unread: 0, unsent: 0, all_delivered: true };
        story.record(1, What::Inside(Inside::Holds(holds)));
        story
    }

    #[test]
    fn a_sent_message_comes_back_or_waits() {
        account(2, 0).is_right(NoLoss::default());
        account(1, 100).is_right(NoLoss::default());
        account(1, 0).is_wrong(NoLoss::default(), "1#1 sent 2 messages, but got 1 of them back");
    }

    #[test]
    fn messages_sent_before_a_crash_do_not_count() {
        let mut story = account(1, 100);
        story.crash(1);
        story.start(1);
        let holds = Holds { frames: 0, queued: 0, unread: 0, unsent: 0, all_delivered: true };
        story.record(1, What::Inside(Inside::Holds(holds)));
        story.is_right(NoLoss::default());
    }
}

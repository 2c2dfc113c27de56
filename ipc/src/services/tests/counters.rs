//! Tests of the counters, which are in a map of their own.

use super::*;

/// Asks for the map of the counters.
fn open_stats(world: &mut World) -> Client {
    let client = world.open(Service::Cmap);
    assert_eq!(code(&world.ask(&client, request(9, 24, |message| message.i32(16, 1)))), 1);
    client
}

impl World {
    /// Sends a request that needs the counters, which are these.
    fn ask_stats(&mut self, client: &Client, request: Bytes, stats: &quorate::Stats) -> Bytes {
        let Step::Do(Order::ReadStats(asked)) = self.services.request(client.id, request) else {
            panic!("no order");
        };
        self.services.done(client.id, Done::Stats(Box::new(stats.clone()), asked)).unwrap()
    }

    /// Reads a counter of 64 bits.
    fn counter(&mut self, client: &Client, name: &str, stats: &quorate::Stats) -> u64 {
        let get = request(2, 288, |message| message.key(16, name).u64(280, 8));
        let answer = self.ask_stats(client, get, stats);
        assert_eq!(code(&answer), 1, "{name}");
        u64::from_ne_bytes(answer[40..48].try_into().unwrap())
    }
}

#[test]
fn connections_have_counters_while_they_last() {
    let (mut world, stats) = (World::new(), quorate::Stats::default());
    let client = open_stats(&mut world);
    assert_eq!(
        code(&world.ask_stats(&client, track("stats.ipcs.", 8 | 4), &stats)),
        19,
        "only both together"
    );
    assert_eq!(code(&world.ask_stats(&client, track("stats.ipcs.", 8 | 4 | 1), &stats)), 1);

    let other = world.open(Service::Cpg);
    let added = client.events();
    let name = |event: &Bytes| {
        let length = usize::from(u16::from_ne_bytes([event[32], event[33]]));
        String::from_utf8(event[40..40 + length].to_vec()).unwrap()
    };
    let key = "stats.ipcs.service2.77.0x2.dispatched";
    assert_eq!((added.len(), name(&added[0])), (13, key.to_owned()));
    assert!(added.iter().all(|event| (field(event, 24), field(event, 296)) == (55, 4)));

    world.join(&other, "g", 77);
    world.deliver("g", b"hello");
    let count = other.events().len() as u64;
    let (waiting, mut taken) = (other.outbox.counts().waiting, VecDeque::new());
    assert_eq!((waiting, count), (2, 2), "taken, and not in the client's memory yet");
    other.outbox.event(Bytes::new());
    other.outbox.take(&mut taken).unwrap();
    other.outbox.sent(taken.drain(..1));
    assert_eq!(world.counter(&client, key, &stats), 1);
    assert_eq!(world.counter(&client, "stats.ipcs.service2.77.0x2.requests", &stats), 1);
    assert_eq!(world.counter(&client, "stats.ipcs.global.active", &stats), 2);

    world.services.close(other.id);
    let deleted = client.events();
    assert_eq!((deleted.len(), field(&deleted[0], 296)), (13, 1));
    assert_eq!(world.counter(&client, "stats.ipcs.global.closed", &stats), 1);
}

#[test]
fn a_tracked_counter_is_told_when_it_has_changed() {
    let mut world = World::new();
    let mut stats = five_tokens();
    let client = open_stats(&mut world);
    assert_eq!(code(&world.ask_stats(&client, track("stats.srp.orf_token_rx", 2), &stats)), 1);
    let is_due = |world: &mut World| {
        let effects = world.services.take_effects();
        effects.iter().filter(|effect| matches!(effect, Effect::WatchCounters { .. })).count()
    };
    assert_eq!(is_due(&mut world), 1);
    world.services.watch_counters(&stats);
    assert_eq!((client.events().len(), is_due(&mut world)), (0, 1), "unchanged");
    stats.tokens = 7;
    world.services.watch_counters(&stats);
    let told = client.events();
    assert_eq!((told.len(), field(&told[0], 296), told[0][336], told[0][344]), (1, 2, 7, 5));
    assert_eq!(is_due(&mut world), 1);
    world.services.close(client.id);
    world.services.watch_counters(&stats);
    assert_eq!(is_due(&mut world), 0, "there is no tracker any more");
}

#[test]
fn counters_are_set_to_zero_by_an_operator() {
    let mut world = World::new();
    let stats = five_tokens();
    let client = open_stats(&mut world);
    let set =
        |name: &str| request(0, 300, |message| message.key(16, name).u64(280, 4).u8(288, 6).u32(296, 1));
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.ipc"), &stats)), 1);
    assert_eq!(world.counter(&client, "stats.srp.orf_token_rx", &stats), 5);
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.all"), &stats)), 1);
    assert_eq!(world.counter(&client, "stats.srp.orf_token_rx", &stats), 0);
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.nothing"), &stats)), 19);
    assert_eq!(code(&world.ask(&client, set("stats.srp.orf_token_rx"))), 11, "read-only");
}

//! Clients that send garbage, most of it almost right, while rings and groups change.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

/// The layouts of requests: the service, the id, and the size that it has at least.
const LAYOUTS: [(Service, i32, usize); 38] = [
    (Service::Cmap, 0, 300),
    (Service::Cmap, 1, 280),
    (Service::Cmap, 2, 288),
    (Service::Cmap, 3, 288),
    (Service::Cmap, 4, 280),
    (Service::Cmap, 5, 24),
    (Service::Cmap, 6, 24),
    (Service::Cmap, 7, 296),
    (Service::Cmap, 8, 24),
    (Service::Cmap, 9, 24),
    (Service::Cfg, 0, 24),
    (Service::Cfg, 3, 280),
    (Service::Cfg, 4, 24),
    (Service::Cfg, 5, 24),
    (Service::Cfg, 6, 24),
    (Service::Cfg, 7, 16),
    (Service::Cfg, 8, 16),
    (Service::Cfg, 9, 32),
    (Service::Cfg, 10, 24),
    (Service::Cpg, 0, 168),
    (Service::Cpg, 1, 160),
    (Service::Cpg, 2, 60),
    (Service::Cpg, 3, 152),
    (Service::Cpg, 4, 16),
    (Service::Cpg, 5, 160),
    (Service::Cpg, 6, 24),
    (Service::Cpg, 7, 24),
    (Service::Cpg, 8, 16),
    (Service::Cpg, 12, 90),
    (Service::Quorum, 0, 16),
    (Service::Quorum, 1, 24),
    (Service::Quorum, 2, 16),
    (Service::Quorum, 3, 16),
    (Service::Quorum, 4, 24),
    (Service::Votequorum, 0, 24),
    (Service::Votequorum, 1, 24),
    (Service::Votequorum, 2, 24),
    (Service::Votequorum, 3, 32),
];

const NUMBERS: [u64; 14] =
    [0, 1, 2, 3, 7, 12, 15, 77, 255, 1 << 20, (1 << 31) - 1, u32::MAX as u64, 1 << 63, u64::MAX];
const GROUPS: [&str; 3] = ["g", "h", "crmd"];
const KEYS: [&str; 8] = [
    "a.key",
    "b.key",
    "totem.token",
    "stats.",
    "stats.srp.orf_token_rx",
    "stats.ipcs.",
    "stats.clear.all",
    "quorum.cancel_wait_for_all",
];
/// The most clients at a time.
const CLIENTS: usize = 6;

/// A request to a service, of a length and with numbers and names that a client may send.
fn request_to(rng: &mut ChaCha8Rng, service: Service) -> Bytes {
    let known: Vec<_> = LAYOUTS.iter().filter(|(of, ..)| *of == service).collect();
    let (_, id, least) = known.choose(rng).unwrap();
    let size = match rng.random_range(0..8) {
        0 => rng.random_range(16..400),
        1 => least + rng.random_range(0..200),
        2 => least - rng.random_range(0..(least - 15).min(9)),
        _ => *least,
    };
    let mut bytes = vec![0; size];
    let id = if rng.random_ratio(1, 16) { rng.random_range(-3..20) } else { *id };
    bytes[0..4].copy_from_slice(&id.to_ne_bytes());
    let stated = if rng.random_ratio(1, 32) { rng.random() } else { i32::try_from(size).unwrap() };
    bytes[8..12].copy_from_slice(&stated.to_ne_bytes());
    for at in (16..size.saturating_sub(8)).step_by(8) {
        if rng.random_ratio(1, 3) {
            let number = *NUMBERS.choose(rng).unwrap();
            bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
        }
    }
    let name = match service {
        Service::Cpg => GROUPS.choose(rng),
        _ => KEYS.choose(rng),
    };
    let name = name.unwrap().as_bytes();
    if rng.random_ratio(3, 4) && size >= 24 + name.len() {
        bytes[16..24].copy_from_slice(&(name.len() as u64).to_ne_bytes());
        bytes[24..24 + name.len()].copy_from_slice(name);
    }
    bytes.into()
}

/// Something that happens in the ring.
fn happen(rng: &mut ChaCha8Rng, world: &mut World) {
    let pid = *[0, 1, 77].choose(rng).unwrap();
    let group = GROUPS.choose(rng).unwrap();
    match rng.random_range(0..6) {
        0 => world.ring(&[1], rng.random()),
        1 => world.ring(&[1, 2], rng.random()),
        2 => world.change(group, &[(1, pid)], &[(1, pid)], &[], GroupReason::Join),
        3 => world.change(group, &[], &[], &[(1, pid)], GroupReason::Leave),
        4 => world.deliver(group, b"hello"),
        _ => world.services.watch_counters(&five_tokens()),
    }
}

/// The result of an order, if a client waits for it.
fn result(rng: &mut ChaCha8Rng, order: Order) -> Option<Done> {
    let failed: bool = rng.random();
    let done = match order {
        Order::Join { .. } => Done::Joined(if failed { Err(GroupError::GroupFull) } else { Ok(()) }),
        Order::LeaveGroup { .. } => Done::LeftGroup(if failed { Err(GroupError::Left) } else { Ok(()) }),
        Order::Multicast { payload, .. } => {
            assert!(payload.len() <= quorate::Totem::MAX_PAYLOAD);
            return None;
        }
        Order::Kill { .. } => Done::Killed,
        Order::SetExpectedVotes(_) | Order::SetVotes { .. } => Done::VotesSet,
        Order::Device(_) => {
            Done::Device(if failed { Err(DeviceError::OtherRing) } else { Ok(DeviceState::default()) })
        }
        Order::ReadStats(request) => Done::Stats(Box::new(five_tokens()), request),
    };
    Some(done)
}

fn check(message: &[u8]) {
    assert_eq!(field(message, 8) as usize, message.len(), "the size in the header");
}

/// Sends `count` requests. At the end, all clients go, and nothing of them may be left.
fn play(seed: u64, count: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut world, mut clients) = (World::new(), Vec::new());
    let before = world.services.kept();
    for _ in 0..count {
        if clients.is_empty() || clients.len() < CLIENTS && rng.random_ratio(1, 20) {
            let service = *Service::ALL.choose(&mut rng).unwrap();
            clients.push((service, world.open(service)));
        }
        let n = rng.random_range(0..clients.len());
        let (service, client) = &clients[n];
        let mut answer = match world.services.request(client.id, request_to(&mut rng, *service)) {
            Step::Reply(reply) => Some(reply),
            Step::Silent => None,
            Step::ReplyAndDo(reply, order) => {
                assert!(result(&mut rng, order).is_none(), "a second response");
                Some(reply)
            }
            Step::Do(order) => {
                // A client may go while the node carries out its order.
                if rng.random_ratio(1, 50) {
                    world.services.close(client.id);
                }
                result(&mut rng, order).and_then(|done| world.services.done(client.id, done))
            }
        };
        answer.take().iter().for_each(|answer| check(answer));
        if rng.random_ratio(1, 10) {
            happen(&mut rng, &mut world);
        }
        client.events().iter().for_each(|event| check(event));
        if rng.random_ratio(1, 60) {
            let (_, client) = clients.swap_remove(n);
            world.services.close(client.id);
        }
        world.services.take_effects();
    }
    for (_, client) in clients {
        world.services.close(client.id);
    }
    for group in GROUPS {
        world.change(group, &[], &[], &[], GroupReason::Leave);
    }
    assert_eq!(world.services.kept(), before, "seed {seed}");
}

#[test]
fn nothing_is_kept_of_clients_that_sent_garbage() {
    for seed in 0..20 {
        play(seed, 5_000);
    }
}

#[test]
#[ignore = "takes minutes"]
fn nothing_is_kept_of_ten_million_requests_of_garbage() {
    for seed in 1_000..2_000 {
        play(seed, 10_000);
    }
}

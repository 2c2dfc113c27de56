//! Tests of a reload: what the clients of cfg and cmap see of it.

use super::*;

const IN_PROGRESS: &str = "config.totemconfig_reload_in_progress";

fn keys(keys: &[(&str, Value)]) -> Vec<(String, Value)> {
    keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The key of an event, and what became of it: 1 deleted, 2 modified, 4 added.
fn told(event: &Bytes) -> (String, u32) {
    let length = usize::from(u16::from_ne_bytes(event[32..34].try_into().unwrap()));
    (String::from_utf8(event[40..40 + length].to_vec()).unwrap(), field(event, 296))
}

/// Lets a client ask for a reload. Returns the number of the request.
fn ask(world: &mut World, client: &Client) -> u64 {
    assert!(matches!(world.services.request(client.id, request(7, 16, |message| message)), Step::Silent));
    let [Effect::AskToReload { request }] = world.services.take_effects()[..] else {
        panic!("all are asked")
    };
    request
}

/// Lets a request of this node, or of another one, go round the ring. Returns `true` if the
/// configuration is to be read now.
fn goes_round(world: &mut World, from: u32, request: u64) -> bool {
    world.services.event(&Event::Reload { from: node(from), request });
    matches!(world.services.take_effects()[..], [Effect::Reload])
}

fn answers(client: &Client) -> Vec<(u32, u32)> {
    client.events().iter().map(|response| (field(response, 0), code(response))).collect()
}

#[test]
fn a_reload_is_answered_when_this_node_has_read_its_file() {
    for (read, expect) in [(Some(Vec::new()), 1), (None, 7)] {
        let mut world = World::new();
        let client = world.open(Service::Cfg);
        let number = ask(&mut world, &client);
        assert!(goes_round(&mut world, 1, number));
        assert!(answers(&client).is_empty(), "nothing has been read yet");
        world.services.reloaded(read);
        assert_eq!(answers(&client), [(14, expect)]);
    }
}

#[test]
fn a_reload_of_another_node_is_answered_there() {
    let mut world = World::new();
    let client = world.open(Service::Cfg);
    let number = ask(&mut world, &client);
    assert!(goes_round(&mut world, 2, number));
    world.services.reloaded(Some(Vec::new()));
    assert!(answers(&client).is_empty(), "its own request is still under way");
}

#[test]
fn a_reload_reads_the_file_as_it_is_after_the_last_request() {
    let mut world = World::new();
    let [first, second, third] = [0; 3].map(|_| world.open(Service::Cfg));
    let numbers = [&first, &second, &third].map(|client| ask(&mut world, client));
    assert!(goes_round(&mut world, 1, numbers[0]));
    assert!(!goes_round(&mut world, 1, numbers[1]), "one at a time");
    assert!(!goes_round(&mut world, 1, numbers[2]));
    world.services.reloaded(Some(Vec::new()));
    assert!(matches!(world.services.take_effects()[..], [Effect::Reload]), "the file may have changed");
    assert_eq!((answers(&first).len(), answers(&second).len()), (1, 0));
    world.services.reloaded(None);
    assert_eq!((answers(&second), answers(&third)), (vec![(14, 7)], vec![(14, 7)]));
    assert!(world.services.take_effects().is_empty());
}

#[test]
fn a_client_asks_again_only_after_its_answer() {
    let mut world = World::new();
    let client = world.open(Service::Cfg);
    let number = ask(&mut world, &client);
    let again = || request(7, 16, |message| message);
    assert_eq!(code(&world.ask(&client, again())), 6);
    goes_round(&mut world, 1, number);
    assert_eq!(code(&world.ask(&client, again())), 6);
    world.services.reloaded(Some(Vec::new()));
    ask(&mut world, &client);
}

#[test]
fn nothing_is_kept_for_a_client_that_closes_before_its_answer() {
    let mut world = World::new();
    let before = world.services.kept();
    let [first, second] = [0; 2].map(|_| world.open(Service::Cfg));
    let number = ask(&mut world, &first);
    ask(&mut world, &second);
    goes_round(&mut world, 1, number);
    for client in [first, second] {
        world.services.close(client.id);
    }
    assert_eq!(world.services.kept(), before);
    world.services.reloaded(Some(Vec::new()));
    assert!(world.services.take_effects().is_empty());
}

#[test]
fn a_node_that_a_reload_adds_has_an_address() {
    let mut world = World::new();
    let client = world.open(Service::Cfg);
    let status = || request(9, 32, |message| message.u32(16, 3).u32(24, 1));
    assert_eq!(code(&world.ask(&client, status())), 21);
    let file = [
        ("nodelist.node.2.nodeid", Value::u32(3)),
        ("nodelist.node.2.ring0_addr", Value::text("10.0.0.3")),
        ("nodelist.node.3.nodeid", Value::u32(4)),
        ("nodelist.node.3.ring0_addr", Value::text("a-name")),
    ];
    world.services.reloaded(Some(keys(&file)));
    assert_eq!(code(&world.ask(&client, status())), 1);
}

#[test]
fn a_reload_tells_trackers_the_changes_and_when_it_ends() {
    let mut world = World::new();
    let file = [
        ("nodelist.node.0.name", Value::text("n1")),
        ("nodelist.node.1.name", Value::text("n2")),
        ("totem.token", Value::u32(1000)),
    ];
    world.services.reloaded(Some(keys(&file)));
    let client = world.open(Service::Cmap);
    let all = 8 | 4 | 2 | 1;
    for (key, types) in [("nodelist.", all), (IN_PROGRESS, 4 | 2), ("runtime.", all), ("totem.", all)] {
        world.ask(&client, track(key, types));
    }
    let file = [
        ("nodelist.node.0.name", Value::text("first")),
        ("nodelist.node.2.name", Value::text("n3")),
        ("totem.token", Value::u32(1000)),
        ("runtime.config.totem.token", Value::u32(2000)),
        ("totem.transport", Value::text("udpu")),
        ("system.qb_ipc_type", Value::text("socket")),
    ];
    world.services.reloaded(Some(keys(&file)));
    let events: Vec<_> = client.events().iter().map(told).collect();
    let expect = [
        (IN_PROGRESS, 2),
        ("nodelist.node.1.name", 1),
        ("nodelist.node.0.name", 2),
        ("nodelist.node.2.name", 4),
        (IN_PROGRESS, 2),
    ];
    assert_eq!(events, expect.map(|(key, kind)| (key.to_owned(), kind)), "what is in force has not changed");
    assert!(!world.services.wants_sockets(), "the transport is that of the start");
    world.services.reloaded(None);
    assert!(client.events().is_empty(), "a configuration that cannot be used changes nothing");
}

#[test]
fn the_first_reload_adds_the_key_that_says_so() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    world.ask(&client, track(IN_PROGRESS, 4 | 2));
    world.services.reloaded(Some(Vec::new()));
    let events: Vec<_> = client.events().iter().map(|event| told(event).1).collect();
    assert_eq!(events, [4, 2]);
}

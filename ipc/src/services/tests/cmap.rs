//! Tests of the map.

use super::*;

#[test]
fn a_value_is_read_in_two_steps() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    let get = |room: u64| request(2, 288, |message| message.key(16, "logging.debug").u64(280, room));
    let length = world.ask(&client, get(0));
    assert_eq!((length.len(), field(&length, 24), length[32]), (40, 4, 11));
    let value = world.ask(&client, get(4));
    assert_eq!((value.len(), &value[40..]), (44, &b"off\0"[..]));
    assert_eq!(code(&world.ask(&client, get(3))), 7);
    let number = request(2, 288, |message| message.key(16, "totem.token").u64(280, 16));
    let number = world.ask(&client, number);
    assert_eq!((number.len(), field(&number, 24), number[32], field(&number, 40)), (56, 4, 6, 1000));
    assert_eq!(code(&world.ask(&client, key(2, 288, "no.such.key"))), 12);
}

#[test]
fn a_text_is_stored_with_a_nul() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    for sent in [&b"hello"[..], b"hello\0", b"hello\0rest"] {
        let set = request(0, 296 + sent.len(), |message| {
            message.key(16, "test.text").u64(280, sent.len() as u64).u8(288, 11).bytes(296, sent)
        });
        assert_eq!(code(&world.ask(&client, set)), 1);
        let get = request(2, 288, |message| message.key(16, "test.text").u64(280, 6));
        assert_eq!(&world.ask(&client, get)[40..], b"hello\0");
    }
}

#[test]
fn a_read_only_key_cannot_be_changed() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    for name in
        ["runtime.config.totem.token", "totem.cluster_name", "nodelist.node.0.nodeid", "quorum.wait_for_all"]
    {
        let set = request(0, 297, |message| message.key(16, name).u64(280, 1).u8(288, 2));
        assert_eq!(code(&world.ask(&client, set)), 11, "{name}");
        assert_eq!(code(&world.ask(&client, key(1, 280, name))), 11, "{name}");
    }
}

#[test]
fn a_tracker_is_told_what_it_asked_for() {
    let mut world = World::new();
    let [tracker, other] = [0; 2].map(|_| world.open(Service::Cmap));
    let track = request(7, 296, |message| message.key(16, "test.").u32(280, 2 | 4 | 8).u64(288, 99));
    let handle = world.ask(&tracker, track);
    let set = |value: u8| {
        request(0, 297, |message| message.key(16, "test.a").u64(280, 1).u8(288, 2).u8(296, value))
    };
    world.ask(&other, set(7));
    world.ask(&other, set(7));
    world.ask(&other, set(8));
    world.ask(&other, key(1, 280, "test.a"));
    let told = tracker.events();
    assert_eq!(told.iter().map(|event| field(event, 296)).collect::<Vec<_>>(), [4, 2], "added, modified");
    let modified = &told[1];
    assert_eq!((modified.len(), field(modified, 24)), (338, 99));
    assert_eq!((modified[336], modified[337]), (8, 7), "the new value, then the old one");
    let untrack = request(8, 24, |message| message.u32(16, field(&handle, 24)));
    assert_eq!(field(&world.ask(&tracker, untrack), 24), 99);
}

#[test]
fn a_map_cannot_be_switched_during_an_iteration() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    let handle = field(&world.ask(&client, key(4, 280, "totem.")), 24);
    let next = || request(5, 24, |message| message.u32(16, handle));
    let choose = || request(9, 24, |message| message.u32(16, 1));
    assert_eq!(code(&world.ask(&client, choose())), 10);
    let mut names = Vec::new();
    loop {
        let entry = world.ask(&client, next());
        if code(&entry) == 27 {
            break;
        }
        names.push(String::from_utf8(entry[32..32 + usize::from(entry[24])].to_vec()).unwrap());
    }
    assert!(names.is_sorted() && names.contains(&"totem.version".to_owned()), "{names:?}");
    world.ask(&client, request(6, 24, |message| message.u32(16, handle)));
    assert_eq!(code(&world.ask(&client, choose())), 1);
    let Step::Do(Order::ReadStats(asked)) = world.services.request(client.id, key(4, 280, "stats.srp"))
    else {
        panic!("the counters are read first");
    };
    let answer = world.services.done(client.id, Done::Stats(Box::default(), asked)).unwrap();
    assert_eq!(code(&answer), 1);
}

//! Stories that several tests tell.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_membership::wire::{self, Message, Order, Token};
use quorate_membership::{Guarantee, Seq};

use super::{Fate, Lab, ms, node};

/// F7, seed 14633 of the fault laboratory: on the way from node 1 to node 2 a bit of the token's count of frames is
/// flipped, and nothing on the way notices. Nobody may send in a window that full, and who does not send cannot empty it.
pub fn a_bit_of_the_window_is_flipped() {
    let mut lab = Lab::ring(3);
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| match message {
        Message::Token(token) if (from, to) == (node(1), node(2)) && catch.borrow().is_none() => {
            *catch.borrow_mut() = Some(token.clone());
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.until("the token is on its way to node 2", |_| caught.borrow().is_some());
    let mut token = caught.borrow().clone().unwrap();
    assert!(token.seq != Seq::new(0), "the ring turns");
    token.fcc ^= 1 << 20;
    lab.deliver_raw(2, Some(1), &wire::encode(&Message::Token(token), Order::Little));
    let ring = lab.regular(1).ring;
    for id in 1..=3 {
        lab.send(id, Guarantee::Safe, &format!("of {id}"));
    }
    lab.until("T6: all is delivered", |lab| (1..=3).all(|id| lab.texts(id).len() == 3));
    assert_eq!(lab.regular(1).ring, ring, "L2: a bit costs the ring");
    lab.check();
}

/// F7, seed 40343 of the fault laboratory: while a ring recovers, the flag that somebody has something left is flipped on the way
/// from node 1 to node 2. Nobody has raised it, so nobody would lower it.
pub fn a_flag_is_flipped() {
    let mut lab = Lab::ring(2);
    let before = lab.regular(1).ring;
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| match message {
        Message::Token(token)
            if (from, to) == (node(1), node(2)) && token.ring != before && catch.borrow().is_none() =>
        {
            *catch.borrow_mut() = Some(token.clone());
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.start(3);
    lab.until("the new ring's first token is on its way to node 2", |_| caught.borrow().is_some());
    let mut token = caught.borrow().clone().unwrap();
    let ring = token.ring;
    assert!(!token.retrans_flg, "nobody has anything left");
    token.retrans_flg = true;
    lab.deliver_raw(2, Some(1), &wire::encode(&Message::Token(token), Order::Little));
    lab.until("L1: a ring of all", |lab| (1..=3).all(|id| lab.totem_of(id).ring() == Some(ring)));
    lab.check();
}

/// One word is no evidence, nor are two that are far apart.
pub fn a_host_is_asked_again_before_it_is_believed() {
    let mut lab = Lab::with_evidence(3);
    let ring = lab.regular(1).ring;
    for _ in 0..2 {
        lab.refuse(node(1), node(3));
        lab.run(ms(1000));
    }
    assert_eq!(lab.regular(1).ring, ring, "L2: a lie costs the ring");
    let stats = lab.totem_of(1).stats();
    assert_eq!((stats.hints, stats.accusations), (2, 0), "L2: what was heard");
}

/// Two members that can take more, and a third that may be anybody.
pub fn one_member_says_nothing_of_its_window() {
    let mut lab = Lab::new(4);
    lab.config.largest_window = 400;
    for id in 1..=2 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2]);
    lab.until("T6: the windows are agreed on", |lab| lab.windows(&[1, 2]) == [400; 2]);
    lab.config.largest_window = 0;
    lab.start(3);
    lab.until_ring(&[1, 2, 3]);
    lab.run(ms(100));
    assert_eq!(lab.windows(&[1, 2, 3]), [50; 3], "T6: not all can take more");
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    lab.until("T6: the windows are agreed on again", |lab| lab.windows(&[1, 2]) == [400; 2]);
    lab.check();
}

/// A token that is on its way from node 2 to node 3 comes to node 1, too, which does not get its token from node 2.
pub fn a_token_goes_astray() {
    let mut lab = Lab::ring(3);
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| {
        if let Message::Token(token) = message
            && (from, to) == (node(2), node(3))
        {
            *catch.borrow_mut() = Some(token.clone());
        }
        Fate::Deliver
    });
    lab.until("a token is on its way to node 3", |_| caught.borrow().is_some());
    let token = caught.borrow().clone().unwrap();
    let before = lab.totem_of(1).stats().tokens;
    lab.deliver_raw(1, Some(2), &wire::encode(&Message::Token(token), Order::Little));
    assert_eq!(lab.totem_of(1).stats().tokens, before, "T1: node 1 takes a token that was for another");
}

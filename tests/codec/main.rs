//! The codec against `tungstenite`, which knows nothing of it: for any sequence of frames, valid or not and however
//! it arrives, both hand out the same messages and refuse the same bytes.

mod agreement;

use std::{cell::RefCell, collections::BTreeMap, iter};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use tungstenite::{
    Message,
    protocol::{
        Role,
        frame::{
            Frame, FrameHeader,
            coding::{Control, Data, OpCode},
        },
    },
};
use video_notifier::codec::{Opcode, encode, encode_close};

use agreement::{Difference, End, assert_agree, close_message, oracle, read};

/// Room for all that is sent where the limit is not what is tested.
const MAX: usize = 1 << 20;

/// What a client sends that keeps to the protocol.
#[derive(Debug, Clone)]
struct Session {
    messages: Vec<Sent>,
    close: Option<Message>,
    key: u32,
}

/// One message: cut into fragments at these places, with a control frame after each but the last.
#[derive(Debug, Clone)]
struct Sent {
    message: Message,
    cuts: Vec<Index>,
    between: Vec<Message>,
}

impl Session {
    /// The bytes, what a server hands out, and the number of fragments that are not the last of their message.
    fn encode(&self) -> (Vec<u8>, Vec<Message>, usize) {
        let (mut bytes, mut expected, mut fragments) = (Vec::new(), Vec::new(), 0);
        let mut key = self.key;
        let mut frame = |opcode, is_final, payload: &[u8]| {
            // Another one for each frame, as a client's have to be.
            key = key.rotate_left(5).wrapping_add(0x9E37_79B9);
            let header = FrameHeader { is_final, opcode, mask: Some(key.to_ne_bytes()), ..FrameHeader::default() };
            Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).expect("memory can be written");
        };
        for Sent { message, cuts, between } in &self.messages {
            let payload = message.clone().into_data();
            let mut code = opcode(message);
            let mut start = 0;
            if matches!(code, OpCode::Data(_)) {
                let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
                ends.sort_unstable();
                for (index, end) in ends.into_iter().enumerate() {
                    frame(code, false, &payload[start..end]);
                    (code, start) = (OpCode::Data(Data::Continue), end);
                    fragments += 1;
                    if let Some(control) = between.get(index) {
                        frame(opcode(control), true, &control.clone().into_data());
                        expected.push(control.clone());
                    }
                }
            }
            frame(code, true, &payload[start..]);
            expected.push(message.clone());
        }
        if let Some(close) = &self.close {
            frame(opcode(close), true, &close_payload(close));
            expected.push(close.clone());
        }
        (bytes, expected, fragments)
    }
}

fn opcode(message: &Message) -> OpCode {
    match message {
        Message::Text(_) => OpCode::Data(Data::Text),
        Message::Binary(_) => OpCode::Data(Data::Binary),
        Message::Ping(_) => OpCode::Control(Control::Ping),
        Message::Pong(_) => OpCode::Control(Control::Pong),
        Message::Close(_) => OpCode::Control(Control::Close),
        Message::Frame(_) => unreachable!("none is made here"),
    }
}

fn close_payload(message: &Message) -> Vec<u8> {
    let Message::Close(Some(close)) = message else { return Vec::new() };
    let mut frame = Vec::new();
    encode_close(Some((close.code.into(), &close.reason)), &mut frame);
    frame.split_off(2)
}

fn control() -> impl Strategy<Value = Message> {
    (any::<bool>(), vec(any::<u8>(), 0..=125)).prop_map(|(is_ping, payload)| {
        if is_ping { Message::Ping(payload.into()) } else { Message::Pong(payload.into()) }
    })
}

fn data() -> impl Strategy<Value = Message> {
    // On both sides of where the form of a length changes.
    let long = select(vec![125, 126, 127, 65535, 65536, 70_000]);
    prop_oneof![
        4 => ".{0,100}".prop_map(Message::text),
        2 => vec(any::<u8>(), 0..300).prop_map(Message::binary),
        1 => (any::<u8>(), long.clone()).prop_map(|(byte, length)| Message::binary(vec![byte; length])),
        1 => long.prop_map(|length| Message::text("x".repeat(length))),
    ]
}

fn close() -> impl Strategy<Value = Message> {
    let code = prop_oneof![1000_u16..=1003, 1007_u16..=1013, 3000_u16..=4999];
    let reason = ".{0,100}".prop_filter("a reason has 123 bytes at most", |reason| reason.len() <= 123);
    proptest::option::of((code, reason))
        .prop_map(|close| close_message(close.as_ref().map(|(code, reason)| (*code, &**reason))))
}

fn session() -> impl Strategy<Value = Session> {
    let sent = (prop_oneof![3 => data(), 1 => control()], vec(any::<Index>(), 0..4), vec(control(), 0..3))
        .prop_map(|(message, cuts, between)| Sent { message, cuts, between });
    (vec(sent, 0..6), proptest::option::of(close()), any::<u32>()).prop_map(|(messages, close, key)| Session {
        messages,
        close,
        key,
    })
}

/// On both sides of where a code becomes good or bad.
const CLOSE_CODES: &[u16] = &[0, 999, 1000, 1003, 1004, 1006, 1007, 1013, 1014, 1015, 2999, 3000, 4999, 5000];

/// A frame that may be wrong in any way.
fn loose_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => vec(any::<u8>(), 0..8),
        2 => vec(select("aκόσμε\u{10FFFF}".as_bytes().to_vec()), 0..8),
        2 => ".{0,4}".prop_map(String::into_bytes),
        1 => (120_usize..140).prop_map(|length| vec![b'x'; length]),
    ];
    let reason = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..3)];
    let close = (select(CLOSE_CODES), reason).prop_map(|(code, reason)| [&code.to_be_bytes()[..], &reason].concat());
    let content = prop_oneof![5 => (first, payload), 1 => (Just(0x88), close)];
    let is_masked = prop_oneof![12 => Just(true), 1 => Just(false)];
    // The form of the length; none for the one that fits.
    let form = prop_oneof![12 => Just(None), 1 => select(vec![Some(126), Some(127)])];
    (content, is_masked, form, any::<[u8; 4]>()).prop_map(|((first, payload), is_masked, form, key)| {
        let form: u8 = form.unwrap_or(if payload.len() < 126 { payload.len() as u8 } else { 126 });
        let length = match form {
            126 => (payload.len() as u16).to_be_bytes().to_vec(),
            127 => payload.len().to_be_bytes().to_vec(),
            _ => Vec::new(),
        };
        if !is_masked {
            return [&[first, form][..], &length, &payload].concat();
        }
        let masked: Vec<u8> = iter::zip(&payload, key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        [&[first, form | 0x80][..], &length, &key, &masked].concat()
    })
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip(u8),
    Insert(u8),
    Remove,
    Truncate,
}

fn mutation() -> impl Strategy<Value = (Index, Mutation)> {
    let mutation = prop_oneof![
        6 => (0_u8..8).prop_map(|bit| Mutation::Flip(1 << bit)),
        1 => any::<u8>().prop_map(Mutation::Insert),
        1 => Just(Mutation::Remove),
        1 => Just(Mutation::Truncate),
    ];
    (any::<Index>(), mutation)
}

/// What clients may send that is worth trying, in hex, a case a line; what once failed is added there.
const CORPUS: &str = include_str!("corpus.txt");

fn from_corpus() -> impl Strategy<Value = Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    let lines: Vec<Vec<u8>> = CORPUS.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect();
    vec(select(lines), 1..4).prop_map(|cases| cases.concat())
}

/// With a few mutations, or none.
fn mutated(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (bytes, vec(mutation(), 0..4)).prop_map(|(mut bytes, mutations)| {
        for (index, mutation) in mutations {
            if bytes.is_empty() {
                break;
            }
            let index = index.index(bytes.len());
            match mutation {
                Mutation::Flip(bit) => bytes[index] ^= bit,
                Mutation::Insert(byte) => bytes.insert(index, byte),
                Mutation::Remove => drop(bytes.remove(index)),
                Mutation::Truncate => bytes.truncate(index),
            }
        }
        bytes
    })
}

/// In pieces of what sizes the bytes arrive.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1_usize..4, 1..4), vec(1_usize..40, 1..6), vec(1_usize..50_000, 1..4)]
}

/// `PROPTEST_CASES=1000000` runs more. What fails is printed, shrunk; it becomes a line of the corpus.
fn config(cases: u32) -> Config {
    let default = Config::default();
    Config { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn what_is_valid_is_handed_out_whole_and_in_order(session in session(), pieces in pieces()) {
        let (bytes, expected, fragments) = session.encode();
        let end = if session.close.is_some() { End::Closed } else { End::Open };
        prop_assert_eq!(read(&bytes, &pieces, MAX), ((expected.clone(), end), fragments));
        prop_assert_eq!(oracle(&bytes, Role::Server, MAX), (expected, end));
    }

    #[test]
    fn what_is_written_is_read_by_a_client(messages in vec(prop_oneof![data(), control()], 0..6), close in close()) {
        let mut bytes = Vec::new();
        for message in &messages {
            let opcode = match opcode(message) {
                OpCode::Data(Data::Text) => Opcode::Text,
                OpCode::Data(_) => Opcode::Binary,
                OpCode::Control(Control::Ping) => Opcode::Ping,
                OpCode::Control(_) => Opcode::Pong,
            };
            encode(opcode, &message.clone().into_data(), &mut bytes);
        }
        encode(Opcode::Close, &close_payload(&close), &mut bytes);
        let (read, end) = oracle(&bytes, Role::Client, MAX);
        prop_assert_eq!(read, [messages, vec![close]].concat());
        prop_assert!(matches!(end, End::Open | End::Closed), "{:?}", end);
    }
}

#[test]
fn what_is_refused_and_what_is_not_is_the_same() {
    let bytes = prop_oneof![
        1 => mutated(session().prop_map(|session| session.encode().0)),
        1 => mutated(from_corpus()),
        1 => vec(any::<u8>(), 0..200),
        2 => vec(loose_frame(), 0..10).prop_map(|frames| frames.concat()),
    ];
    let max_message = prop_oneof![0_usize..150, Just(MAX)];
    let met = RefCell::new(BTreeMap::new());
    let outcome = TestRunner::new(config(4000)).run(&(bytes, pieces(), max_message), |(bytes, pieces, max_message)| {
        let ((_, end), difference) = assert_agree(&bytes, &pieces, max_message);
        let mut met = met.borrow_mut();
        *met.entry((Some(end), None)).or_insert(0) += 1;
        *met.entry((None, difference)).or_insert(0) += 1;
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let met = met.into_inner();
    println!("{met:?}");
    // A net with holes: were one of these never met, the cases would prove nothing about it.
    use {Difference::*, End::*};
    let ends = [Open, Closed, Protocol, InvalidText, TooBig].map(|end| (Some(end), None));
    let differences = [LongForm, Code1014, Early, TwoFaults].map(|difference| (None, Some(difference)));
    for each in ends.into_iter().chain(differences) {
        assert!(met.contains_key(&each), "never met: {each:?}");
    }
}

//! P8: bytes of somebody else's choosing, into everything that reads bytes or is told what they say. The checks are those of the
//! fuzz targets (scripts/fuzz); here chance invents their input, on any compiler and in seconds.

// Public where the fuzz targets use them.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/checks/mod.rs"]
mod checks;

use std::ops::Range;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

/// Longest input, but for the seeds that are longer themselves.
const LONGEST: usize = 600;

/// What somebody does to bytes that were good.
#[derive(Debug, Clone)]
enum Change {
    Put(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    /// A part of it again, elsewhere.
    Copy(Index, usize, Index),
    /// From here on as another one goes on from there.
    Splice(Index, Index, Index),
    Cut(Index),
    /// A word in quotes, in the place of another one.
    Word(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    // Signs of the formats, ends of ranges, and anything.
    let byte =
        prop_oneof![prop::sample::select(&b"\"{}[]:,.*> 019-_\0\xff\x80\x7f"[..]), any::<u8>()];
    prop_oneof![
        (at(), byte).prop_map(|(at, byte)| Change::Put(at, byte)),
        (at(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1_usize..20).prop_map(|(at, count)| Change::Delete(at, count)),
        (at(), 1_usize..60, at()).prop_map(|(from, count, to)| Change::Copy(from, count, to)),
        (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
        at().prop_map(Change::Cut),
        (at(), at()).prop_map(|(at, from)| Change::Word(at, from)),
    ]
}

fn changed(mut bytes: Vec<u8>, change: &Change, seeds: &[Vec<u8>]) -> Vec<u8> {
    // A place in the bytes, their end included.
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match change {
        Change::Put(..) | Change::Flip(..) if bytes.is_empty() => {}
        Change::Put(at, byte) => *at.get_mut(&mut bytes) = *byte,
        Change::Flip(at, bit) => *at.get_mut(&mut bytes) ^= 1 << bit,
        Change::Insert(at, more) => {
            let at = place(at, &bytes);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Delete(at, count) => {
            let at = place(at, &bytes);
            bytes.drain(at..bytes.len().min(at + count));
        }
        Change::Copy(from, count, to) => {
            let from = place(from, &bytes);
            let part = bytes[from..bytes.len().min(from + count)].to_vec();
            let to = place(to, &bytes);
            bytes.splice(to..to, part);
        }
        Change::Splice(at, other, from) => {
            let other = other.get(seeds);
            bytes.truncate(place(at, &bytes));
            bytes.extend_from_slice(&other[place(from, other)..]);
        }
        Change::Cut(at) => bytes.truncate(place(at, &bytes)),
        Change::Word(at, from) => {
            let words = words(&bytes);
            if !words.is_empty() {
                let other = bytes[from.get(&words).clone()].to_vec();
                bytes.splice(at.get(&words).clone(), other);
            }
        }
    }
    bytes
}

/// Where words in quotes are, without them. Those of a header, or what stands between two of them.
fn words(bytes: &[u8]) -> Vec<Range<usize>> {
    let quotes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
    let quotes: Vec<usize> = quotes.collect();
    quotes.windows(2).map(|pair| pair[0] + 1..pair[1]).collect()
}

/// What the fuzzer begins with: a good one of each kind.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).expect("each target has seeds");
    let mut paths: Vec<_> = files.map(|file| file.expect("a folder can be read").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed can be read")).collect()
}

/// Any bytes, or a good input with some changes.
fn input(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds = seeds(target);
    let mutated = (any::<Index>(), vec(change(), 0..12)).prop_map(move |(seed, changes)| {
        let seed = seed.get(&seeds).clone();
        changes.iter().fold(seed, |bytes, change| changed(bytes, change, &seeds))
    });
    prop_oneof![1 => vec(any::<u8>(), 0..LONGEST), 3 => mutated]
}

/// Gives the check so many inputs. It panics where a promise is broken, and the input is then made as small as it gets.
fn survives(target: &str, cases: u32, check: fn(&[u8])) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result = proptest::test_runner::TestRunner::new(config).run(&input(target), |input| {
        check(&input);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{target}: {error}");
    }
}

#[test]
fn p8_no_bytes_are_a_frame_that_is_out_of_bounds_or_reads_back_otherwise() {
    survives("frames", 6_000, checks::frames::check);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Few ids and short bodies, so that they are in and out of order, equal, too long and too short.
    #[test]
    fn p8_messages_of_a_frame_come_in_order_and_with_bodies_that_are_there(
        previous in proptest::option::of(0_u8..4),
        messages in vec((0_u8..6, 0_usize..4, any::<bool>()), 0..4),
        bodies in vec(any::<u8>(), 0..8),
    ) {
        let id = |n: u8| waypost::MessageId::from_u128(n.into()).to_string();
        let message = |&(n, bytes, compressed): &(u8, usize, bool)| {
            json!({"id": id(n), "kind": "k", "at": 0, "len": bytes, "z": compressed})
        };
        let header = json!({
            "t": "msg", "from": "a", "to": "b", "store": id(7), "ch": "c", "try": 1, "wait": 1,
            "prev": previous.map(id), "messages": messages.iter().map(message).collect::<Vec<_>>(),
        });
        checks::frames::check(&[header.to_string().as_bytes(), &[0], &bodies].concat());
    }

    #[test]
    fn p8_a_body_is_within_the_limit_however_well_it_was_packed(bytes in 0_usize..20_000) {
        let packed = snap::raw::Encoder::new().compress_vec(&vec![0; bytes]).expect("it is short");
        let id = waypost::MessageId::from_u128(7).to_string();
        let header = json!({
            "t": "msg", "from": "a", "to": "b", "store": id, "ch": "c", "try": 1, "wait": 1,
            "messages": [{"id": id, "kind": "k", "at": 0, "len": packed.len(), "z": true}],
        });
        checks::frames::check(&[header.to_string().as_bytes(), &[0], &packed].concat());
    }
}

#[test]
fn p8_no_name_stands_where_it_could_be_taken_for_something_else() {
    survives("names", 4_000, checks::names::check);
}

#[test]
fn p8_no_keepalives_make_a_peer_of_who_has_proved_nothing() {
    survives("keepalives", 1_500, checks::keepalives::check);
}

#[test]
fn p8_a_crowd_of_invented_nodes_has_a_bounded_table() {
    survives("keepalives", 24, checks::keepalives::check_in_a_crowd);
}

#[test]
fn settings_can_be_worked_with_or_are_refused_by_name_and_tell_no_secret() {
    survives("config", 1_500, checks::config::check);
}

#[test]
fn p8_no_answers_settle_what_its_receiver_has_not_and_all_is_settled_in_the_end() {
    survives("delivery", 1_500, checks::delivery::check);
}

#[test]
fn p8_no_frames_are_handled_twice_out_of_order_or_without_bound() {
    survives("inbox", 1_500, checks::inbox::check);
}

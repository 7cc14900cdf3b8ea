//! The codec's promises, on generated connections: it agrees with the oracle and `httparse`, however its bytes are cut,
//! and what is passed on is what was meant.
//!
//! Cases come from a fixed seed, so that a run is the same everywhere; `PLIMSOLL_SEED` gives another, `PROPTEST_CASES`
//! more of them. The fuzz targets look for the same disagreements without an end.

mod oracle;
mod reading;

use oracle::{Asked, Rules, Verdict};
use plimsoll_http::framing::Framing;
use plimsoll_http::{Body, Head, Kind, Reason};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reading::agreement::{requests_agree, response_agrees, splits_agree};
use reading::emission::{request_survives, response_survives};
use reading::grammar::{self, Choices};
use reading::{End, LIMITS, requests, response};

fn seeded(cases: u32) -> ProptestConfig {
    let seed = std::env::var("PLIMSOLL_SEED").ok().and_then(|text| text.parse().ok());
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if set { default.cases } else { cases },
        rng_seed: RngSeed::Fixed(seed.unwrap_or(7)),
        failure_persistence: None,
        ..default
    }
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..160)
}

fn asked(kind: u8) -> Asked<'static> {
    Asked { method: if kind.is_multiple_of(4) { b"HEAD" } else { b"GET" }, upgrade: kind.is_multiple_of(3) }
}

proptest! {
    #![proptest_config(seeded(40_000))]

    #[test]
    fn requests_mean_the_same_to_codec_oracle_and_httparse(choices in choices()) {
        requests_agree(&grammar::requests(&mut Choices::new(&choices)));
    }

    #[test]
    fn responses_mean_the_same_to_codec_oracle_and_httparse(choices in choices(), kind: u8, eof: bool) {
        response_agrees(&grammar::response(&mut Choices::new(&choices)), asked(kind), eof);
    }

    #[test]
    fn what_is_passed_on_is_one_message_and_the_one_that_was_meant(choices in choices(), kind: u8, step in 1..300usize) {
        let bytes = grammar::requests(&mut Choices::new(&choices));
        let mut at = 0;
        for message in requests(&bytes, &[]).messages {
            request_survives(&bytes[at..], &message, step);
            at += message.consumed;
        }
        let bytes = grammar::response(&mut Choices::new(&choices));
        for message in response(&bytes, &[], asked(kind), true).messages {
            response_survives(&bytes, &message, asked(kind), step);
        }
    }
}

proptest! {
    #![proptest_config(seeded(10_000))]

    #[test]
    fn no_cut_changes_the_meaning_of_requests(choices in choices(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..6)) {
        let bytes = grammar::requests(&mut Choices::new(&choices));
        let whole = requests(&bytes, &[]);
        for cuts in ways_to_cut(bytes.len(), &cuts) {
            splits_agree(&whole, &requests(&bytes, &cuts), &cuts);
        }
    }

    #[test]
    fn no_cut_changes_the_meaning_of_responses(
        choices in choices(),
        kind: u8,
        eof: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
    ) {
        let bytes = grammar::response(&mut Choices::new(&choices));
        let whole = response(&bytes, &[], asked(kind), eof);
        for cuts in ways_to_cut(bytes.len(), &cuts) {
            splits_agree(&whole, &response(&bytes, &cuts, asked(kind), eof), &cuts);
        }
    }
}

/// Bytes one by one, in two pieces cut anywhere (both only if that is short work), and the given places together.
fn ways_to_cut(len: usize, places: &[prop::sample::Index]) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(len + 1)).collect();
    places.sort_unstable();
    let mut ways = vec![places];
    if len <= 300 {
        ways.extend((1..len).map(|at| vec![at]));
    }
    if len <= 2_000 {
        ways.push((1..len).collect());
    }
    ways
}

proptest! {
    #![proptest_config(seeded(30_000))]

    #[test]
    fn arbitrary_bytes_never_panic_and_mean_the_same_to_all(bytes in prop::collection::vec(any::<u8>(), 0..200), kind: u8, eof: bool) {
        requests_agree(&bytes);
        response_agrees(&bytes, asked(kind), eof);
        let behind_a_head = [&b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &bytes].concat();
        requests_agree(&behind_a_head);
    }
}

// ---- the grammar that makes the cases is itself worth a look ----

#[test]
fn the_generator_makes_valid_and_invalid_messages_of_every_kind() {
    let mut runner = proptest::test_runner::TestRunner::new(seeded(3_000));
    let counts = std::cell::RefCell::new([0u32; 6]);
    runner
        .run(&choices(), |choices| {
            let bytes = grammar::requests(&mut Choices::new(&choices));
            let read = requests(&bytes, &[]);
            let mut counts = counts.borrow_mut();
            counts[0] += u32::from(!read.messages.is_empty());
            counts[1] += u32::from(read.is_refused());
            counts[2] += u32::from(read.messages.len() > 1);
            counts[3] += u32::from(
                read.messages.iter().any(|m| m.fields.has("transfer-encoding") && !m.body.is_empty()),
            );
            counts[4] += u32::from(matches!(read.end, End::Waiting(_)) && read.messages.is_empty());
            let answer = response(&grammar::response(&mut Choices::new(&choices)), &[], asked(1), true);
            counts[5] += u32::from(!answer.messages.is_empty());
            Ok(())
        })
        .expect("nothing in it can fail");
    let counts = counts.into_inner();
    assert!(counts.iter().all(|&n| n > 60), "of 3,000 cases too few of a kind: {counts:?}");
    assert!(counts[0] > 1_000 && counts[1] > 600 && counts[5] > 1_000, "{counts:?}");
}

// ---- limits, exactly ----

/// A message with a part of exactly that size: taken or not? The same in one piece and cut anywhere near its end.
fn is_taken(bytes: &[u8], size: usize) -> bool {
    let taken = !requests(bytes, &[]).messages.is_empty();
    for cut in bytes.len().saturating_sub(6)..bytes.len() {
        let split = !requests(bytes, &[cut]).messages.is_empty();
        assert_eq!(split, taken, "{size}: cut {} before the end", bytes.len() - cut);
    }
    let oracle = matches!(oracle::request(bytes, &Rules::default()), Verdict::Message(_));
    assert_eq!(oracle, taken, "{size}: the oracle is left");
    taken
}

/// Takes `limit` and not one more.
fn holds_at(limit: usize, message: impl Fn(usize) -> String) {
    assert!(is_taken(message(limit).as_bytes(), limit), "{limit} is allowed");
    assert!(!is_taken(message(limit + 1).as_bytes(), limit + 1), "{limit} is the most");
}

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn the_target_limit_is_exact() {
    holds_at(LIMITS.target, |n| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1)));
}

#[test]
fn the_field_count_limit_is_exact() {
    holds_at(LIMITS.fields, |n| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(n - 1)));
}

#[test]
fn the_header_size_limit_is_exact() {
    holds_at(LIMITS.section, |n| {
        let rest = n - "Host: a\r\nA: \r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(rest))
    });
}

#[test]
fn the_chunk_extension_limits_are_exact() {
    holds_at(256, |n| chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n - 1))));
    holds_at(16 * 1024, |n| {
        let full = format!("1;{}\r\na\r\n", "x".repeat(255)).repeat(63);
        let rest = n - 63 * 256;
        let (one, two) = (rest / 2, rest - rest / 2);
        chunked(&format!("{full}1;{}\r\na\r\n0;{}\r\n\r\n", "x".repeat(one - 1), "x".repeat(two - 1)))
    });
}

#[test]
fn the_trailer_count_limit_is_exact() {
    holds_at(16, |n| chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(n))));
}

#[test]
fn the_trailer_size_limit_is_exact() {
    holds_at(8 * 1024, |n| chunked(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(n - 5))));
}

#[test]
fn the_status_line_limit_is_exact() {
    let parse = |phrase: usize| {
        let text = format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(phrase));
        let results = [text.len(), text.len() - 2, text.len() - 3, text.len() - 4].map(|cut| {
            let mut head = Head::new(Kind::Response);
            head.parse(&text.as_bytes()[..cut], &LIMITS).and_then(|_| head.parse(text.as_bytes(), &LIMITS))
        });
        assert!(results.iter().all(|r| *r == results[0]), "{results:?}");
        results[0]
    };
    let line = "HTTP/1.1 200 ".len();
    assert_eq!(parse(1024 - line), Ok(true));
    assert_eq!(parse(1025 - line), Err(Reason::StatusLine));
}

#[test]
fn sixteen_interim_responses_are_let_through_and_no_more() {
    let answer = |n: usize| "HTTP/1.1 103 \r\n\r\n".repeat(n) + "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n";
    for (n, is_taken) in [(16, true), (17, false)] {
        let read = response_agrees(answer(n).as_bytes(), asked(1), false);
        assert_eq!(!read.messages.is_empty(), is_taken, "{n}");
    }
}

#[test]
fn a_length_takes_no_byte_beyond_it_whatever_the_piece() {
    for length in 1..40u64 {
        for step in 1..45 {
            let (mut body, mut data, mut used) = (Body::new(Framing::Length(length)), 0, 0);
            for piece in [7u8; 44].chunks(step) {
                let decoded = body.decode(&mut piece.to_vec()).expect("any byte is data");
                data += decoded.data as u64;
                used += decoded.consumed as u64;
            }
            assert_eq!((data, used, body.is_end()), (length, length, true));
        }
    }
}

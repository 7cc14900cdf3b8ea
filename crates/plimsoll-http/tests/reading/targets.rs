//! The fuzz targets of the codec: any bytes in, a panic out if a promise is broken.
//!
//! Each looks at the bytes twice: as what a peer sends, and as decisions of the grammar, which makes of them something that
//! reaches deeper. The fuzzer calls these without an end; a plain test replays the kept inputs.

use plimsoll_http::framing::Framing;
use plimsoll_http::{Body, Reason};

use super::agreement::{requests_agree, response_agrees, splits_agree};
use super::emission::{request_survives, response_survives};
use super::grammar::{self, Choices};
use super::{pieces, requests, response};
use crate::oracle::{self, Asked, Rules, Verdict};

/// Bytes from a client: codec, oracle and `httparse` agree, however they are cut.
pub fn request(input: &[u8]) {
    for bytes in [input.to_vec(), grammar::requests(&mut Choices::new(input))] {
        let whole = requests_agree(&bytes);
        for cuts in ways_to_cut(&bytes) {
            splits_agree(&whole, &requests(&bytes, &cuts), &cuts);
        }
    }
}

/// Bytes from a server; of the first byte, 1 means that HEAD was asked, 2 an upgrade, 4 that the server closes.
pub fn response_to(input: &[u8]) {
    let (kind, raw) = input.split_first().unwrap_or((&0, &[]));
    let asked = asked(*kind);
    let eof = kind & 4 != 0;
    for bytes in [raw.to_vec(), grammar::response(&mut Choices::new(raw))] {
        let whole = response_agrees(&bytes, asked, eof);
        for cuts in ways_to_cut(&bytes) {
            splits_agree(&whole, &response(&bytes, &cuts, asked, eof), &cuts);
        }
    }
}

fn asked(kind: u8) -> Asked<'static> {
    Asked { method: if kind & 1 != 0 { b"HEAD" } else { b"GET" }, upgrade: kind & 2 != 0 }
}

/// Bytes one by one, and two pieces at a place that depends on them.
fn ways_to_cut(bytes: &[u8]) -> Vec<Vec<usize>> {
    let sum: usize = bytes.iter().map(|&b| usize::from(b)).sum();
    let mut ways = vec![vec![sum % bytes.len().max(1)]];
    if bytes.len() <= 2_000 {
        ways.push((1..bytes.len()).collect());
    }
    ways
}

/// A body: `l` and a byte for one with a length, `u` until close, anything else chunked; then a byte for the pieces' size.
pub fn body(input: &[u8]) {
    let [kind, step, raw @ ..] = input else { return };
    let framing = match kind {
        b'l' => Framing::Length(u64::from(*step) + 1),
        b'u' => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    for bytes in [raw.to_vec(), grammar::chunked(&mut Choices::new(raw))] {
        let whole = decode(framing, &[&bytes]);
        let step = usize::from(*step).max(1);
        let (each, all): (Vec<usize>, Vec<usize>) =
            ((1..bytes.len()).collect(), (step..bytes.len()).step_by(step).collect());
        for cuts in [each, all] {
            same_body(&whole, &decode(framing, &pieces(&bytes, &cuts)), &cuts);
        }
        if bytes.len() <= 100 {
            (1..bytes.len())
                .for_each(|at| same_body(&whole, &decode(framing, &pieces(&bytes, &[at])), &[at]));
        }
        if framing == Framing::Chunked {
            agrees_with_oracle(&bytes, &whole);
        }
    }
}

/// Data and how many bytes were left, if the body ended.
type Decoded = Result<(Vec<u8>, Option<usize>), Reason>;

fn decode(framing: Framing, pieces: &[&[u8]]) -> Decoded {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    let (mut body, mut data, mut used) = (Body::new(framing), Vec::new(), 0);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let decoded = body.decode(&mut piece)?;
        assert!(decoded.data <= decoded.consumed && decoded.consumed <= piece.len());
        data.extend_from_slice(&piece[..decoded.data]);
        used += decoded.consumed;
        if decoded.end {
            return Ok((data, Some(total - used)));
        }
        assert_eq!(decoded.consumed, piece.len());
    }
    Ok((data, None))
}

fn same_body(whole: &Decoded, split: &Decoded, cuts: &[usize]) {
    assert_eq!(whole, split, "cut at {cuts:?}");
}

fn agrees_with_oracle(bytes: &[u8], whole: &Decoded) {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    requests_agree(&[HEAD, bytes].concat());
    let Ok((data, Some(left))) = whole else { return };
    match oracle::request(&[HEAD, bytes].concat(), &Rules::default()) {
        Verdict::Message(message) => {
            assert_eq!((&message.body, message.consumed), (data, HEAD.len() + bytes.len() - left));
        }
        other => panic!("the codec takes a body that the oracle does not: {other:?}"),
    }
}

/// What is passed on is the message that was meant. The first byte says how chunks are cut, and what the response answers.
pub fn round_trip(input: &[u8]) {
    let (kind, raw) = input.split_first().unwrap_or((&0, &[]));
    let step = usize::from(*kind) + 1;
    for bytes in [raw.to_vec(), grammar::requests(&mut Choices::new(raw))] {
        let mut at = 0;
        for message in requests(&bytes, &[]).messages {
            request_survives(&bytes[at..], &message, step);
            at += message.consumed;
        }
    }
    for bytes in [raw.to_vec(), grammar::response(&mut Choices::new(raw))] {
        for message in response(&bytes, &[], asked(*kind), true).messages {
            response_survives(&bytes, &message, asked(*kind), step);
        }
    }
}

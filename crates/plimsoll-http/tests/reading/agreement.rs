//! What must hold between the codec, the oracle and `httparse` for any bytes at all.
//!
//! Each function takes bytes and panics where two readers differ: that is a way to smuggle, or a bug in a reader. Where the
//! codec refuses on purpose what the oracle takes, the reason and the condition stand in `stricter`, and nowhere else.

use plimsoll_http::Reason;

use super::{End, Reading, requests, response};
use crate::oracle::{self, Asked, Fields, Request, Response, Rules, Verdict};

/// What could make a whole message of an unfinished one.
const COMPLETIONS: [&[u8]; 5] = [b"\n", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n"];

/// All that must hold for bytes from a client. Gives what the codec read.
pub fn requests_agree(bytes: &[u8]) -> Reading<Request> {
    let read = requests(bytes, &[]);
    let mut at = 0;
    for message in &read.messages {
        let expected = match oracle::request(&bytes[at..], &Rules::default()) {
            Verdict::Message(expected) => Request { trailers: Fields::default(), ..expected },
            other => panic!("the codec takes what the oracle does not: {other:?}\n{message:?}"),
        };
        assert_eq!(*message, expected, "the codec is left, the oracle right");
        httparse_takes_request(&bytes[at..], message);
        at += message.consumed;
    }
    let rest = &bytes[at..];
    match (&read.end, oracle::request(rest, &Rules::default())) {
        (End::Refused(reason), Verdict::Message(message)) => assert!(
            reason.is_some_and(|r| stricter_on_request(r, rest, &message)),
            "the codec refuses ({reason:?}) what the oracle takes: {message:?}"
        ),
        (End::Waiting(_), Verdict::Message(message)) => {
            panic!("the codec waits behind what the oracle takes: {message:?}")
        }
        (End::Waiting(_), Verdict::Reject(class)) => never_completed(class, |completion| {
            requests(&[rest, completion].concat(), &[]).messages.is_empty()
        }),
        _ => {}
    }
    read
}

/// All that must hold for bytes from a server. Gives what the codec read.
pub fn response_agrees(bytes: &[u8], asked: Asked<'_>, eof: bool) -> Reading<Response> {
    let read = response(bytes, &[], asked, eof);
    let verdict = oracle::response(bytes, asked, eof, &Rules::default());
    match (&read.messages[..], &read.end, verdict) {
        ([message], _, Verdict::Message(expected)) => {
            let expected = Response { trailers: Fields::default(), ..expected };
            assert_eq!(*message, expected, "the codec is left, the oracle right");
            httparse_takes_response(bytes, message);
        }
        // Equal lengths are one length (RFC 9110, 8.6); the oracle would rather not hear it twice.
        ([message], _, Verdict::Reject("repeated-content-length")) => {
            let lengths = message.fields.all("content-length");
            assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{message:?}");
        }
        ([message], _, other) => {
            panic!("the codec takes what the oracle does not: {other:?}\n{message:?}")
        }
        (_, End::Refused(reason), Verdict::Message(message)) => assert!(
            stricter_on_response(*reason, bytes, asked, &message),
            "the codec refuses ({reason:?}) what the oracle takes: {message:?}"
        ),
        (_, end, Verdict::Message(message)) => panic!("{end:?}, but the oracle takes {message:?}"),
        (_, End::Waiting(_), Verdict::Reject(class)) if class != "repeated-content-length" => {
            never_completed(class, |completion| {
                let longer = [bytes, completion].concat();
                response(&longer, &[], asked, eof).messages.is_empty()
            });
        }
        _ => {}
    }
    read
}

/// The same bytes in other pieces mean the same.
pub fn splits_agree<M: PartialEq + std::fmt::Debug>(whole: &Reading<M>, split: &Reading<M>, cuts: &[usize]) {
    assert_eq!(whole.messages, split.messages, "cut at {cuts:?}");
    match (&whole.end, &split.end) {
        (End::Refused(Some(a)), End::Refused(Some(b))) => {
            assert!(a == b || is_seen_early(*a) || is_seen_early(*b), "{a:?} or, cut at {cuts:?}, {b:?}");
        }
        (a, b) => assert_eq!(a, b, "cut at {cuts:?}"),
    }
}

/// What is refused before its line has ended; on the whole line another fault may come first.
fn is_seen_early(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RequestLine | Reason::StatusLine | Reason::TargetTooLong | Reason::HeaderTooLarge
    )
}

fn never_completed(class: &str, is_nothing: impl Fn(&[u8]) -> bool) {
    for completion in COMPLETIONS {
        assert!(
            is_nothing(completion),
            "the oracle has refused ({class}), but with {:?} the codec takes it",
            String::from_utf8_lossy(completion)
        );
    }
}

/// Where the codec may refuse a request that the oracle takes.
fn stricter_on_request(reason: Reason, bytes: &[u8], message: &Request) -> bool {
    match reason {
        Reason::Method => message.method.len() > 32,
        Reason::ConnectionOptions => has_many_options(&message.fields),
        // Ports are `*DIGIT` in the grammar; we take none that TCP does not have.
        Reason::Host => message.fields.all("host").into_iter().any(has_odd_port),
        Reason::Target => has_odd_port(authority(&message.target)),
        Reason::Expect => message.fields.all("expect").len() > 1,
        other => stricter_on_body(other, &bytes[..message.consumed]),
    }
}

fn stricter_on_response(reason: Option<Reason>, bytes: &[u8], asked: Asked<'_>, message: &Response) -> bool {
    let Some(reason) = reason else {
        // A switch must name its protocol exactly once.
        let names_it =
            message.fields.all("upgrade").len() == 1 && message.fields.lists("connection", "upgrade");
        return message.status == 101 && asked.upgrade && !names_it;
    };
    let heads = || message.interims.iter().map(|(_, fields)| fields).chain([&message.fields]);
    match reason {
        Reason::StatusLine => bytes.split(|&b| b == b'\n').any(|line| line.len() > 1024),
        Reason::ConnectionOptions => heads().any(has_many_options),
        Reason::FramingLookalike => {
            let names = heads().flat_map(|fields| fields.0.iter().map(|(name, _)| name));
            names.into_iter().any(|name| name.contains(&b'_'))
        }
        // The oracle does not judge the framing of interim responses, which have none.
        Reason::ContentLength
        | Reason::TransferEncoding
        | Reason::TransferCoding
        | Reason::LengthAndChunked => {
            let frames = |fields: &Fields| fields.has("content-length") || fields.has("transfer-encoding");
            message.interims.iter().any(|(_, fields)| frames(fields))
        }
        other => stricter_on_body(other, bytes),
    }
}

/// White space in chunk extensions: "bad" in the grammar, and we take none of it.
fn stricter_on_body(reason: Reason, bytes: &[u8]) -> bool {
    let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    reason == Reason::ChunkExtension && bytes[body..].iter().any(|b| b" \t".contains(b))
}

fn has_many_options(fields: &Fields) -> bool {
    let members = fields.all("connection").into_iter();
    members.flat_map(|value| value.split(|&b| b == b',')).count() > 32
}

fn has_odd_port(authority: &[u8]) -> bool {
    let port = authority.rsplit(|&b| b == b':').next().unwrap_or_default();
    let number = std::str::from_utf8(port).ok().and_then(|port| port.parse::<u16>().ok());
    authority.contains(&b':') && !port.is_empty() && (number.is_none() || port.len() > 5)
}

/// The authority of an absolute target.
fn authority(target: &[u8]) -> &[u8] {
    let behind = target.windows(3).position(|w| w == b"://").map_or(0, |at| at + 3);
    target[behind..].split(|b| b"/?".contains(b)).next().unwrap_or_default()
}

fn pairs(headers: &[httparse::Header<'_>]) -> Fields {
    let pair = |h: &httparse::Header<'_>| (h.name.as_bytes().to_vec(), h.value.to_vec());
    Fields(headers.iter().map(pair).collect())
}

/// What we take as a head, the most used parser of the field takes too, with the same fields.
fn httparse_takes_request(bytes: &[u8], message: &Request) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut voice = httparse::Request::new(&mut headers);
    let parsed = voice.parse(bytes);
    assert!(
        matches!(parsed, Ok(httparse::Status::Complete(n)) if n <= message.consumed),
        "httparse: {parsed:?}, but we take {message:?}"
    );
    assert_eq!(voice.method.map(str::as_bytes), Some(&message.method[..]));
    assert_eq!(voice.path.map(str::as_bytes), Some(&message.target[..]));
    assert_eq!(voice.version, Some(message.version));
    assert_eq!(pairs(voice.headers), message.fields);
}

fn httparse_takes_response(mut bytes: &[u8], message: &Response) {
    let heads = message.interims.iter().map(|(status, fields)| (*status, fields));
    for (status, fields) in heads.chain([(message.status, &message.fields)]) {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut voice = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(len)) = voice.parse(bytes) else {
            panic!("httparse refuses a head of {message:?}");
        };
        assert_eq!(voice.code, Some(status));
        assert_eq!(pairs(voice.headers), *fields);
        bytes = &bytes[len..];
    }
}

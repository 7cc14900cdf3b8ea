//! An HTTP check: one request on a connection of its own, and whether its answer passes.
//!
//! The codec is the one that requests go through, so what could not be passed on to a client does not pass here either. The answer is read to its end,
//! which has to come, and no further than so many bytes.

use plimsoll_config::defaults::CHECK_BODY;
use plimsoll_config::model::{Address, HttpCheck};
use plimsoll_http::{Body, Head, Kind, Limits, Reason, emit, framing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::question::{Stream, Trouble, said};

const LIMITS: Limits = Limits { target: 0, section: 32 << 10, fields: 100 };
/// Interim answers before the final one.
const INTERIM: usize = 16;
/// Bytes that are read at once.
const READ: usize = 4 << 10;

/// Asks, and judges.
pub(super) async fn ask(
    stream: &mut (impl Stream + ?Sized),
    check: &HttpCheck,
    address: &Address,
) -> Result<(), Trouble> {
    stream.write_all(&request(check, address)).await.map_err(|e| broken(&e))?;
    let mut buffer = Vec::new();
    let (head, start) = final_head(stream, &mut buffer).await?;
    let status = head.status();
    let received = &buffer[start..];
    let meaning =
        framing::response(&head, &received[..head.len()], check.method == "HEAD").map_err(nonsense)?;
    let rest = received[head.len()..].to_vec();
    // To its end in any case: a server that sends a head and then hangs is not well.
    let body = whole_body(stream, Body::new(meaning.framing), rest).await?;
    if !check.statuses.iter().any(|&(from, to)| (from..=to).contains(&status)) {
        return Err(Trouble::Server(format!("status {status}")));
    }
    let has = |text: &str| body.windows(text.len().max(1)).any(|part| part == text.as_bytes());
    if let Some(text) = check.body.as_deref().filter(|text| !text.is_empty() && !has(text)) {
        return Err(Trouble::Server(format!("its body does not have {text:?} in it")));
    }
    if let Some(pattern) = check.body_regex.as_ref().filter(|pattern| !pattern.is_in(&body)) {
        return Err(Trouble::Server(format!("its body does not match {:?}", pattern.text())));
    }
    Ok(())
}

fn request(check: &HttpCheck, address: &Address) -> Vec<u8> {
    let own = match address {
        Address::Socket(address) => address.to_string(),
        Address::Name(name, port) => format!("{name}:{port}"),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let host = check.host.as_deref().unwrap_or(&own);
    let mut out = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", check.method, check.path).into_bytes();
    if !check.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        emit::field(&mut out, b"User-Agent", b"plimsoll-check");
    }
    for (name, value) in &check.headers {
        emit::field(&mut out, name.as_bytes(), value.as_bytes());
    }
    if matches!(&*check.method, "POST" | "PUT" | "PATCH") {
        emit::number_field(&mut out, b"Content-Length", 0); // RFC 9110, 8.6
    }
    emit::field(&mut out, b"Connection", b"close");
    out.extend(b"\r\n");
    out
}

/// Reads up to the final answer's head; gives it with its place in the buffer.
async fn final_head(
    stream: &mut (impl Stream + ?Sized),
    buffer: &mut Vec<u8>,
) -> Result<(Head, usize), Trouble> {
    let (mut head, mut start) = (Head::new(Kind::Response), 0);
    for _ in 0..=INTERIM {
        while !head.parse(&buffer[start..], &LIMITS).map_err(nonsense)? {
            buffer.reserve(READ);
            if stream.read_buf(buffer).await.map_err(|e| broken(&e))? == 0 {
                return Err(Trouble::Server("it closed before a whole answer".to_owned()));
            }
        }
        if head.status() >= 200 {
            return Ok((head, start));
        }
        start += head.len();
        head.reset(Kind::Response);
    }
    Err(Trouble::Server("it has nothing but interim answers".to_owned()))
}

/// Reads a body to its end.
async fn whole_body(
    stream: &mut (impl Stream + ?Sized),
    mut body: Body,
    mut fresh: Vec<u8>,
) -> Result<Vec<u8>, Trouble> {
    let mut whole = Vec::new();
    let mut received = fresh.len();
    loop {
        let decoded = body.decode(&mut fresh).map_err(nonsense)?;
        whole.extend_from_slice(&fresh[..decoded.data]);
        if body.is_end() {
            return Ok(whole);
        }
        // Chunk lines and trailers count too.
        if received > 2 * CHECK_BODY || whole.len() > CHECK_BODY {
            return Err(Trouble::Server(format!("its answer is longer than {} KiB", CHECK_BODY >> 10)));
        }
        fresh.clear();
        fresh.reserve(READ);
        match stream.read_buf(&mut fresh).await.map_err(|e| broken(&e))? {
            0 if body.ends_at_close() => return Ok(whole),
            0 => return Err(Trouble::Server("it closed before a whole answer".to_owned())),
            n => received += n,
        }
    }
}

fn broken(error: &std::io::Error) -> Trouble {
    Trouble::Server(format!("the connection broke: {}", said(error)))
}

fn nonsense(reason: Reason) -> Trouble {
    Trouble::Server(format!("its answer makes no sense: {}", reason.name()))
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::Pattern;
    use tokio::io::duplex;

    use super::*;

    const ADDRESS: Address = Address::Unix(std::path::PathBuf::new());

    /// What comes of an answer that is sent whole and then ends.
    fn judge(check: &HttpCheck, answer: &[u8]) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            ask(&mut ours, check, &ADDRESS).await.map_err(|trouble| match trouble {
                Trouble::Server(reason) => reason,
                Trouble::Ours => panic!("nothing is lacking"),
            })
        })
    }

    #[test]
    fn statuses_and_bodies_pass_as_the_check_says() {
        let check = HttpCheck::new("/healthz");
        let answer = |status: u16, body: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        assert_eq!(judge(&check, &answer(204, "")), Ok(()));
        assert_eq!(judge(&check, &answer(399, "")), Ok(()));
        assert_eq!(judge(&check, &answer(400, "")), Err("status 400".to_owned()));
        let picky = HttpCheck { statuses: vec![(200, 200), (503, 503)], ..check.clone() };
        assert_eq!([judge(&picky, &answer(503, "")), judge(&picky, &answer(200, ""))], [Ok(()), Ok(())]);
        assert_eq!(judge(&picky, &answer(204, "")), Err("status 204".to_owned()));
        let worded = HttpCheck { body: Some("\"ok\"".to_owned()), ..check.clone() };
        assert_eq!(judge(&worded, &answer(200, "{\"state\": \"ok\"}")), Ok(()));
        assert!(judge(&worded, &answer(200, "{\"state\": \"no\"}")).unwrap_err().contains("does not have"));
        let regex = Pattern::new("^state: (up|ready)$").unwrap();
        let matched = HttpCheck { body_regex: Some(regex), ..check };
        assert_eq!(judge(&matched, &answer(200, "state: ready")), Ok(()));
        assert!(judge(&matched, &answer(200, "state: readyish")).unwrap_err().contains("does not match"));
    }

    #[test]
    fn an_answer_must_be_whole_and_sound_and_end() {
        let check = HttpCheck { body: Some("hello".to_owned()), ..HttpCheck::new("/") };
        let chunked = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        assert_eq!(judge(&check, chunked), Ok(()));
        assert_eq!(judge(&check, b"HTTP/1.0 200 OK\r\n\r\nwell hello"), Ok(()), "until close");
        let cut = "it closed before a whole answer";
        assert_eq!(judge(&check, b""), Err(cut.to_owned()));
        assert_eq!(judge(&check, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"), Err(cut.to_owned()));
        assert_eq!(judge(&check, &chunked[..chunked.len() - 1]), Err(cut.to_owned()));
        let garbage = judge(&check, b"SSH-2.0-OpenSSH_9.9\r\n\r\n").unwrap_err();
        assert!(garbage.starts_with("its answer makes no sense"), "{garbage}");
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec();
        endless.resize(200 << 10, b'x');
        assert_eq!(judge(&check, &endless), Err("its answer is longer than 64 KiB".to_owned()));
        let mut fields = b"HTTP/1.1 200 OK\r\n".to_vec();
        fields.extend((0..200).flat_map(|i| format!("X-{i}: y\r\n").into_bytes()));
        assert!(judge(&check, &fields).is_err());
    }

    #[test]
    fn asks_as_it_is_told() {
        let told = HttpCheck {
            method: "POST".to_owned(),
            host: Some("a.example".to_owned()),
            headers: vec![("X-Check".to_owned(), "1".to_owned())],
            ..HttpCheck::new("/up?deep=1")
        };
        let text = String::from_utf8(request(&told, &ADDRESS)).unwrap();
        let expected = "POST /up?deep=1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: plimsoll-check\r\nX-Check: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(text, expected);
    }
}

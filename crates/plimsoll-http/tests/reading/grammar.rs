//! Makes messages: mostly valid, then spoilt a little, in the ways that smuggling is made of.
//!
//! In goes a string of bytes, each of which decides one thing; out comes what a peer sends. When the bytes run out every
//! decision is 0, the plainest, so that a shorter string makes a plainer message: shrinking and fuzzing both work on it.

/// A string of decisions.
#[derive(Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Decides by these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices { rest: bytes }
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        let [first, rest @ ..] = self.rest else { return 0 };
        self.rest = rest;
        if count <= 256 {
            return usize::from(*first) % count;
        }
        (usize::from(*first) << 8 | self.below(256)) % count
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    fn of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    /// One of the good; once in `times` one of the odd.
    fn mostly<T: Copy>(&mut self, good: &[T], times: usize, odd: &[T]) -> T {
        if self.once_in(times) { self.of(odd) } else { self.of(good) }
    }
}

/// What may be anywhere and matters somewhere.
const SPOILERS: [&[u8]; 30] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"#",
    b"_",
    b"\xe9",
    b"\x0b",
    b"\x7f",
    b"\"",
    b"\\",
    b"0",
    b"=",
    b"\r\n ",
    b" :",
    b"\r\n\r\n",
    b"\x80",
    b"%",
    b"/",
    b"?",
    b"+",
    b"-",
    b"0x",
    b"[",
    b"@",
];

const FIELDS: [&str; 24] = [
    "Accept: */*",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Cookie: a=b; c=\"d\"",
    "X-Empty:",
    "X-Wide: \t wide \t ",
    "x-one:1",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: keep-alive, X-One , ,x-empty",
    "Connection: Host, Content-Length, Transfer-Encoding, X-Forwarded-For, Expect",
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: websocket",
    "HTTP2-Settings: AAMAAABk",
    "TE: trailers, gzip",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Trailer: X-T",
    "Expect: 100-continue",
    "X-Forwarded-For: 192.0.2.7",
    "Forwarded: for=192.0.2.7",
    "Via: 1.1 a",
    "X-Odd: \u{e9}\u{20ac}",
    "!#$%&'*+-.^`|~9: tchars",
    "Range: bytes=0-1",
];

const ODD_FIELDS: [&str; 14] = [
    "X-Under_Score: 1",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "Expect: 200-ok",
    "Expect:",
    "Upgrade: h2c",
    " folded: yes",
    "Spaced : 1",
    ": nameless",
    "colonless",
    "X(: 1",
    "X-Nul: \0",
    "Content-Length : 5",
    "Content-Length\u{b}: 5",
];

const ODD_CODINGS: [&str; 12] = [
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding:",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
];

const ODD_LENGTHS: [&str; 14] = [
    "+5",
    "-1",
    "5, 5",
    "5,6",
    "0x5",
    "",
    "5 5",
    "5_0",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551621",
    "00000000000000000000005",
    "5\r\nContent-Length: 5",
    "5\r\nContent-Length: 6",
];

/// What a client sends on one connection.
pub fn requests(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=choices.below(3) {
        request(choices, &mut out);
    }
    spoil(choices, &mut out);
    out
}

/// What a server sends for one request.
pub fn response(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..choices.mostly(&[0], 6, &[1, 2, 17]) {
        let line = choices.of(&["HTTP/1.1 103 Early Hints", "HTTP/1.1 100 Continue", "HTTP/1.1 199 "]);
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
        fields(choices, &mut out, &[]);
        out.extend_from_slice(b"\r\n");
    }
    let version = choices.mostly(
        &["HTTP/1.1"],
        8,
        &["HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.10", "ICY"],
    );
    let status = choices.mostly(
        &["200 OK", "404 Not Found", "304 Not Modified", "204 No Content", "206 "],
        8,
        &[
            "101 Switching Protocols",
            "600 x",
            "099 x",
            "20 x",
            "200",
            "2000 x",
            "200 \u{e9}\t",
            "599 a b c",
            "100 \t",
        ],
    );
    out.extend_from_slice(format!("{version} {status}\r\n").as_bytes());
    framed(choices, &mut out, &[]);
    if choices.once_in(8) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    spoil(choices, &mut out);
    out
}

/// What follows a head with `Transfer-Encoding: chunked`.
pub fn chunked(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    chunks(choices, &mut out);
    spoil(choices, &mut out);
    out
}

fn request(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let method = choices.mostly(
        &["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"],
        12,
        &[
            "CONNECT",
            "TRACE",
            "get",
            "M!#$",
            "",
            "G\u{e9}T",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
        ],
    );
    let target = choices.mostly(
        &[
            "/",
            "/a?b=c",
            "/%2e/x//y",
            "http://a/x",
            "*",
            "http://a",
            "HTTP://A?q",
            "//a/b",
            "/a|{}\"<>\\^`",
            "/?http://b/",
        ],
        10,
        &[
            "http://b/",
            "https://a:80/",
            "/\u{e9}",
            "/#f",
            "",
            "a:80",
            "ftp://a/",
            "http:///x",
            "http://u@a/",
            "http://a:99999/",
            "http://[::1]/",
        ],
    );
    let version = choices.mostly(
        &["HTTP/1.1"],
        8,
        &["HTTP/1.0", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/11", ""],
    );
    if choices.once_in(12) {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("{method} {target} {version}\r\n").as_bytes());
    let host = choices.mostly(
        &["Host: a", "host:a", "HOST:  A\t"],
        10,
        &[
            "",
            "Host:",
            "Host: b",
            "Host: a, b",
            "Host: u@a",
            "Host: a:80",
            "Host: a:",
            "Host: a:99999",
            "Host: [::1]",
            "Host: [::1]:80",
            "Host: a/b",
            "Host: a\r\nHost: a",
            "Host: a b",
            "Host: %61",
            "Host: a%",
        ],
    );
    framed(choices, out, &[host]);
}

/// Fields with or without framing, the empty line, and a body that suits, more or less.
fn framed(choices: &mut Choices<'_>, out: &mut Vec<u8>, first: &[&str]) {
    let first = first.iter().copied().filter(|line| !line.is_empty());
    let mut lines: Vec<String> = first.map(str::to_owned).collect();
    let mut body = Vec::new();
    match choices.below(8) {
        0..=2 => {}
        3 | 4 => {
            body = data(choices);
            let wrong = choices.once_in(8);
            let value = if wrong { choices.of(&ODD_LENGTHS).to_owned() } else { body.len().to_string() };
            lines.push(format!("Content-Length: {value}"));
        }
        5 | 6 => {
            let name = choices.of(&["Transfer-Encoding", "transfer-encoding"]);
            let value = choices.of(&["chunked", "Chunked\t", "\tCHUNKED"]);
            lines.push(format!("{name}: {value}"));
            chunks(choices, &mut body);
        }
        _ => {
            lines.push(choices.mostly(&["Transfer-Encoding: chunked"], 2, &ODD_CODINGS).to_owned());
            if choices.below(2) == 1 {
                lines.push(format!("Content-Length: {}", choices.of(&["0", "5", "11"])));
            }
            chunks(choices, &mut body);
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    fields(choices, out, &lines);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

/// These lines with others among them.
fn fields(choices: &mut Choices<'_>, out: &mut Vec<u8>, lines: &[&str]) {
    let mut line = |text: &str| {
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    for own in lines {
        for _ in 0..choices.below(3) {
            line(choices.mostly(&FIELDS, 24, &ODD_FIELDS));
        }
        line(own);
    }
    for _ in 0..choices.below(3) {
        line(choices.mostly(&FIELDS, 24, &ODD_FIELDS));
    }
}

fn data(choices: &mut Choices<'_>) -> Vec<u8> {
    let length = choices.mostly(&[0, 1, 5, 11], 10, &[255, 256, 4097]);
    let seed = choices.below(256) as u8;
    (0..length)
        .map(|i| if seed == 0 { b"GET / HTTP/1.1\r\n\r\n"[i % 18] } else { seed.wrapping_mul(i as u8) })
        .collect()
}

fn chunks(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..choices.below(4) {
        let data = data(choices);
        if data.is_empty() {
            continue; // would be the last chunk
        }
        let size = match choices.below(16) {
            0..=10 => format!("{:x}", data.len()),
            11 => format!("{:X}", data.len()),
            12 => format!("{:016x}", data.len()),
            13 => format!("{:x}", data.len() + choices.below(3)),
            14 => format!("{:x}", data.len().saturating_sub(1)),
            _ => choices
                .of(&[
                    "0x5",
                    "+5",
                    " 5",
                    "5 ",
                    "00000000000000005",
                    "8000000000000000",
                    "7fffffffffffffff",
                    "",
                    "-1",
                    "5_",
                ])
                .to_owned(),
        };
        out.extend_from_slice(size.as_bytes());
        extension(choices, out);
        out.extend_from_slice(choices.mostly(&[&b"\r\n"[..]], 24, &[b"\n", b"\r", b"\r\r\n", b""]));
        out.extend_from_slice(&data);
        out.extend_from_slice(choices.mostly(&[&b"\r\n"[..]], 24, &[b"\n", b"\r", b"", b"\r\n\r\n", b"xx"]));
    }
    out.extend_from_slice(choices.mostly(
        &[&b"0"[..], b"000"],
        16,
        &[b"", b"0x0", b"00000000000000000", b"-0"],
    ));
    extension(choices, out);
    out.extend_from_slice(b"\r\n");
    for _ in 0..choices.mostly(&[0, 0, 1], 12, &[2, 16, 17]) {
        let line = choices.mostly(
            &["X-T: 1", "x-t:", "Content-Length: 5", "Transfer-Encoding: chunked"],
            10,
            &[" x: 1", "x : 1", ":", "x", "x: \0", "x: \r", "\u{e9}: 1", "x:\t\u{e9}"],
        );
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn extension(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    if !choices.once_in(5) {
        return;
    }
    let text = choices.of(&[
        ";a",
        ";a=b",
        ";a=\"b\\\"; c\"",
        ";a;b=c;d=\"\"",
        ";",
        ";=a",
        ";a=",
        ";a=\"b",
        ";a=\"b\"c",
        "; a",
        " ;a",
        ";a =b",
        ";a\n",
        ";a\nb",
        ";a=b\nc",
        "\nb",
        ";\r",
        ";a=\"\\\r\n\"",
        ";a=\"\u{e9}\t\"",
        ";a=\"\\\\\"",
    ]);
    out.extend_from_slice(text.as_bytes());
}

/// Small damage: none in half of the cases.
fn spoil(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    for _ in 0..choices.mostly(&[0, 0, 1], 8, &[2, 3]) {
        let at = choices.below(out.len().max(1)).min(out.len());
        match choices.below(8) {
            0..=2 => {
                let spoiler = choices.of(&SPOILERS);
                out.splice(at..at, spoiler.iter().copied());
            }
            3 if at < out.len() => out[at] = choices.below(256) as u8,
            4 if at < out.len() => drop(out.remove(at)),
            5 => repeat_line(out, at),
            6 => swap_lines(out, at),
            _ => out.truncate(at),
        }
    }
}

/// The line around a place, its end included.
fn line_around(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let from = bytes[..at].iter().rposition(|&b| b == b'\n').map_or(0, |lf| lf + 1);
    let to = bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |lf| at + lf + 1);
    from..to
}

fn repeat_line(out: &mut Vec<u8>, at: usize) {
    let line = line_around(out, at);
    let copy = out[line.clone()].to_vec();
    out.splice(line.end..line.end, copy);
}

fn swap_lines(out: &mut [u8], at: usize) {
    let first = line_around(out, at);
    let second = line_around(out, first.end);
    out[first.start..second.end].rotate_left(first.len());
}

//! The oracle's own tests: each rule from both sides.
//!
//! The oracle judges the codec, so it has to be right by itself: what it takes is given here with its meaning, what it
//! refuses with the class of the fault.

mod oracle;

use oracle::{Asked, Fields, Request, Response, Rules, Verdict};

const GET: Asked<'static> = Asked { method: b"GET", upgrade: false };

fn request(text: &str) -> Verdict<Request> {
    oracle::request(text.as_bytes(), &Rules::default())
}

fn taken(text: &str) -> Request {
    match request(text) {
        Verdict::Message(request) => request,
        other => panic!("{text:?} is {other:?}"),
    }
}

fn refused(class: &'static str, text: &str) {
    assert_eq!(request(text), Verdict::Reject(class), "{text:?}");
}

/// A 1.1 request with these field lines after a Host.
fn with_fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    with_fields("Transfer-Encoding: chunked\r\n") + body
}

fn pairs(fields: &Fields) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).expect("the tests write text");
    fields.0.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn response(text: &str, asked: Asked<'_>, eof: bool) -> Verdict<Response> {
    oracle::response(text.as_bytes(), asked, eof, &Rules::default())
}

fn answered(text: &str, asked: Asked<'_>, eof: bool) -> Response {
    match response(text, asked, eof) {
        Verdict::Message(response) => response,
        other => panic!("{text:?} is {other:?}"),
    }
}

#[test]
fn reads_a_plain_request() {
    let got = taken(
        "GET /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nX-One: \t two words \t\r\nX-Two:\r\n\r\nrest",
    );
    assert_eq!((got.method.as_slice(), got.target.as_slice(), got.version), (&b"GET"[..], &b"/a?b=c"[..], 1));
    assert_eq!(pairs(&got.fields), [("Host", "Example.com:8080"), ("X-One", "two words"), ("X-Two", "")]);
    assert_eq!(got.body, b"");
    assert_eq!(got.consumed, 77);
    assert!(got.keep_alive);
}

#[test]
fn every_prefix_of_a_message_is_incomplete() {
    let messages = [
        "\r\nGET http://a:80/ HTTP/1.1\r\nHost: a:80\r\nExpect: 100-continue\r\n\r\n".to_owned(),
        with_fields("Content-Length: 5\r\n") + "hello",
        chunked("5;a=b;c=\"d\\\"e\"\r\nhello\r\n0a\r\n0123456789\r\n000;x\r\nT: u\r\nV: w\r\n\r\n"),
    ];
    for message in &messages {
        for end in 0..message.len() {
            assert_eq!(request(&message[..end]), Verdict::Incomplete, "{:?}", &message[..end]);
        }
        assert_eq!(taken(message).consumed, message.len());
    }
    let answer = "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    for end in 0..answer.len() {
        assert_eq!(response(&answer[..end], GET, false), Verdict::Incomplete, "{:?}", &answer[..end]);
        assert_eq!(response(&answer[..end], GET, true), Verdict::Reject("truncated"), "{:?}", &answer[..end]);
    }
    assert_eq!(answered(answer, GET, false).consumed, answer.len());
}

#[test]
fn one_leading_empty_line_is_tolerated() {
    assert_eq!(taken("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").consumed, 29);
    refused("request-line", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("bare-lf", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("bare-cr", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn request_line_has_three_parts_and_single_spaces() {
    for line in ["GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET /", "GET", "GET / a HTTP/1.1"]
    {
        refused("request-line", &format!("{line}\r\nHost: a\r\n\r\n"));
    }
    refused("method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("method", "GET\t/ / HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("target", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("target", "GET /é HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(taken("m!#$ /%zz{|}\"<> HTTP/1.1\r\nHost: a\r\n\r\n").target, b"/%zz{|}\"<>");
}

#[test]
fn version_is_exactly_1_1_or_1_0() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/1", "HTTP /1.1", "1.1"]
    {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert!(matches!(request(&text), Verdict::Reject("version" | "request-line")), "{version}");
    }
    assert_eq!(taken("GET / HTTP/1.0\r\n\r\n").version, 0);
}

#[test]
fn control_characters_are_refused_anywhere_in_a_head() {
    refused("bare-lf", "GET / HTTP/1.1\nHost: a\r\n\r\n");
    refused("bare-lf", "GET / HTTP/1.1\r\nHost: a\n\r\n");
    refused("bare-lf", "GET / HTTP/1.1\r\nHost: a\r\n\n");
    refused("bare-cr", &with_fields("A: b\rC: d\r\n"));
    refused("bare-cr", &with_fields("A: b\r\r\n"));
    refused("nul", &with_fields("A: b\0\r\n"));
    refused("nul", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n");
    for control in ['\u{1}', '\u{8}', '\u{b}', '\u{c}', '\u{1f}', '\u{7f}'] {
        refused("control", &with_fields(&format!("A: b{control}\r\n")));
    }
    let fields = taken(&with_fields("A: tab\there, é\r\n")).fields;
    assert_eq!(fields.all("a"), ["tab\there, é".as_bytes()]);
}

#[test]
fn field_lines_follow_the_grammar() {
    refused("obs-fold", &with_fields("A: b\r\n c\r\n"));
    refused("obs-fold", &with_fields("A: b\r\n\tc\r\n"));
    refused("obs-fold", "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    refused("space-before-colon", &with_fields("A : b\r\n"));
    refused("space-before-colon", &with_fields("A\t: b\r\n"));
    refused("empty-name", &with_fields(": b\r\n"));
    refused("no-colon", &with_fields("A\r\n"));
    for name in ["A B", "A(", "A\"", "A/", "A@", "A[", "É", "A\u{a0}"] {
        refused("name", &with_fields(&format!("{name}: b\r\n")));
    }
    assert!(taken(&with_fields("!#$%&'*+-.^`|~0a: b\r\n")).fields.has("!#$%&'*+-.^`|~0A"));
}

#[test]
fn underscores_are_refused_unless_kept() {
    refused("underscore", &with_fields("Content_Length: 5\r\n"));
    refused("underscore", &with_fields("X_Y: 5\r\n"));
    let keeping = Rules { keep_underscores: true, ..Rules::default() };
    let text = with_fields("X_Y: 5\r\n");
    assert!(oracle::request(text.as_bytes(), &keeping).message().is_some());
    for name in ["Content_Length", "transfer_encoding"] {
        let text = with_fields(&format!("{name}: 5\r\n"));
        let verdict = oracle::request(text.as_bytes(), &keeping);
        assert_eq!(verdict, Verdict::Reject("framing-lookalike"), "{name}");
    }
}

#[test]
fn a_1_1_request_has_exactly_one_valid_host() {
    refused("host", "GET / HTTP/1.1\r\n\r\n");
    refused("host", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    refused("host", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(!taken("GET / HTTP/1.0\r\n\r\n").fields.has("host"));
    let bad = [
        "",
        "a b",
        "a,b",
        "a/b",
        "u@a",
        "u:p@a",
        "a:b",
        "a:80:90",
        "a:-1",
        ":80",
        "[::1",
        "::1",
        "[::1]a",
        "[v1.a]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "a?b",
        "a#b",
        "a\\b",
        "http://a",
        "a%",
        "a%g0",
        "é",
        "a\"",
    ];
    for host in bad {
        refused("host", &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    let good = [
        "a",
        "A.b-c_d",
        "1.2.3.4:80",
        "[::1]",
        "[2001:db8::1]:443",
        "a:",
        "a%41",
        "xn--p1ai.",
        "a!$&'()*+;=~",
    ];
    for host in good {
        taken(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

#[test]
fn target_form_must_suit_and_agree_with_host() {
    let line = |line: &str| format!("{line}\r\nHost: Example.com\r\n\r\n");
    taken(&line("GET http://example.COM/ HTTP/1.1"));
    taken(&line("GET HTTPS://example.com HTTP/1.1"));
    taken(&line("GET http://example.com?q HTTP/1.1"));
    taken(&line("OPTIONS * HTTP/1.1"));
    taken("GET http://b/ HTTP/1.0\r\n\r\n");
    for target in
        ["http://other/", "http://example.com:80/", "http://u@example.com/", "http:///", "http://a@/"]
    {
        refused("authority", &line(&format!("GET {target} HTTP/1.1")));
    }
    for target in
        ["*", "x", "example.com:80", "?q", "ftp://example.com/", "http:/example.com", "http:example.com"]
    {
        refused("target-form", &line(&format!("GET {target} HTTP/1.1")));
    }
    refused("method-refused", &line("CONNECT example.com:80 HTTP/1.1"));
    refused("method-refused", &line("TRACE / HTTP/1.1"));
    taken(&line("connect / HTTP/1.1"));
}

#[test]
fn expectations_other_than_continue_are_refused() {
    taken(&with_fields("Expect: 100-Continue\r\n"));
    refused("expectation", &with_fields("Expect: 100-continue, x\r\n"));
    refused("expectation", &with_fields("Expect: \r\n"));
    refused("expectation", &with_fields("Expect: 100-continue\r\nExpect: 200-ok\r\n"));
}

#[test]
fn content_length_is_one_run_of_digits_below_2_to_the_63() {
    assert_eq!(taken(&(with_fields("Content-Length: 005\r\n") + "helloGET")).body, b"hello");
    let bad = [
        "",
        "+5",
        "-5",
        "0x5",
        "5_0",
        "5,5",
        "5, 5",
        "5 5",
        "5.0",
        "5;",
        "9223372036854775808",
        "٥",
        "\"5\"",
    ];
    for length in bad {
        refused("content-length", &with_fields(&format!("Content-Length: {length}\r\n")));
    }
    let largest = with_fields("Content-Length: 9223372036854775807\r\n");
    assert_eq!(request(&largest), Verdict::Incomplete);
    refused("repeated-content-length", &with_fields("Content-Length: 5\r\nContent-Length: 5\r\n"));
}

#[test]
fn transfer_encoding_is_chunked_or_refused() {
    assert_eq!(taken(&(with_fields("transfer-ENCODING:\tCHUNKED \r\n") + "0\r\n\r\n")).body, b"");
    for coding in [
        "",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
    ] {
        refused("coding", &with_fields(&format!("Transfer-Encoding: {coding}\r\n")));
    }
    refused("coding", &with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
    refused("length-and-coding", &with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
    refused("length-and-coding", &with_fields("Transfer-Encoding: x\r\nContent-Length: 5\r\n"));
    refused("coding-in-1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn chunks_are_joined_and_trailers_kept_apart() {
    let text = chunked("5\r\nhello\r\n00000000000000A;x;y=z\r\n, world!!!\r\n0\r\nA: b\r\nC: d\r\n\r\nGET");
    let got = taken(&text);
    assert_eq!(got.body, b"hello, world!!!");
    assert_eq!(pairs(&got.trailers), [("A", "b"), ("C", "d")]);
    assert_eq!(got.consumed, text.len() - 3);
}

#[test]
fn chunk_lines_follow_the_grammar() {
    for size in
        ["", "x", "0x5", "+5", "-5", " 5", "5 ", "5\t", "5 ;a", "00000000000000005", "8000000000000000"]
    {
        refused("chunk-size", &chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")));
    }
    for extension in [";", ";a=", ";=b", ";a b", ";a=\"b", ";a=\"b\"c", ";a=b;", ";a ", ";a=\"b\\"] {
        refused("chunk-extension", &chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n")));
    }
    for extension in [";a", "; a = b", ";a;b=c", ";a=\"b c;\\\"d\\\\\"", ";a=\"\""] {
        assert_eq!(
            taken(&chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"))).body,
            b"hello",
            "{extension}"
        );
    }
    for body in ["5\nhello\r\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n", "0\n\r\n", "0\r\n\n", "0\r\nA: b\n\r\n"]
    {
        refused("bare-lf", &chunked(body));
    }
    for body in ["5\rhello\r\n0\r\n\r\n", "5\r;a\r\nhello\r\n0\r\n\r\n", "0\r\r\n\r\n"] {
        refused("bare-cr", &chunked(body));
    }
    for body in ["5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello0\r\n\r\n"] {
        refused("chunk-end", &chunked(body));
    }
    assert_eq!(request(&chunked("7fffffffffffffff\r\n")), Verdict::Incomplete);
}

#[test]
fn limits_hold_at_the_byte() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(length - 1));
    taken(&target(8192));
    refused("target-too-long", &target(8193));
    refused("target-too-long", &format!("GET /{}", "t".repeat(8192)));

    let head =
        |bytes: usize| with_fields(&format!("F: {}\r\n", "f".repeat(bytes - "Host: a\r\nF: \r\n".len())));
    taken(&head(32_768));
    refused("too-large", &head(32_769));
    refused("too-large", &head(40_000)[..33_000]);

    let count = |fields: usize| with_fields(&"F: f\r\n".repeat(fields - 1));
    taken(&count(100));
    refused("too-large", &count(101));
}

#[test]
fn limits_hold_behind_the_head_too() {
    let extension = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes - 1));
    taken(&chunked(&(extension(256).repeat(64) + "0\r\n\r\n")));
    refused("chunk-extension-too-long", &chunked(&extension(257)));
    refused("chunk-extension-too-long", &chunked(&format!("1;{}", "e".repeat(300))));
    refused("chunk-extension-too-long", &chunked(&(extension(256).repeat(64) + "0;e\r\n\r\n")));

    taken(&chunked(&format!("0\r\n{}\r\n", "T: t\r\n".repeat(16))));
    refused("too-large", &chunked(&format!("0\r\n{}\r\n", "T: t\r\n".repeat(17))));
    refused("too-large", &chunked(&format!("0\r\nT: {}\r\n\r\n", "t".repeat(8192))));
}

#[test]
fn persistence_follows_version_and_connection() {
    let kept = |version: &str, fields: &str| {
        taken(&format!("GET / {version}\r\nHost: a\r\n{fields}\r\n")).keep_alive
    };
    assert!(kept("HTTP/1.1", ""));
    assert!(!kept("HTTP/1.1", "Connection: x, Close\r\n"));
    assert!(!kept("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!kept("HTTP/1.0", ""));
    assert!(kept("HTTP/1.0", "Connection: Keep-Alive\r\n"));
    assert!(!kept("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn response_bodies_end_as_the_fields_say() {
    let got = answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP", GET, false);
    assert_eq!((got.status, got.reason.as_slice(), got.body.as_slice()), (200, &b"OK"[..], &b"ok"[..]));
    assert!(got.keep_alive);
    let until_close = "HTTP/1.1 200 OK\r\n\r\nall of it";
    assert_eq!(response(until_close, GET, false), Verdict::Incomplete);
    let got = answered(until_close, GET, true);
    assert_eq!(got.body, b"all of it");
    assert!(!got.keep_alive);
    assert_eq!(
        response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", GET, true),
        Verdict::Reject("truncated")
    );
}

#[test]
fn some_responses_never_have_a_body() {
    let head = Asked { method: b"HEAD", upgrade: false };
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(answered(text, head, false).consumed, text.len() - 5);
    for status in ["204 No Content", "304 Not Modified"] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(answered(&text, GET, false).consumed, text.len() - 5);
    }
}

#[test]
fn interim_responses_come_first_and_are_counted() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let last = "HTTP/1.1 204 None\r\n\r\n";
    let got = answered(&(interim.repeat(16) + last), GET, false);
    assert_eq!((got.interims.len(), got.interims[3].0, got.status), (16, 103, 204));
    assert_eq!(response(&interim.repeat(17), GET, false), Verdict::Reject("too-many-interims"));
}

#[test]
fn only_an_asked_switch_is_taken() {
    let text =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\u{1}\u{2}";
    assert_eq!(response(text, GET, false), Verdict::Reject("unasked-switch"));
    let got = answered(text, Asked { method: b"GET", upgrade: true }, false);
    assert_eq!((got.status, got.consumed, got.keep_alive), (101, text.len() - 2, false));
}

#[test]
fn contradicting_responses_are_refused() {
    let fields = |fields: &str| response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), GET, false);
    assert_eq!(
        fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        Verdict::Reject("length-and-coding")
    );
    assert_eq!(
        fields("Content-Length: 5\r\nContent-Length: 6\r\n"),
        Verdict::Reject("repeated-content-length")
    );
    assert_eq!(fields("Transfer-Encoding: gzip, chunked\r\n"), Verdict::Reject("coding"));
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(old, GET, false), Verdict::Reject("coding-in-1.0"));
}

#[test]
fn status_lines_follow_the_grammar() {
    let lines = [
        "HTTP/1.1 200",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 600 X",
        "HTTP/1.1 099 X",
        "HTTP/2 200 OK",
        "HTTP/1.2 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "",
        "200 OK",
    ];
    for line in lines {
        let verdict = response(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), GET, false);
        assert!(matches!(verdict, Verdict::Reject("status-line" | "version")), "{line:?} is {verdict:?}");
    }
    assert_eq!(answered("HTTP/1.0 299 \r\nContent-Length: 0\r\n\r\n", GET, false).status, 299);
}

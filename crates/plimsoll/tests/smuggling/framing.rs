//! Where a body ends: Content-Length, Transfer-Encoding, both, neither, and each in disguise.

use super::table::{
    BAD, CODING, Case, Meant, Outcome, SMUGGLED, abandoned, arrives, either, get, outcomes, post, refused,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = both_lengths();
    cases.extend(coding_values());
    cases.extend(coding_names());
    cases.extend(coding_lines());
    cases.extend(length_values());
    cases.extend(length_names_and_lines());
    cases.extend(bodies_that_are_bodies());
    cases.extend(halves());
    cases
}

fn both_lengths() -> Vec<Case> {
    let hidden = format!("0\r\n\r\n{SMUGGLED}");
    let cl_te = post("Content-Length: 40\r\nTransfer-Encoding: chunked\r\n", &hidden);
    let te_cl =
        post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", format!("23\r\n{SMUGGLED}\r\n0\r\n\r\n"));
    vec![
        refused("CL.TE", cl_te, BAD),
        refused("TE.CL", te_cl, BAD),
        refused(
            "CL.TE, both agreeing",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            BAD,
        ),
        refused("CL.TE, length 0", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", &hidden), BAD),
        refused(
            "CL.TE, empty length",
            post("Content-Length:\r\nTransfer-Encoding: chunked\r\n", &hidden),
            BAD,
        ),
        refused(
            "CL.TE, words as length",
            post("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", &hidden),
            BAD,
        ),
        refused(
            "CL with identity",
            post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"),
            CODING,
        ),
        refused("CL with empty TE", post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"), CODING),
        refused("CL with unknown TE", post("Content-Length: 5\r\nTransfer-Encoding: x\r\n", "hello"), CODING),
        refused(
            "CL.TE, length named by Connection",
            post(
                "Connection: Content-Length\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n",
                &hidden,
            ),
            BAD,
        ),
        refused(
            "TE.CL, coding named by Connection",
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
            BAD,
        ),
        refused("CL.TE on GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), BAD),
        refused(
            "TE in 1.0",
            format!(
                "POST /case HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            CODING,
        ),
        refused(
            "TE in 1.0 that stays alive",
            "POST /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            CODING,
        ),
        refused(
            "CL.TE in 1.0",
            "POST /case HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            CODING,
        ),
        refused("identity in 1.0", "POST /case HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n", CODING),
    ]
}

/// A chunked body behind a Transfer-Encoding of this value.
fn coding(value: impl AsRef<[u8]>) -> Vec<u8> {
    post([b"Transfer-Encoding: ", value.as_ref(), b"\r\n"].concat(), format!("0\r\n\r\n{SMUGGLED}"))
}

fn coding_values() -> Vec<Case> {
    let empty = || Meant::post(b"").without("evil");
    let second = Outcome::Arrives(Meant::get("/second"));
    let legal = |line: &str| post(format!("{line}\r\n"), "0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    vec![
        refused("TE xchunked", coding("xchunked"), CODING),
        refused("TE chunkedx", coding("chunkedx"), CODING),
        refused("TE chunk", coding("chunk"), CODING),
        refused("TE chunked then identity", coding("chunked, identity"), CODING),
        refused("TE identity then chunked", coding("identity, chunked"), CODING),
        refused("TE identity around chunked", coding("identity, chunked, identity"), CODING),
        refused("TE identity", coding("identity"), CODING),
        refused("TE gzip then chunked", coding("gzip, chunked"), CODING),
        refused("TE gzip", coding("gzip"), CODING),
        refused("TE chunked twice in a list", coding("chunked, chunked"), CODING),
        refused("TE chunked joined", coding("chunked,chunked"), CODING),
        refused("TE with a comma before", coding(",chunked"), CODING),
        refused("TE with a comma behind", coding("chunked,"), CODING),
        refused("TE comma", coding(","), CODING),
        refused("TE with a parameter", coding("chunked;q=1"), CODING),
        refused("TE with a semicolon", coding("chunked;"), CODING),
        refused("TE quoted", coding("\"chunked\""), CODING),
        refused("TE in apostrophes", coding("'chunked'"), CODING),
        refused("TE in brackets", coding("[chunked]"), CODING),
        refused("TE empty", coding(""), CODING),
        refused("TE white space only", coding(" \t "), CODING),
        refused("TE two words", coding("chunked chunked"), CODING),
        refused("TE true", coding("true"), CODING),
        refused("TE percent-encoded", coding("%63hunked"), CODING),
        refused("TE NUL behind", coding("chunked\0"), BAD),
        refused("TE NUL before", coding("\0chunked"), BAD),
        refused("TE VT before", coding("\x0bchunked"), CODING),
        refused("TE VT behind", coding("chunked\x0b"), CODING),
        refused("TE FF before", coding("\x0cchunked"), CODING),
        refused("TE FF behind", coding("chunked\x0c"), CODING),
        refused("TE DEL before", coding("\x7fchunked"), CODING),
        refused("TE DEL behind", coding("chunked\x7f"), CODING),
        refused("TE backspace behind", coding("chunked\x08"), CODING),
        refused("TE CR before", coding("\rchunked"), BAD),
        refused("TE CR behind", coding("chunked\r"), BAD),
        refused("TE CR inside", coding("chu\rnked"), BAD),
        refused("TE A0 before", coding(b"\xa0chunked"), CODING),
        refused("TE A0 behind", coding(b"chunked\xa0"), CODING),
        refused("TE 85 before", coding(b"\x85chunked"), CODING),
        refused("TE 85 behind", coding(b"chunked\x85"), CODING),
        refused("TE FF byte before", coding(b"\xffchunked"), CODING),
        refused("TE byte order mark", coding(b"\xef\xbb\xbfchunked"), CODING),
        refused("TE accent inside", coding(b"ch\x96nked"), CODING),
        refused("TE long s", coding("chunked\u{17f}"), CODING),
        refused("TE kelvin sign", coding("chun\u{212a}ed"), CODING),
        outcomes(
            "TE in other case",
            legal("Transfer-Encoding: ChUnKeD"),
            [Outcome::Arrives(empty()), second.clone()],
        ),
        outcomes(
            "TE without a space",
            legal("Transfer-Encoding:chunked"),
            [Outcome::Arrives(empty()), second.clone()],
        ),
        outcomes(
            "TE with a tab behind",
            legal("Transfer-Encoding: \t chunked\t"),
            [Outcome::Arrives(empty()), second.clone()],
        ),
        outcomes(
            "TE name in upper case",
            legal("TRANSFER-ENCODING: chunked"),
            [Outcome::Arrives(empty()), second.clone()],
        ),
        outcomes(
            "TE name in odd case",
            legal("tRANSFER-eNCODING: chunked"),
            [Outcome::Arrives(empty()), second.clone()],
        ),
        outcomes(
            "TE named by Connection",
            legal("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
            [Outcome::Arrives(empty()), second],
        ),
    ]
}

fn coding_names() -> Vec<Case> {
    let named = |name: &[u8]| post([name, b": chunked\r\n"].concat(), format!("0\r\n\r\n{SMUGGLED}"));
    // Another field's name: no body then, and what follows the head is not a request.
    let other = |name: &'static str, line: &str| {
        outcomes(
            name,
            post(format!("{line}\r\n"), format!("0\r\n\r\n{SMUGGLED}")),
            [Outcome::Arrives(Meant::post(b"")), Outcome::Refused(BAD)],
        )
    };
    vec![
        refused("TE space before the colon", named(b"Transfer-Encoding "), BAD),
        refused("TE tab before the colon", named(b"Transfer-Encoding\t"), BAD),
        refused("TE VT before the colon", named(b"Transfer-Encoding\x0b"), BAD),
        refused("TE NUL before the colon", named(b"Transfer-Encoding\0"), BAD),
        refused("TE CR before the colon", named(b"Transfer-Encoding\r"), BAD),
        refused("TE 85 before the colon", named(b"Transfer-Encoding\x85"), BAD),
        refused("TE A0 before the colon", named(b"Transfer-Encoding\xa0"), BAD),
        refused("TE junk before the colon", named(b"Transfer-Encoding x"), BAD),
        refused("TE backslash for the hyphen", named(b"Transfer\\Encoding"), BAD),
        refused("TE space for the hyphen", named(b"Transfer Encoding"), BAD),
        refused("TE underscore for the hyphen", named(b"Transfer_Encoding"), BAD),
        refused("TE underscore in lower case", named(b"transfer_encoding"), BAD),
        refused("TE accent in the name", named(b"Transf\x82r-Encoding"), BAD),
        refused("TE CR in the name", named(b"Tra\rnsfer-Encoding"), BAD),
        refused("TE quoted name", named(b"\"Transfer-Encoding\""), BAD),
        refused("TE colon before the name", named(b":Transfer-Encoding"), BAD),
        other("TE percent-encoded name", "Transfer-%45ncoding: chunked"),
        other("TE as Content-Encoding", "Content-Encoding: chunked"),
        other("TE as a value", "X: Transfer-Encoding: chunked"),
        other("TE behind a comma", "X: y, Transfer-Encoding: chunked"),
        other("TE with a suffix", "Transfer-Encoding-: chunked"),
        other("TE with a prefix", "X-Transfer-Encoding: chunked"),
    ]
}

fn coding_lines() -> Vec<Case> {
    let line = |line: &[u8]| post([line, b"\r\n"].concat(), format!("0\r\n\r\n{SMUGGLED}"));
    vec![
        refused("TE twice", line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), CODING),
        refused(
            "TE then identity",
            line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
            CODING,
        ),
        refused(
            "identity then TE",
            line(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
            CODING,
        ),
        refused("TE then an empty one", line(b"Transfer-Encoding: chunked\r\nTransfer-Encoding:"), CODING),
        refused(
            "TE then one of its case",
            line(b"Transfer-Encoding: chunked\r\nTransfer-encoding: x"),
            CODING,
        ),
        refused("TE value folded by space", line(b"Transfer-Encoding:\r\n chunked"), BAD),
        refused("TE value folded by tab", line(b"Transfer-Encoding: \r\n\tchunked"), BAD),
        refused("TE folded behind", line(b"Transfer-Encoding: chunked\r\n , identity"), BAD),
        refused("TE hidden by a fold", line(b"Foo: bar\r\n Transfer-Encoding: chunked"), BAD),
        refused("TE hidden by a tab fold", line(b"Foo: bar\r\n\tTransfer-Encoding: chunked"), BAD),
        refused("TE behind a bare CR", line(b"Foo: bar\rTransfer-Encoding: chunked"), BAD),
        refused("TE behind a bare LF", line(b"Foo: bar\nTransfer-Encoding: chunked"), BAD),
        refused("TE behind CR LF CR", line(b"Foo: bar\r\n\rTransfer-Encoding: chunked"), BAD),
        refused("TE behind LF LF", line(b"Foo: bar\n\nTransfer-Encoding: chunked"), BAD),
        refused("TE value behind LF", line(b"Transfer-Encoding:\n chunked"), BAD),
        refused("TE colon behind LF", line(b"Transfer-Encoding\n : chunked"), BAD),
        refused("TE value behind LF VT", line(b"Transfer-Encoding: \n\x0bchunked"), BAD),
        refused(
            "TE as first line with a space",
            " POST /case HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            BAD,
        ),
        refused(
            "TE before Host with a space",
            format!(
                "POST /case HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: a\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            BAD,
        ),
    ]
}

fn length_values() -> Vec<Case> {
    let length = |value: &[u8]| post([b"Content-Length: ", value, b"\r\n"].concat(), "hello");
    let body = || Meant::post(b"hello").with("content-length", "5");
    vec![
        refused("CL plus", length(b"+5"), BAD),
        refused("CL minus", length(b"-5"), BAD),
        refused("CL minus nought", length(b"-0"), BAD),
        refused("CL hexadecimal", length(b"0x5"), BAD),
        refused("CL hex digit", length(b"a"), BAD),
        refused("CL octal prefix", length(b"0o5"), BAD),
        refused("CL underscore", length(b"5_0"), BAD),
        refused("CL list of equals", length(b"5, 5"), BAD),
        refused("CL list of others", length(b"5, 6"), BAD),
        refused("CL list with an empty member", length(b"5,"), BAD),
        refused("CL list with a comma before", length(b",5"), BAD),
        refused("CL two words", length(b"5 5"), BAD),
        refused("CL tab inside", length(b"5\t5"), BAD),
        refused("CL fraction", length(b"5.0"), BAD),
        refused("CL exponent", length(b"5e0"), BAD),
        refused("CL parameter", length(b"5;a"), BAD),
        refused("CL quoted", length(b"\"5\""), BAD),
        refused("CL empty", length(b""), BAD),
        refused("CL white space", length(b" \t "), BAD),
        refused("CL words", length(b"five"), BAD),
        refused("CL NUL behind", length(b"5\0"), BAD),
        refused("CL VT before", length(b"\x0b5"), BAD),
        refused("CL VT behind", length(b"5\x0b"), BAD),
        refused("CL FF behind", length(b"5\x0c"), BAD),
        refused("CL A0 before", length(b"\xa05"), BAD),
        refused("CL CR behind", length(b"5\r"), BAD),
        refused("CL arabic digit", length("٥".as_bytes()), BAD),
        refused("CL full-width digit", length("５".as_bytes()), BAD),
        refused("CL superscript", length("5²".as_bytes()), BAD),
        refused("CL 2^63", length(b"9223372036854775808"), BAD),
        refused("CL 2^64", length(b"18446744073709551616"), BAD),
        refused("CL 2^64 and 5", length(b"18446744073709551621"), BAD),
        refused("CL 2^32 and 5, negative", length(b"-4294967291"), BAD),
        refused("CL of 40 digits", length(b"9999999999999999999999999999999999999999"), BAD),
        either("CL leading noughts", length(b"005"), BAD, body()),
        either("CL many leading noughts", length(b"00000000000000000000000000000005"), BAD, body()),
        arrives("CL without a space", post("Content-Length:5\r\n", "hello"), body()),
        arrives("CL amid white space", length(b"\t 5 \t"), body()),
        arrives("CL name in other case", post("cONTENT-lENGTH: 5\r\n", "hello"), body()),
        arrives("CL nought", post("Content-Length: 0\r\n", ""), Meant::post(b"")),
        arrives(
            "CL named by Connection",
            post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"),
            body(),
        ),
    ]
}

fn length_names_and_lines() -> Vec<Case> {
    let lines = |lines: &[u8]| post([lines, b"\r\n"].concat(), format!("hello{SMUGGLED}"));
    vec![
        refused("CL twice the same", lines(b"Content-Length: 5\r\nContent-Length: 5"), BAD),
        refused("CL twice, smaller first", lines(b"Content-Length: 5\r\nContent-Length: 40"), BAD),
        refused("CL twice, larger first", lines(b"Content-Length: 40\r\nContent-Length: 5"), BAD),
        refused("CL twice, nought first", lines(b"Content-Length: 0\r\nContent-Length: 5"), BAD),
        refused("CL then an empty one", lines(b"Content-Length: 5\r\nContent-Length:"), BAD),
        refused("CL behind an empty one", lines(b"Content-Length:\r\nContent-Length: 5"), BAD),
        refused("CL twice in other case", lines(b"Content-Length: 5\r\ncontent-length: 40"), BAD),
        refused("CL thrice", lines(b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5"), BAD),
        refused("CL space before the colon", lines(b"Content-Length : 5"), BAD),
        refused("CL tab before the colon", lines(b"Content-Length\t: 5"), BAD),
        refused("CL NUL before the colon", lines(b"Content-Length\0: 5"), BAD),
        refused("CL 85 before the colon", lines(b"Content-Length\x85: 5"), BAD),
        refused("CL junk before the colon", lines(b"Content-Length abcde: 5"), BAD),
        refused("CL underscore for the hyphen", lines(b"Content_Length: 5"), BAD),
        refused("CL beside its underscore twin", lines(b"Content-Length: 5\r\nContent_Length: 40"), BAD),
        refused("CL space for the hyphen", lines(b"Content Length: 5"), BAD),
        refused("CL folded", lines(b"Content-Length:\r\n 5"), BAD),
        refused("CL continued by a fold", lines(b"Content-Length: 5\r\n 0"), BAD),
        refused("CL hidden by a fold", lines(b"Foo: bar\r\n Content-Length: 5"), BAD),
        refused("CL hidden by a bare CR", lines(b"Foo: bar\rContent-Length: 5"), BAD),
        refused("CL hidden by a bare LF", lines(b"Foo: bar\nContent-Length: 5"), BAD),
        refused(
            "0.CL by a leading space",
            format!("GET /case HTTP/1.1\r\n Content-Length: 35\r\nHost: a\r\n\r\n{SMUGGLED}"),
            BAD,
        ),
        refused(
            "0.CL by a leading tab",
            format!("GET /case HTTP/1.1\r\n\tContent-Length: 35\r\nHost: a\r\n\r\n{SMUGGLED}"),
            BAD,
        ),
        refused(
            "0.CL by a line of white space",
            format!("GET /case HTTP/1.1\r\n \r\nContent-Length: 35\r\nHost: a\r\n\r\n{SMUGGLED}"),
            BAD,
        ),
        refused(
            "CL on the request line",
            "GET /case HTTP/1.1 Content-Length: 35\r\nHost: a\r\n\r\n",
            &[400, 505],
        ),
    ]
}

fn bodies_that_are_bodies() -> Vec<Case> {
    let with_length = |method: &str| {
        format!("{method} /case HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len())
            .into_bytes()
    };
    let in_chunks = |method: &str| {
        let head = format!("{method} /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        format!("{head}23\r\n{SMUGGLED}\r\n0\r\n\r\n").into_bytes()
    };
    let meant = |method: &str| Meant::new(method, "/case").body(SMUGGLED.as_bytes());
    vec![
        arrives("CL.0 POST", with_length("POST"), meant("POST")),
        arrives("CL.0 GET", with_length("GET"), meant("GET")),
        arrives("CL.0 HEAD", with_length("HEAD"), meant("HEAD")),
        arrives("CL.0 DELETE", with_length("DELETE"), meant("DELETE")),
        arrives("CL.0 OPTIONS", with_length("OPTIONS"), meant("OPTIONS")),
        arrives("CL.0 unknown method", with_length("FOO"), meant("FOO")),
        arrives("TE.0 POST", in_chunks("POST"), meant("POST")),
        arrives("TE.0 GET", in_chunks("GET"), meant("GET")),
        arrives("TE.0 HEAD", in_chunks("HEAD"), meant("HEAD")),
        arrives("TE.0 OPTIONS", in_chunks("OPTIONS"), meant("OPTIONS")),
        arrives("TE.0 unknown method", in_chunks("FOO"), meant("FOO")),
        outcomes(
            "a POST without a length has no body",
            post("", "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"),
            [Outcome::Arrives(Meant::post(b"")), Outcome::Arrives(Meant::get("/second"))],
        ),
        outcomes(
            "a line behind a body",
            post("Content-Length: 5\r\n", "hello!\r\n\r\n"),
            [Outcome::Arrives(Meant::post(b"hello")), Outcome::Refused(BAD)],
        ),
    ]
}

fn halves() -> Vec<Case> {
    vec![
        abandoned("half a request line", "GET /case HT"),
        abandoned("half a head", "GET /case HTTP/1.1\r\nHost: a\r\nX: "),
        abandoned("a head without its empty line", "GET /case HTTP/1.1\r\nHost: a\r\n"),
        abandoned("half a body by length", post("Content-Length: 10\r\n", "hello")),
        abandoned("a huge length", post("Content-Length: 9223372036854775807\r\n", SMUGGLED)),
        abandoned("half a chunk size", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n1")),
        abandoned("half a chunk", post("Transfer-Encoding: chunked\r\n", "a\r\nhello")),
        abandoned("a chunk without its end", post("Transfer-Encoding: chunked\r\n", "5\r\nhello")),
        abandoned("no last chunk", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")),
        abandoned("no end of trailers", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n")),
        abandoned("half a trailer", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX: y")),
        abandoned(
            "the largest chunk",
            post("Transfer-Encoding: chunked\r\n", format!("7fffffffffffffff\r\n{SMUGGLED}")),
        ),
    ]
}

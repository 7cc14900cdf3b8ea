//! Chunked bodies: sizes, extensions, line ends, trailers, and the limits on all of them.

use super::table::{
    BAD, Case, Meant, Outcome, SMUGGLED, TOO_MUCH, arrives, chunked, either, outcomes, refused_in_body,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(extensions());
    cases.extend(line_ends());
    cases.extend(trailers());
    cases.extend(limits());
    cases
}

fn hello() -> Meant {
    Meant::post(b"hello")
}

fn sizes() -> Vec<Case> {
    let size = |name, size: &[u8]| refused_in_body(name, sized(size), BAD);
    vec![
        size("size with 0x", b"0x5"),
        size("size with 0X", b"0X5"),
        size("size plus", b"+5"),
        size("size minus", b"-5"),
        size("size minus nought", b"-0"),
        size("size with an underscore", b"0_5"),
        size("size space before", b" 5"),
        size("size space behind", b"5 "),
        size("size tab before", b"\t5"),
        size("size tab behind", b"5\t"),
        size("size spaces behind", b"5   "),
        size("size VT behind", b"5\x0b"),
        size("size FF behind", b"5\x0c"),
        size("size NUL behind", b"5\0"),
        size("size NUL before", b"\x005"),
        size("size A0 behind", b"5\xa0"),
        size("size empty", b""),
        size("size suffix", b"5x"),
        size("size letters behind", b"5these-bytes-are-not-hex"),
        size("size not hex", b"z"),
        size("size comma", b"5,"),
        size("size list", b"5, 5"),
        size("size fraction", b"5.0"),
        size("size hash", b"#5"),
        size("size quoted", b"\"5\""),
        size("size full-width", "５".as_bytes()),
        size("size of 17 digits", b"00000000000000005"),
        size("size 2^64 and 5", b"10000000000000005"),
        size("size of 40 digits", b"ffffffffffffffffffffffffffffffffffffffff"),
        size("size 2^64 - 1", b"ffffffffffffffff"),
        size("size 2^63", b"8000000000000000"),
        size("size 2^64 - 5", b"fffffffffffffffb"),
        arrives("size of 16 digits", sized(b"0000000000000005"), hello()),
        arrives("size in capitals", chunked("A\r\n0123456789\r\n0\r\n\r\n"), Meant::post(b"0123456789")),
        arrives("size in small letters", chunked("a\r\n0123456789\r\n0\r\n\r\n"), Meant::post(b"0123456789")),
        arrives("last chunk of many noughts", chunked("5\r\nhello\r\n000000\r\n\r\n"), hello()),
        refused_in_body("last size with 0x", chunked(format!("5\r\nhello\r\n0x0\r\n\r\n{SMUGGLED}")), BAD),
        refused_in_body(
            "last size minus nought",
            chunked(format!("5\r\nhello\r\n-0\r\n\r\n{SMUGGLED}")),
            BAD,
        ),
        refused_in_body("last size empty", chunked(format!("5\r\nhello\r\n\r\n\r\n{SMUGGLED}")), BAD),
        refused_in_body(
            "last size with a space",
            chunked(format!("5\r\nhello\r\n0 \r\n\r\n{SMUGGLED}")),
            BAD,
        ),
        refused_in_body("size by its prefix", chunked(format!("0_2e\r\n\r\n{SMUGGLED}")), BAD),
    ]
}

/// "hello" as one chunk with this size line.
fn sized(line: &[u8]) -> Vec<u8> {
    chunked([line, b"\r\nhello\r\n0\r\n\r\n"].concat())
}

fn extensions() -> Vec<Case> {
    let bad = |name, extension: &[u8]| refused_in_body(name, sized(&[b"5", extension].concat()), BAD);
    let good = |name, extension: &str| arrives(name, sized(format!("5{extension}").as_bytes()), hello());
    vec![
        good("extension name", ";a"),
        good("extension value", ";a=b"),
        good("extension list", ";a=b;c;d=e"),
        good("extension quoted", ";a=\"b; c\\\"d\""),
        good("extension empty quotes", ";a=\"\""),
        good("extension with all token characters", ";!#$%&'*+-.^_`|~=!#$%&'*+-.^_`|~"),
        either("extension amid white space", sized(b"5; a = b"), BAD, hello()),
        either("extension quoted obs-text", sized(b"5;a=\"\xe9\""), BAD, hello()),
        arrives("extension on the last chunk", chunked("5\r\nhello\r\n0;a=b\r\n\r\n"), hello()),
        bad("extension behind a space", b" ;a"),
        bad("extension behind a tab", b"\t;a"),
        bad("extension without a name", b";"),
        bad("extension without a name but a value", b";=b"),
        bad("extension without a value", b";a="),
        bad("extension without a second name", b";a;"),
        bad("extension with two values", b";a=b=c"),
        bad("extension with two words", b";a b"),
        bad("extension with a space behind", b";a "),
        bad("extension with an open quote", b";a=\"b"),
        bad("extension with text behind the quote", b";a=\"b\"c"),
        bad("extension with an escaped last quote", b";a=\"b\\\""),
        bad("extension with a quoted name", b";\"a\"=b"),
        bad("extension with a comma", b",a"),
        bad("extension with brackets", b";a=[b]"),
        bad("extension with NUL", b";a\0"),
        bad("extension with quoted NUL", b";a=\"\0\""),
        bad("extension with VT", b";\x0ba"),
        bad("extension with DEL", b";a=\x7f"),
        bad("extension with obs-text in a token", b";a=\xe9"),
        bad("extension behind a bare CR", b"\r;a"),
        bad("extension with a bare CR", b";a\rb"),
        bad("extension with a quoted bare CR", b";a=\"\r\""),
        bad("extension with a bare LF", b";a\nb"),
        bad("extension with a quoted bare LF", b";a=\"\n\""),
        bad("extension with a quoted CRLF", b";a=\"\r\n\""),
    ]
}

fn line_ends() -> Vec<Case> {
    let bad = |name, body: &str| refused_in_body(name, chunked(format!("{body}{SMUGGLED}")), BAD);
    vec![
        bad("LF behind the size", "5\nhello\r\n0\r\n\r\n"),
        bad("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        bad("LF behind the last size", "5\r\nhello\r\n0\n\r\n"),
        bad("LF as the empty line", "5\r\nhello\r\n0\r\n\n"),
        bad("LF everywhere", "5\nhello\n0\n\n"),
        bad("CR behind the size", "5\rhello\r\n0\r\n\r\n"),
        bad("CR behind the data", "5\r\nhello\r0\r\n\r\n"),
        bad("CR behind the last size", "5\r\nhello\r\n0\r\r\n\r\n"),
        bad("CR as the empty line", "5\r\nhello\r\n0\r\n\rX\r\n"),
        bad("CR CR LF behind the size", "5\r\r\nhello\r\n0\r\n\r\n"),
        bad("LF CR behind the size", "5\n\rhello\r\n0\r\n\r\n"),
        bad("TERM.EXT by LF", "2\n;\r\nhi\r\n0\r\n\r\n"),
        bad("TERM.EXT by CR", "2\r;a\r\nhi\r\n0\r\n\r\n"),
        bad("EXT.TERM by LF", "2;\nhi\r\n23\r\n0\r\n\r\n"),
        bad("EXT.TERM by CR", "2;a\rhi\r\n23\r\n0\r\n\r\n"),
        bad("EXT.TERM with a name", "2;a\nhi\r\n23\r\n0\r\n\r\n"),
        bad("TERM.SPILL by LF", "5\r\nhello\n2\r\n0\r\n\r\n"),
        bad("SPILL.TERM, two bytes of data too many", "5\r\nhelloAA0\r\n\r\n"),
        bad("ONE.TWO, one byte for the end", "5\r\nhelloX0\r\n\r\n"),
        bad("TWO.ONE, LF then a chunk", "5\r\nhello\n0\n\r\n"),
        bad("ZERO.TWO, no end of the data", "5\r\nhello0\r\n\r\n"),
        bad("TWO.ZERO, two ends of the data", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        bad("junk behind the data", "5\r\nhelloWORLD\r\n0\r\n\r\n"),
        bad("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        bad("data longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        bad("an empty line before the first chunk", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        bad("no chunks at all", "\r\n"),
    ]
}

fn trailers() -> Vec<Case> {
    let trailer =
        |lines: &[u8]| chunked([b"5\r\nhello\r\n0\r\n", lines, b"\r\n\r\n", SMUGGLED.as_bytes()].concat());
    let bad = |name, lines: &[u8]| refused_in_body(name, trailer(lines), BAD);
    let dropped = |name, lines: &str| {
        let bytes =
            chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n"));
        let second = Outcome::Arrives(Meant::get("/second"));
        outcomes(name, bytes, [Outcome::Arrives(hello().without("x-one")), second])
    };
    let forbidden = |name, line: &str| {
        let bytes = chunked(format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n"));
        either(name, bytes, BAD, hello())
    };
    vec![
        dropped("a trailer", "X-One: evil"),
        dropped("three trailers", "X-One: evil\r\nX-Two: evil\r\nX-Three: evil"),
        forbidden("trailer Content-Length", "Content-Length: 40"),
        forbidden("trailer Transfer-Encoding", "Transfer-Encoding: chunked"),
        forbidden("trailer Host", "Host: evil"),
        forbidden("trailer Authorization", "Authorization: evil"),
        forbidden("trailer X-Forwarded-For", "X-Forwarded-For: evil"),
        forbidden("trailer Connection", "Connection: evil"),
        forbidden("trailer with an underscore", "X_One: evil"),
        bad("trailer without a colon", b"X-One"),
        bad("trailer with a space before the colon", b"X-One : y"),
        bad("trailer without a name", b": y"),
        bad("trailer with a bad name", b"X One: y"),
        bad("trailer folded", b"X-One: y\r\n z"),
        bad("trailer behind white space", b" X-One: y"),
        bad("trailer with NUL", b"X-One: y\0"),
        bad("trailer with a bare CR", b"X-One: y\rz"),
        bad("trailer with a bare LF", b"X-One: y\nX-Two: z"),
        bad("trailer that is a request line", b"GET /smuggled HTTP/1.1"),
    ]
}

fn limits() -> Vec<Case> {
    let extension = |length: usize| format!(";{}", "e".repeat(length - 1));
    let many = |count: usize| format!("1{}\r\nx\r\n", extension(200)).repeat(count) + "0\r\n\r\n";
    vec![
        arrives("extension of 256 bytes", sized(format!("5{}", extension(256)).as_bytes()), hello()),
        refused_in_body("extension of 300 bytes", sized(format!("5{}", extension(300)).as_bytes()), TOO_MUCH),
        refused_in_body(
            "extension of 100,000 bytes",
            sized(format!("5{}", extension(100_000)).as_bytes()),
            TOO_MUCH,
        ),
        arrives("extensions of 12,000 bytes in all", chunked(many(60)), Meant::post(&[b'x'; 60])),
        refused_in_body("extensions of 18,000 bytes in all", chunked(many(90)), TOO_MUCH),
        refused_in_body("endless size", chunked("0".repeat(10_000)), BAD),
        arrives("16 trailers", chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", "T: t\r\n".repeat(16))), hello()),
        refused_in_body(
            "17 trailers",
            chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", "T: t\r\n".repeat(17))),
            TOO_MUCH,
        ),
        refused_in_body(
            "trailers of 9,000 bytes",
            chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", format!("T: {}\r\n", "t".repeat(995)).repeat(9))),
            TOO_MUCH,
        ),
        refused_in_body("endless trailer", chunked(format!("0\r\nT: {}", "t".repeat(20_000))), TOO_MUCH),
    ]
}

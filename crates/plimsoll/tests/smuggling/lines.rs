//! The head's lines: request line, versions, line ends, field names and values, and their limits.

use super::table::{BAD, Case, Meant, SMUGGLED, VERSION, arrives, either, get, refused};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = request_lines();
    cases.extend(versions());
    cases.extend(other_protocols());
    cases.extend(line_ends());
    cases.extend(names());
    cases.extend(values());
    cases.extend(limits());
    cases
}

/// A request with this first line.
fn first(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: a\r\n\r\n"].concat()
}

fn case() -> Meant {
    Meant::get("/case")
}

fn request_lines() -> Vec<Case> {
    let bad = |name, line: &[u8]| refused(name, first(line), VERSION);
    vec![
        bad("two spaces before the target", b"GET  /case HTTP/1.1"),
        bad("two spaces behind the target", b"GET /case  HTTP/1.1"),
        bad("a space behind the version", b"GET /case HTTP/1.1 "),
        bad("a space before the method", b" GET /case HTTP/1.1"),
        bad("a tab before the target", b"GET\t/case HTTP/1.1"),
        bad("a tab behind the target", b"GET /case\tHTTP/1.1"),
        bad("tabs for spaces", b"GET\t/case\tHTTP/1.1"),
        bad("VT for a space", b"GET\x0b/case HTTP/1.1"),
        bad("FF for a space", b"GET /case\x0cHTTP/1.1"),
        bad("CR for a space", b"GET /case\rHTTP/1.1"),
        bad("LF for a space", b"GET /case\nHTTP/1.1"),
        bad("A0 for a space", b"GET\xa0/case HTTP/1.1"),
        bad("a space in the target", b"GET /ca se HTTP/1.1"),
        bad("a second request line in the target", b"GET /case HTTP/1.1\r GET /smuggled HTTP/1.1"),
        bad("two versions", b"GET /case HTTP/1.1 HTTP/1.1"),
        bad("no target", b"GET HTTP/1.1"),
        bad("an empty target", b"GET  HTTP/1.1"),
        bad("only a method", b"GET"),
        bad("no method", b"/case HTTP/1.1"),
        bad("a method with a colon", b"GET: /case HTTP/1.1"),
        bad("a method with a brace", b"G{T /case HTTP/1.1"),
        bad("a method with a slash", b"GET/x /case HTTP/1.1"),
        bad("a method with quotes", b"\"GET\" /case HTTP/1.1"),
        bad("a method with NUL", b"GE\0T /case HTTP/1.1"),
        bad("a method with obs-text", b"G\xc9T /case HTTP/1.1"),
        bad("a method behind a byte order mark", b"\xef\xbb\xbfGET /case HTTP/1.1"),
        bad("a target with NUL", b"GET /ca\0se HTTP/1.1"),
        bad("a target with DEL", b"GET /ca\x7fse HTTP/1.1"),
        bad("a target with a control", b"GET /ca\x01se HTTP/1.1"),
        bad("a target with ESC", b"GET /ca\x1bse HTTP/1.1"),
        bad("a target with obs-text", b"GET /\xe9case HTTP/1.1"),
        bad("a target with UTF-8", "GET /é/case HTTP/1.1".as_bytes()),
        bad("a target with a fragment", b"GET /case#evil HTTP/1.1"),
        bad("a target with a bare CR", b"GET /ca\rse HTTP/1.1"),
        arrives("a lower-case method", first("get /case HTTP/1.1"), Meant::new("get", "/case")),
        arrives("a method with a hyphen", first("M-SEARCH /case HTTP/1.1"), Meant::new("M-SEARCH", "/case")),
        arrives(
            "a method of odd token characters",
            first("!#$%&'*+.^_`|~ /case HTTP/1.1"),
            Meant::new("!#$%&'*+.^_`|~", "/case"),
        ),
        arrives(
            "a target with a query",
            first("GET /case?a=b&c=/../%2e%00 HTTP/1.1"),
            Meant::get("/case?a=b&c=/../%2e%00"),
        ),
        arrives(
            "a target with dots",
            first("GET /x/../%2e%2e/./case HTTP/1.1"),
            Meant::get("/x/../%2e%2e/./case"),
        ),
        arrives("a target with two slashes", first("GET //evil/case HTTP/1.1"), Meant::get("//evil/case")),
        arrives(
            "a target with an encoded CRLF",
            first("GET /%0d%0ax/case HTTP/1.1"),
            Meant::get("/%0d%0ax/case"),
        ),
        arrives("a target with a bad escape", first("GET /%zz%/case HTTP/1.1"), Meant::get("/%zz%/case")),
        arrives(
            "a target with odd characters",
            first("GET /<>{}|\\^`\"/case HTTP/1.1"),
            Meant::get("/<>{}|\\^`\"/case"),
        ),
    ]
}

fn versions() -> Vec<Case> {
    let version = |name, version: &str| refused(name, first(format!("GET /case {version}")), VERSION);
    vec![
        version("HTTP/0.9", "HTTP/0.9"),
        version("HTTP/1.2", "HTTP/1.2"),
        version("HTTP/1.9", "HTTP/1.9"),
        version("HTTP/2.0", "HTTP/2.0"),
        version("HTTP/2", "HTTP/2"),
        version("HTTP/3.0", "HTTP/3.0"),
        version("HTTP/9.9", "HTTP/9.9"),
        version("HTTP/1.10", "HTTP/1.10"),
        version("HTTP/01.1", "HTTP/01.1"),
        version("HTTP/1.01", "HTTP/1.01"),
        version("HTTP/1", "HTTP/1"),
        version("HTTP/1.", "HTTP/1."),
        version("HTTP/.1", "HTTP/.1"),
        version("HTTP/11", "HTTP/11"),
        version("HTTP/1,1", "HTTP/1,1"),
        version("HTTP/1.1x", "HTTP/1.1x"),
        version("HTTP/1.1.1", "HTTP/1.1.1"),
        version("HTTP/ 1.1", "HTTP/ 1.1"),
        version("HTTP /1.1", "HTTP /1.1"),
        version("HTTP/+1.1", "HTTP/+1.1"),
        version("HTTP/4294967297.1", "HTTP/4294967297.1"),
        version("http/1.1", "http/1.1"),
        version("Http/1.1", "Http/1.1"),
        version("HTTPS/1.1", "HTTPS/1.1"),
        version("HTP/1.1", "HTP/1.1"),
        version("ICAP/1.0", "ICAP/1.0"),
        version("RTSP/1.0", "RTSP/1.0"),
        version("the version 1.1 alone", "1.1"),
        refused("a version with NUL", first("GET /case HTTP/1.1\0"), VERSION),
        refused("a version with VT", first("GET /case HTTP/1.1\x0b"), VERSION),
        refused("HTTP/0.9, the short form", "GET /case\r\n\r\n", BAD),
        refused("HTTP/0.9 with fields", "GET /case\r\nHost: a\r\n\r\n", BAD),
    ]
}

fn other_protocols() -> Vec<Case> {
    vec![
        refused("the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION),
        refused("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", BAD),
        refused(
            "a PROXY line",
            "PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n",
            BAD,
        ),
        refused(
            "a PROXY v2 header",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
            BAD,
        ),
        refused("SMTP", "EHLO evil\r\nMAIL FROM:<a@b>\r\n\r\n", BAD),
        refused("a response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", VERSION),
        refused("JSON", "{\"GET\": \"/case\"}\r\n\r\n", BAD),
        refused("noise", b"\x80\xff\xfe\x01\x02\x03\x04\r\n\r\n", BAD),
    ]
}

fn line_ends() -> Vec<Case> {
    vec![
        arrives("an empty line before", "\r\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n", case()),
        refused("two empty lines before", "\r\n\r\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        refused("LF before", "\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        refused("CR before", "\rGET /case HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        refused("a line of white space before", " \r\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        refused("NUL before", "\0GET /case HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        refused("LF behind the request line", "GET /case HTTP/1.1\nHost: a\r\n\r\n", BAD),
        refused("LF behind a field", "GET /case HTTP/1.1\r\nHost: a\n\r\n", BAD),
        refused("LF as the head's end", "GET /case HTTP/1.1\r\nHost: a\r\n\n", BAD),
        refused("LF for all line ends", "GET /case HTTP/1.1\nHost: a\n\n", BAD),
        refused("CR behind the request line", "GET /case HTTP/1.1\rHost: a\r\n\r\n", BAD),
        refused("CR behind a field", "GET /case HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", BAD),
        refused("CR for all line ends", "GET /case HTTP/1.1\rHost: a\r\rX\r\n\r\n", BAD),
        refused("CR CR LF behind the request line", "GET /case HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD),
        refused("CR CR LF behind a field", "GET /case HTTP/1.1\r\nHost: a\r\r\n\r\n", BAD),
        refused("CR CR LF as the head's end", "GET /case HTTP/1.1\r\nHost: a\r\n\r\r\n", BAD),
        refused("LF CR as a line end", "GET /case HTTP/1.1\n\rHost: a\n\r\n\r", BAD),
        refused("CR LF CR Z", format!("GET /case HTTP/1.1\r\nHost: a\r\n\rZ{SMUGGLED}"), BAD),
        refused(
            "a request hidden by LF LF",
            format!("GET /case HTTP/1.1\r\nHost: a\r\nX:\n\n{SMUGGLED}"),
            BAD,
        ),
        refused(
            "a request hidden by CR CR",
            format!("GET /case HTTP/1.1\r\nHost: a\r\nX:\r\r{SMUGGLED}"),
            BAD,
        ),
        refused("NEL as a line end", b"GET /case HTTP/1.1\r\nHost: a\xc2\x85X: y\r\n\r\n", BAD),
    ]
}

/// A GET with one more field line.
fn with(line: &[u8]) -> Vec<u8> {
    get([line, b"\r\n"].concat())
}

fn names() -> Vec<Case> {
    let bad = |name, line: &[u8]| refused(name, with(line), BAD);
    vec![
        bad("a name with a space before the colon", b"X : y"),
        bad("a name with a tab before the colon", b"X\t: y"),
        bad("a name with VT before the colon", b"X\x0b: y"),
        bad("a name with a space", b"X Y: z"),
        bad("a name with parentheses", b"X(Y): z"),
        bad("a name with quotes", b"\"X\": z"),
        bad("a name with a slash", b"X/Y: z"),
        bad("a name with a backslash", b"X\\Y: z"),
        bad("a name with at", b"X@Y: z"),
        bad("a name with brackets", b"X[0]: z"),
        bad("a name with braces", b"{X}: z"),
        bad("a name with a semicolon", b"X;Y: z"),
        bad("a name with a comma", b"X,Y: z"),
        bad("a name with equals", b"X=Y: z"),
        bad("a name with angle brackets", b"<X>: z"),
        bad("a name with a question mark", b"X?: z"),
        bad("a name with NUL", b"X\0Y: z"),
        bad("a name with DEL", b"X\x7f: z"),
        bad("a name with BEL", b"X\x07: z"),
        bad("a name with 85", b"X\x85: z"),
        bad("a name with A0", b"X\xa0: z"),
        bad("a name with FF", b"\xffX: z"),
        bad("a name with UTF-8", "Ünder: z".as_bytes()),
        bad("a name with CR", b"X\rY: z"),
        bad("a name with LF", b"X\nY: z"),
        bad("an empty name", b": z"),
        bad("an empty name and value", b":"),
        bad("no colon", b"X"),
        bad("no colon in two words", b"X y"),
        bad("a request line as a field", b"GET /smuggled HTTP/1.1"),
        bad("a name with an underscore", b"X_Evil: z"),
        bad("an underscore as a name", b"_: z"),
        bad("X_Forwarded_For", b"X_Forwarded_For: evil"),
        bad("X-Forwarded_For", b"X-Forwarded_For: evil"),
        bad("a name behind white space", b" X: y"),
        bad("a name behind a tab", b"\tX: y"),
        bad("a line of a space", b" "),
        bad("a line of a tab", b"\t"),
        arrives(
            "a name of all token characters",
            with(b"!#$%&'*+-.^`|~09aZ: y"),
            case().with("!#$%&'*+-.^`|~09aZ", "y"),
        ),
        arrives("a name of one digit", with(b"0: y"), case().with("0", "y")),
    ]
}

fn values() -> Vec<Case> {
    let bad = |name, line: &[u8]| refused(name, with(line), BAD);
    vec![
        bad("a value with NUL", b"X: y\0z"),
        bad("a value that is NUL", b"X: \0"),
        bad("a value with a bare CR", b"X: y\rz"),
        bad("a value that is CR", b"X: \r"),
        bad("a value with a bare LF", b"X: y\nz"),
        bad("a value with a field behind LF", b"X: y\nEvil: z"),
        bad("a value with BEL", b"X: y\x07"),
        bad("a value with ESC", b"X: \x1b[2J"),
        bad("a value with VT", b"X: y\x0bz"),
        bad("a value with FF", b"X: y\x0cz"),
        bad("a value with DEL", b"X: y\x7f"),
        bad("a value with backspace", b"X: y\x08"),
        bad("a value with a unit separator", b"X: y\x1f"),
        bad("a folded value", b"X: y\r\n z"),
        bad("a value folded by a tab", b"X: y\r\n\tz"),
        bad("an empty value folded", b"X:\r\n z"),
        bad("a fold of only a space", b"X: y\r\n "),
        arrives("an empty value", with(b"X:"), case().with("x", "")),
        arrives("a value amid white space", with(b"X: \t y \t "), case().with("x", "y")),
        arrives("a value with a tab", with(b"X: y\tz"), case().with("x", "y\tz")),
        arrives("a value with colons", with(b"X: y: z:"), case().with("x", "y: z:")),
        arrives("a value in UTF-8", with("X: é".as_bytes()), case().with("x", "é")),
        arrives("a value of one more field", with(b"X: y\r\nZ: 1"), case().with("x", "y").with("z", "1")),
    ]
}

fn limits() -> Vec<Case> {
    let target = |length: usize| format!("/{}/case", "t".repeat(length));
    let large = |length: usize| with(format!("X: {}", "x".repeat(length)).as_bytes());
    let many = |count: usize| get("X: y\r\n".repeat(count));
    vec![
        arrives(
            "a target of 8,000 bytes",
            first(format!("GET {} HTTP/1.1", target(7994))),
            Meant::get(&target(7994)),
        ),
        refused("a target of 8,300 bytes", first(format!("GET {} HTTP/1.1", target(8294))), &[414]),
        refused("a target of 100,000 bytes", first(format!("GET {} HTTP/1.1", target(100_000))), &[414]),
        refused("an endless target", format!("GET {}", target(20_000)), &[414]),
        refused("an endless method", "M".repeat(50_000), &[400, 414, 431, 501]),
        refused(
            "an endless version",
            format!("GET /case HTTP/1.{}", "1".repeat(50_000)),
            &[400, 414, 431, 505],
        ),
        arrives("a field of 20,000 bytes", large(20_000), case()),
        refused("a field of 33,000 bytes", large(33_000), &[431]),
        refused("a field of 200,000 bytes", large(200_000), &[431]),
        refused(
            "an endless field",
            format!("GET /case HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(50_000)),
            &[431],
        ),
        refused(
            "an endless name",
            format!("GET /case HTTP/1.1\r\nHost: a\r\n{}", "x".repeat(50_000)),
            &[431],
        ),
        refused("40 fields of 1,000 bytes", get(format!("X: {}\r\n", "x".repeat(995)).repeat(40)), &[431]),
        arrives("90 fields", many(89), case()),
        refused("110 fields", many(109), &[431]),
        refused("2,000 fields", many(1_999), &[431]),
        either("exactly 100 fields", many(99), &[431], case()),
    ]
}

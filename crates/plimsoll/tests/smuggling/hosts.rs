//! Who is asked: Host, the forms of a target, and methods that make tunnels.

use super::table::{BAD, Case, Meant, SMUGGLED, arrives, either, refused};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = hosts();
    cases.extend(absolute_forms());
    cases.extend(other_forms());
    cases.extend(methods());
    cases
}

fn with_hosts(lines: &[u8]) -> Vec<u8> {
    [b"GET /case HTTP/1.1\r\n", lines, b"\r\n"].concat()
}

fn hosts() -> Vec<Case> {
    let bad = |name, value: &[u8]| refused(name, with_hosts(&[b"Host: ", value, b"\r\n"].concat()), BAD);
    let good = |name, value: &'static str| {
        let meant = Meant::get("/case").with("host", value);
        arrives(name, with_hosts(format!("Host: {value}\r\n").as_bytes()), meant)
    };
    vec![
        refused("no Host", with_hosts(b""), BAD),
        refused("no Host but other fields", with_hosts(b"X: y\r\nX-Host: evil\r\n"), BAD),
        refused("Host twice", with_hosts(b"Host: a\r\nHost: evil\r\n"), BAD),
        refused("Host twice the same", with_hosts(b"Host: a\r\nHost: a\r\n"), BAD),
        refused("Host twice in other case", with_hosts(b"Host: a\r\nhost: evil\r\n"), BAD),
        refused("Host twice, far apart", with_hosts(b"Host: a\r\nX: y\r\nZ: z\r\nHOST: evil\r\n"), BAD),
        refused("Host then an empty one", with_hosts(b"Host: a\r\nHost:\r\n"), BAD),
        refused("Host space before the colon", with_hosts(b"Host : evil\r\n"), BAD),
        refused("Host beside one with a space", with_hosts(b"Host: a\r\nHost : evil\r\n"), BAD),
        refused("Host beside one folded", with_hosts(b"Host: a\r\n Host: evil\r\n"), BAD),
        refused("Host beside one indented", with_hosts(b" Host: evil\r\nHost: a\r\n"), BAD),
        refused("Host folded", with_hosts(b"Host:\r\n a\r\n"), BAD),
        refused("Host named with NUL", with_hosts(b"Host\0: a\r\n"), BAD),
        refused("Host beside one hidden by CR", with_hosts(b"Host: a\rHost: evil\r\n"), BAD),
        bad("Host empty", b""),
        bad("Host white space", b" \t "),
        bad("Host with user", b"user@a"),
        bad("Host with user and password", b"user:password@a"),
        bad("Host with user and port", b"a:80@evil"),
        bad("Host list", b"a, evil"),
        bad("Host joined list", b"a,evil"),
        bad("Host two words", b"a evil"),
        bad("Host with a tab", b"a\tevil"),
        bad("Host with a path", b"a/evil"),
        bad("Host with a slash", b"a/"),
        bad("Host with a backslash", b"a\\evil"),
        bad("Host with a query", b"a?evil"),
        bad("Host with a fragment", b"a#evil"),
        bad("Host with a scheme", b"http://a"),
        bad("Host with quotes", b"\"a\""),
        bad("Host with angle brackets", b"<a>"),
        bad("Host with a brace", b"{a}"),
        bad("Host with a caret", b"a^b"),
        bad("Host with a pipe", b"a|b"),
        bad("Host with a backtick", b"a`b"),
        bad("Host with NUL", b"a\0evil"),
        bad("Host with CR", b"a\revil"),
        bad("Host with LF", b"a\nevil"),
        bad("Host with DEL", b"a\x7f"),
        bad("Host with obs-text", b"\xe9"),
        bad("Host in UTF-8", "é".as_bytes()),
        bad("Host with a word for a port", b"a:http"),
        bad("Host with two ports", b"a:80:90"),
        bad("Host with a negative port", b"a:-80"),
        bad("Host with a signed port", b"a:+80"),
        bad("Host with a space before the port", b"a :80"),
        bad("Host with a space in the port", b"a:8 0"),
        bad("Host only a port", b":80"),
        bad("Host only a colon", b":"),
        bad("Host IPv6 without brackets", b"::1"),
        bad("Host IPv6 without its end", b"[::1"),
        bad("Host IPv6 without its start", b"::1]"),
        bad("Host IPv6 with junk behind", b"[::1]evil"),
        bad("Host IPv6 of words", b"[evil]"),
        bad("Host IPv6 of nothing", b"[]"),
        bad("Host IPv6 too long", b"[1:2:3:4:5:6:7:8:9]"),
        bad("Host IPv4 in brackets", b"[127.0.0.1]"),
        bad("Host IPv6 with a path", b"[::1]/evil"),
        bad("Host half an escape", b"a%2"),
        bad("Host escape of no hex", b"a%zz"),
        good("Host name", "a"),
        good("Host spelled", "WWW.Example.com"),
        good("Host with a port", "example.com:8080"),
        good("Host IPv4", "127.0.0.1:80"),
        good("Host IPv6", "[2001:db8::1]"),
        good("Host IPv6 with a port", "[::1]:8080"),
        good("Host with an underscore", "a_b.example"),
        good("Host with a last dot", "example.com."),
        either("Host with an empty port", with_hosts(b"Host: a:\r\n"), BAD, Meant::get("/case")),
        either("Host with a large port", with_hosts(b"Host: a:65536\r\n"), BAD, Meant::get("/case")),
        either("Host with an escape", with_hosts(b"Host: a%41\r\n"), BAD, Meant::get("/case")),
        either("Host with sub-delims", with_hosts(b"Host: a!$&'()*+;=\r\n"), BAD, Meant::get("/case")),
        arrives(
            "X-Host is not Host",
            with_hosts(b"Host: a\r\nX-Host: b\r\n"),
            Meant::get("/case").with("host", "a"),
        ),
    ]
}

/// A request for this target at Host `a`.
fn target(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn absolute_forms() -> Vec<Case> {
    let bad = |name, text: &str| refused(name, target(text), &[400, 421]);
    let meant = |target: &str| Meant::get(target).with("host", "a");
    vec![
        bad("absolute form of another host", "http://evil/case"),
        bad("absolute form of a host that begins alike", "http://a.evil/case"),
        bad("absolute form of another port", "http://a:81/case"),
        bad("absolute form with user", "http://user@a/case"),
        bad("absolute form with user and password", "http://a:b@a/case"),
        bad("absolute form with the host as user", "http://a@evil/case"),
        bad("absolute form with the host behind an at", "http://evil@a/case"),
        bad("absolute form without host", "http:///case"),
        bad("absolute form with only a port", "http://:80/case"),
        bad("absolute form with one slash", "http:/a/case"),
        bad("absolute form without slashes", "http:a/case"),
        bad("absolute form with three slashes", "http:///a/case"),
        bad("absolute form with a backslash", "http://a\\evil/case"),
        bad("absolute form of ftp", "ftp://a/case"),
        bad("absolute form of ws", "ws://a/case"),
        bad("absolute form of file", "file:///case"),
        bad("absolute form of javascript", "javascript:evil"),
        bad("absolute form with a bad port", "http://a:x/case"),
        bad("absolute form with a list", "http://a,evil/case"),
        bad("absolute form with a bad scheme", "ht!tp://a/case"),
        refused("absolute form without Host", "GET http://a/case HTTP/1.1\r\n\r\n", BAD),
        refused(
            "absolute form with two Hosts",
            "GET http://a/case HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            BAD,
        ),
        refused("absolute form with an empty Host", "GET http://a/case HTTP/1.1\r\nHost:\r\n\r\n", BAD),
        arrives("absolute form", target("http://a/case?b"), meant("/case?b")),
        arrives(
            "absolute form in other case",
            "GET HTTP://Example.COM/case HTTP/1.1\r\nHost: example.com\r\n\r\n",
            Meant::get("/case"),
        ),
        arrives("absolute form without a path", target("http://a"), meant("/")),
        arrives("absolute form with only a query", target("http://a?b=/case"), meant("/?b=/case")),
        arrives("absolute form of https", target("https://a/case"), meant("/case")),
    ]
}

fn other_forms() -> Vec<Case> {
    let bad = |name, text: &str| refused(name, target(text), BAD);
    let options = |target: &str| format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    vec![
        bad("a target without a slash", "case"),
        bad("a target that is a host", "a"),
        bad("a target that is a host and port", "a:80"),
        bad("a target that is an address", "127.0.0.1:80"),
        bad("a target of dots", "../case"),
        bad("a target that is a query", "?case"),
        bad("a target with a backslash first", "\\case"),
        bad("a star for GET", "*"),
        bad("a star and more", "*/case"),
        refused("a star for POST", "POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", BAD),
        refused("OPTIONS of a star and more", options("*case"), BAD),
        refused("OPTIONS of a host", options("a:80"), BAD),
        arrives("OPTIONS of a star", options("*"), Meant::new("OPTIONS", "*")),
        arrives("OPTIONS of a path", options("/case"), Meant::new("OPTIONS", "/case")),
    ]
}

fn methods() -> Vec<Case> {
    const TUNNEL: &[u16] = &[400, 403, 405, 501];
    vec![
        refused("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", TUNNEL),
        refused("CONNECT elsewhere", "CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", TUNNEL),
        refused(
            "CONNECT with a request behind",
            format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{SMUGGLED}"),
            TUNNEL,
        ),
        refused(
            "CONNECT with a body",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello",
            TUNNEL,
        ),
        refused("CONNECT of a path", "CONNECT /case HTTP/1.1\r\nHost: a\r\n\r\n", TUNNEL),
        refused("CONNECT in absolute form", "CONNECT http://a/case HTTP/1.1\r\nHost: a\r\n\r\n", TUNNEL),
        refused("CONNECT in 1.0", "CONNECT a:80 HTTP/1.0\r\n\r\n", TUNNEL),
        refused("TRACE", "TRACE /case HTTP/1.1\r\nHost: a\r\nCookie: evil\r\n\r\n", TUNNEL),
        refused(
            "TRACE with a body",
            "TRACE /case HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            TUNNEL,
        ),
        arrives(
            "a method like CONNECT",
            "connect /case HTTP/1.1\r\nHost: a\r\n\r\n",
            Meant::new("connect", "/case"),
        ),
    ]
}

//! What a request means beyond its own bytes: hop-by-hop fields, forwarding, upgrades, Expect, HTTP/1.0, pipelining.

use super::table::{BAD, Case, Meant, Outcome, SMUGGLED, arrives, get, outcomes, post, refused};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = hop_by_hop();
    cases.extend(forwarded());
    cases.extend(upgrades());
    cases.extend(expectations());
    cases.extend(old_clients());
    cases.extend(pipelines());
    cases
}

fn case() -> Meant {
    Meant::get("/case")
}

fn hop_by_hop() -> Vec<Case> {
    vec![
        arrives(
            "Connection names a field",
            get("Connection: X-Secret\r\nX-Secret: evil\r\n"),
            case().without("x-secret"),
        ),
        arrives(
            "Connection names a field in other case",
            get("connection: x-SECRET\r\nX-Secret: evil\r\nX-Other: y\r\n"),
            case().without("x-secret").with("x-other", "y"),
        ),
        arrives(
            "Connection names a field that came before",
            get("X-Secret: evil\r\nConnection: x-secret\r\n"),
            case().without("x-secret"),
        ),
        arrives(
            "Connection names a field twice there",
            get("X-Secret: evil\r\nConnection: x-secret\r\nX-Secret: evil\r\n"),
            case().without("x-secret"),
        ),
        arrives(
            "Connection lists fields",
            get("Connection: keep-alive ,\tX-One,, X-Two\r\nX-One: evil\r\nX-Two: evil\r\nX-Three: y\r\n"),
            case().without("x-one").without("x-two").with("x-three", "y"),
        ),
        arrives(
            "two Connection lines name fields",
            get("Connection: X-One\r\nX-One: evil\r\nConnection: X-Two\r\nX-Two: evil\r\n"),
            case().without("x-one").without("x-two"),
        ),
        arrives(
            "Connection names a cookie",
            get("Connection: Cookie\r\nCookie: evil\r\n"),
            case().without("cookie"),
        ),
        arrives("Connection names Host", get("Connection: Host\r\n"), case().with("host", "a")),
        arrives("Connection names itself", get("Connection: Connection\r\n"), case()),
        arrives("Connection names nothing", get("Connection:\r\n"), case()),
        arrives(
            "Connection names a field that is not there",
            get("Connection: X-None\r\n"),
            case().without("x-none"),
        ),
        arrives(
            "Connection names our fields",
            get("Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host\r\n"),
            case()
                .with("x-forwarded-for", "127.0.0.1")
                .with("x-forwarded-proto", "http")
                .with("x-forwarded-host", "a"),
        ),
        arrives(
            "Connection closes and names",
            get("Connection: close, X-Secret\r\nX-Secret: evil\r\n"),
            case().without("x-secret").closing(),
        ),
        arrives(
            "Keep-Alive",
            get("Connection: keep-alive\r\nKeep-Alive: timeout=evil\r\n"),
            case().without("keep-alive"),
        ),
        arrives("Keep-Alive unnamed", get("Keep-Alive: timeout=evil\r\n"), case().without("keep-alive")),
        arrives("Proxy-Connection", get("Proxy-Connection: evil\r\n"), case().without("proxy-connection")),
        arrives(
            "Proxy-Connection does not close",
            get("Proxy-Connection: close\r\n"),
            case().without("proxy-connection"),
        ),
        arrives("TE", get("Connection: TE\r\nTE: trailers, evil\r\n"), case().without("te")),
        arrives("TE unnamed", get("TE: evil;q=0.5\r\n"), case().without("te")),
        arrives(
            "end-to-end fields pass in order",
            get(
                "Accept: x\r\nCookie: b=1\r\nAuthorization: Basic eA==\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n",
            ),
            case()
                .with("accept", "x")
                .with("cookie", "b=1")
                .with("authorization", "Basic eA==")
                .with("pragma", "no-cache"),
        ),
    ]
}

fn forwarded() -> Vec<Case> {
    let ours = || case().with("x-forwarded-for", "127.0.0.1");
    vec![
        arrives("X-Forwarded-For of a stranger", get("X-Forwarded-For: evil\r\n"), ours()),
        arrives("X-Forwarded-For twice", get("X-Forwarded-For: evil\r\nx-forwarded-for: evil\r\n"), ours()),
        arrives(
            "X-Forwarded-Proto of a stranger",
            get("X-Forwarded-Proto: evil\r\n"),
            case().with("x-forwarded-proto", "http"),
        ),
        arrives(
            "X-Forwarded-Host of a stranger",
            get("X-Forwarded-Host: evil\r\n"),
            case().with("x-forwarded-host", "a"),
        ),
        arrives("Forwarded of a stranger", get("Forwarded: for=evil;host=evil\r\n"), case()),
        arrives(
            "a stranger's fields named by Connection",
            get("Connection: X-Forwarded-For, Forwarded\r\nX-Forwarded-For: evil\r\nForwarded: for=evil\r\n"),
            ours(),
        ),
    ]
}

fn upgrades() -> Vec<Case> {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let asked = || case().with("upgrade", "websocket");
    vec![
        arrives(
            "h2c upgrade",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            ),
            case().without("upgrade").without("http2-settings"),
        ),
        arrives(
            "h2c upgrade with half its names",
            get("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
            case().without("upgrade"),
        ),
        arrives("h2c upgrade unnamed", get("Upgrade: h2c\r\n"), case().without("upgrade")),
        arrives(
            "h2c upgrade in capitals",
            get("Connection: upgrade\r\nUpgrade: H2C\r\n"),
            case().without("upgrade"),
        ),
        arrives("h2 upgrade", get("Connection: upgrade\r\nUpgrade: h2\r\n"), case().without("upgrade")),
        outcomes(
            "h2c upgrade with the preface behind",
            [get("Connection: Upgrade\r\nUpgrade: h2c\r\n"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()]
                .concat(),
            [Outcome::Arrives(case()), Outcome::Refused(&[400, 505])],
        ),
        arrives("TLS upgrade", get("Connection: upgrade\r\nUpgrade: TLS/1.0\r\n"), case().without("upgrade")),
        arrives(
            "unknown upgrade",
            get("Connection: upgrade\r\nUpgrade: evil\r\n"),
            case().without("upgrade"),
        ),
        arrives("websocket upgrade unnamed", get("Upgrade: websocket\r\n"), case().without("upgrade")),
        arrives("an upgrade to nothing", get("Connection: upgrade\r\n"), case().without("upgrade")),
        arrives(
            "websocket upgrade in 1.0",
            format!("GET /case HTTP/1.0\r\nHost: a\r\n{websocket}\r\n"),
            case().without("upgrade").closing(),
        ),
        outcomes(
            "bytes behind an upgrade that the server declines",
            [get(websocket), b"\x81\x05hello\r\n\r\n".to_vec()].concat(),
            [Outcome::Arrives(asked()), Outcome::Ends(BAD)],
        ),
    ]
}

fn expectations() -> Vec<Case> {
    const FAILED: &[u16] = &[417];
    let expect = |value: &str| post(format!("Content-Length: 35\r\nExpect: {value}\r\n"), SMUGGLED);
    let body = || Meant::post(SMUGGLED.as_bytes());
    vec![
        arrives("Expect with the body at once", expect("100-continue"), body()),
        arrives("Expect in other case", expect("100-CONTINUE"), body()),
        arrives(
            "Expect with chunks",
            post(
                "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
                format!("23\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            ),
            body(),
        ),
        arrives("Expect without a body", get("Expect: 100-continue\r\n"), case()),
        arrives(
            "Expect named by Connection",
            post("Connection: Expect\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
            Meant::post(b"hello"),
        ),
        refused("Expect something", expect("something"), FAILED),
        refused("Expect 200", expect("200-ok"), FAILED),
        refused("Expect junk before", expect("y 100-continue"), FAILED),
        refused("Expect a list", expect("100-continue, y"), FAILED),
        refused("Expect a parameter", expect("100-continue;a=b"), FAILED),
        refused("Expect nothing", expect(""), FAILED),
        refused("Expect quoted", expect("\"100-continue\""), FAILED),
        refused("Expect twice, one unknown", expect("100-continue\r\nExpect: y"), FAILED),
        refused("Expect with VT", expect("100-continue\x0b"), BAD),
        refused("Expect folded", expect("\r\n 100-continue"), BAD),
        refused(
            "Expect with a space before the colon",
            post("Content-Length: 35\r\nExpect : 100-continue\r\n", SMUGGLED),
            BAD,
        ),
    ]
}

fn old_clients() -> Vec<Case> {
    let old = |text: &str| text.as_bytes().to_vec();
    vec![
        arrives("1.0", old("GET /case HTTP/1.0\r\nHost: a\r\n\r\n"), case().closing()),
        arrives("1.0 without Host", old("GET /case HTTP/1.0\r\n\r\n"), case().closing()),
        arrives(
            "1.0 in absolute form",
            old("GET http://b/case HTTP/1.0\r\nHost: b\r\n\r\n"),
            case().with("host", "b").closing(),
        ),
        arrives(
            "1.0 kept alive",
            old("GET /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
            case(),
        ),
        arrives(
            "1.0 kept alive and closed",
            old("GET /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n"),
            case().closing(),
        ),
        arrives(
            "1.0 with a length",
            old("POST /case HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            Meant::post(b"hello").closing(),
        ),
        arrives(
            "1.0 POST without a length",
            format!("POST /case HTTP/1.0\r\nHost: a\r\n\r\n{SMUGGLED}"),
            Meant::post(b"").closing(),
        ),
        arrives(
            "1.0 with a request behind",
            format!("GET /case HTTP/1.0\r\nHost: a\r\n\r\n{SMUGGLED}"),
            case().closing(),
        ),
        arrives(
            "1.0 that expects",
            old("POST /case HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"),
            Meant::post(b"hello").closing(),
        ),
        refused("1.0 with two Hosts", old("GET /case HTTP/1.0\r\nHost: a\r\nHost: evil\r\n\r\n"), BAD),
        refused("1.0 with a bad Host", old("GET /case HTTP/1.0\r\nHost: a@evil\r\n\r\n"), BAD),
        refused(
            "1.0 with two lengths",
            old("POST /case HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            BAD,
        ),
    ]
}

fn pipelines() -> Vec<Case> {
    let second = || Outcome::Arrives(Meant::get("/second"));
    let then = |first: Vec<u8>, rest: &str| [first, rest.as_bytes().to_vec()].concat();
    const SECOND: &str = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        outcomes("two requests at once", then(get(""), SECOND), [Outcome::Arrives(case()), second()]),
        outcomes(
            "a request behind a body",
            then(post("Content-Length: 5\r\n", "hello"), SECOND),
            [Outcome::Arrives(Meant::post(b"hello")), second()],
        ),
        outcomes(
            "a request behind chunks",
            then(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), SECOND),
            [Outcome::Arrives(Meant::post(b"hello")), second()],
        ),
        outcomes(
            "a request behind an empty line",
            then(post("Content-Length: 5\r\n", "hello\r\n"), SECOND),
            [Outcome::Arrives(Meant::post(b"hello")), second()],
        ),
        outcomes(
            "a request behind two empty lines",
            then(post("Content-Length: 5\r\n", "hello\r\n\r\n"), SECOND),
            [Outcome::Arrives(Meant::post(b"hello")), Outcome::Refused(BAD)],
        ),
        outcomes(
            "a request behind HEAD",
            format!("HEAD /case HTTP/1.1\r\nHost: a\r\n\r\n{SECOND}"),
            [Outcome::Arrives(Meant::new("HEAD", "/case")), second()],
        ),
        outcomes(
            "a bad request behind a good one",
            then(get(""), "GET /second HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
            [Outcome::Arrives(case()), Outcome::Refused(BAD)],
        ),
        outcomes(
            "CL.TE behind a good request",
            then(
                get(""),
                "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            [Outcome::Arrives(case()), Outcome::Refused(BAD)],
        ),
        outcomes(
            "a request without Host behind one with",
            then(get(""), "GET /second HTTP/1.1\r\n\r\n"),
            [Outcome::Arrives(case()), Outcome::Refused(BAD)],
        ),
        outcomes(
            "half a request behind a good one",
            then(get(""), "GET /second"),
            [Outcome::Arrives(case()), Outcome::Abandoned],
        ),
        arrives("a request behind the last", then(get("Connection: close\r\n"), SMUGGLED), case().closing()),
        arrives(
            "a request behind the last, in capitals",
            then(get("Connection: CLOSE\r\n"), SMUGGLED),
            case().closing(),
        ),
        arrives(
            "a request behind the last, in a list",
            then(get("Connection: x, close\r\n"), SMUGGLED),
            case().closing(),
        ),
        arrives(
            "a request behind the last body",
            then(post("Connection: close\r\nContent-Length: 5\r\n", "hello"), SMUGGLED),
            Meant::post(b"hello").closing(),
        ),
        outcomes(
            "ten requests at once",
            [get(""), SECOND.repeat(9).into_bytes()].concat(),
            [vec![Outcome::Arrives(case())], vec![second(); 9]].concat(),
        ),
    ]
}

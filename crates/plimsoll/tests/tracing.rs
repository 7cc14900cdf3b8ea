//! Tracing and request ids: what is passed on and made, what is recorded, and what becomes of it when its receiver is away.
//!
//! Runs the real program before a recording server and a recording collector. `tracing/spans.rs` reads the messages by hand; the
//! collector of the OpenTelemetry project and its types for Python are peers.

#[path = "peers/need.rs"]
mod need;
#[allow(dead_code)] // shared with the tests of metrics, which use all of it
#[path = "metrics/page.rs"]
mod page;
#[path = "tracing/peers.rs"]
mod peers;
#[path = "peers/process.rs"]
mod process;
#[path = "tracing/spans.rs"]
mod spans;
#[path = "tracing/stage.rs"]
mod stage;
mod support;
#[path = "tracing/trouble.rs"]
mod trouble;

use process::until;
use stage::{PARENT, Stage, TRACE, TRUSTED, ask, ask_often, file, parent, pieces};
use support::{Client, Origin, Plimsoll, get};

const ALL: &str = "sample = \"100%\"";
const NONE: &str = "sample = \"0%\"";

fn field(response: &support::oracle::Response, name: &str) -> String {
    let all = response.fields.all(name);
    assert_eq!(all.len(), 1, "{name}: {:?}", response.fields);
    String::from_utf8(all[0].to_vec()).expect("ASCII")
}

#[test]
fn the_ids_are_the_same_for_the_server_in_the_answer_in_the_log_and_in_the_span() {
    let stage = Stage::with("", ALL);
    let answer = stage.ask("");
    let line = stage.program.wait_for_log(|_| true);
    let [request, attempt] = &stage.spans(2)[..] else { panic!("two spans") };
    let id = field(&answer, "x-request-id");
    assert_eq!((id.len(), Some(id.clone())), (32, stage.last("x-request-id")));
    assert_eq!((line["request_id"].as_str(), request.get("plimsoll.request_id")), (Some(&*id), &*id));
    let (trace, span, flags) = pieces(&stage.last("traceparent").expect("one"));
    assert_eq!((line["trace_id"].as_str(), &request.trace, &attempt.trace), (Some(&*trace), &trace, &trace));
    assert_eq!((&attempt.id, &attempt.parent, &*request.parent), (&span, &request.id, ""));
    assert_eq!((&*flags, request.flags, attempt.flags), ("03", 0x103, 0x103));
}

#[test]
fn a_span_says_what_the_request_was() {
    let stage = Stage::with("", &format!("{ALL}\nservice = \"edge\"\nheaders = {{ X-Tenant = \"shop\" }}"));
    let mut client = Client::connect(stage.program.address());
    client.send(b"POST /cart?secret=1 HTTP/1.1\r\nHost: shop.example:81\r\nUser-Agent: me\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.answer().whole().status, 200);
    let spans = stage.spans(2);
    let [request, attempt] = &spans[..] else { panic!("two spans") };
    assert_eq!((&*request.name, request.kind, request.status, &*request.service), ("POST", 2, 0, "edge"));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/cart"),
        ("url.scheme", "http"),
        ("server.address", "shop.example"),
        ("server.port", "81"),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "me"),
        ("http.response.status_code", "200"),
        ("error.type", ""),
        ("plimsoll.end", "--"),
        ("plimsoll.attempts", "1"),
        ("plimsoll.server", &stage.origin.address().to_string()),
    ] {
        assert_eq!(request.get(key), value, "{key}");
    }
    assert!(!format!("{spans:?}").contains("secret"), "queries may hold secrets");
    assert!(request.start <= attempt.start && attempt.end <= request.end && attempt.start < attempt.end);
    assert_eq!(attempt.get("server.port"), stage.origin.address().port().to_string());
    let (_, sent) = stage.collector.arrived(0).remove(0);
    assert_eq!((&*sent.method, &*sent.target), (&b"POST"[..], &b"/v1/traces"[..]));
    assert_eq!(stage::one(&sent, "content-type").as_deref(), Some("application/x-protobuf"));
    assert_eq!(stage::one(&sent, "x-tenant").as_deref(), Some("shop"));
}

#[test]
fn an_id_is_kept_from_a_trusted_client_only() {
    let stage = Stage::with(TRUSTED, NONE);
    let kept = "Root=1-67891233-abcdef012345678912345678";
    assert_eq!(field(&stage.ask(&format!("x-request-id: {kept}\r\n")), "x-request-id"), kept);
    assert_eq!(stage.last("x-request-id").as_deref(), Some(kept));
    stage.program.wait_for_log(|line| line["request_id"] == kept);
    for bad in ["x-request-id: a b\r\n", "x-request-id: a\r\nX-Request-Id: b\r\n", "x-request-id:\r\n"] {
        let answer = stage.ask(bad);
        assert_eq!(field(&answer, "x-request-id").len(), 32, "{bad}");
        assert_eq!(stage.last("x-request-id"), Some(field(&answer, "x-request-id")), "{bad}");
    }
    let stranger = Stage::with("", NONE);
    let answer = stranger.ask(&format!("x-request-id: {kept}\r\n"));
    assert_eq!(
        (field(&answer, "x-request-id").len(), stranger.last("x-request-id")),
        (32, Some(field(&answer, "x-request-id")))
    );
}

#[test]
fn what_is_refused_has_an_id_too() {
    let stage = Stage::with("", ALL);
    for bad in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nHost: a\r\n\r\n"] {
        let mut client = Client::connect(stage.program.address());
        client.send(bad.as_bytes());
        let answer = client.answer().whole();
        let id = field(&answer, "x-request-id");
        let line = stage.program.wait_for_log(|line| line["request_id"] == *id);
        assert_eq!((answer.status, &line["end"]), (400, &"PR".into()));
    }
    // Of what is no request there is no span.
    let [span] = &stage.spans(1)[..] else { panic!("one span") };
    assert_eq!((span.get("plimsoll.reason"), span.get("error.type"), span.status), ("bad_host", "", 0));
}

#[test]
fn a_trusted_parent_decides_both_ways() {
    let never = Stage::with(TRUSTED, NONE);
    never.ask(&(parent("01") + "tracestate: a=1,b=2\r\n"));
    let (trace, span, flags) = pieces(&never.last("traceparent").expect("one"));
    assert_eq!((&*trace, &*flags, never.last("tracestate").as_deref()), (TRACE, "01", Some("a=1,b=2")));
    let [request, attempt] = &never.spans(2)[..] else { panic!("two spans") };
    assert_eq!((&*request.trace, &*request.parent, &*request.state), (TRACE, PARENT, "a=1,b=2"));
    assert_eq!((&attempt.id, &attempt.parent, request.flags), (&span, &request.id, 0x301));

    let always = Stage::with(TRUSTED, ALL);
    always.ask(&parent("00"));
    let (trace, span, flags) = pieces(&always.last("traceparent").expect("one"));
    assert_eq!((&*trace, &*flags), (TRACE, "00"));
    assert_ne!(span, PARENT);
    always.ask(""); // this one is recorded, and comes behind the other
    assert!(always.spans(2).iter().all(|span| span.trace != TRACE));
}

#[test]
fn a_context_that_is_not_valid_begins_a_new_trace() {
    let stage = Stage::with(TRUSTED, NONE);
    let state = "tracestate: a=1\r\n";
    let long = format!("traceparent: 00-{TRACE}-{PARENT}-01-x\r\n");
    for bad in [
        String::new(),
        parent("1"),
        parent("01").repeat(2),
        parent("01").replace("00-", "ff-"),
        parent("01").replace(TRACE, &"0".repeat(32)),
        parent("01").replace(PARENT, &"0".repeat(16)),
        parent("01").to_uppercase(),
        long.clone(),
    ] {
        stage.ask(&(bad.clone() + state));
        let (trace, _, flags) = pieces(&stage.last("traceparent").expect("one"));
        assert_ne!(trace, TRACE, "{bad}");
        assert_eq!((&*flags, stage.last("tracestate")), ("02", None), "{bad}");
    }
    stage.ask(&(long.replace("00-", "01-") + state));
    let (trace, _, flags) = pieces(&stage.last("traceparent").expect("one"));
    assert_eq!((&*trace, &*flags), (TRACE, "01"), "a later version is read as far as it is known");
}

#[test]
fn without_tracing_both_fields_pass_as_they_are() {
    let origin = Origin::serve();
    let text = file(&[origin.address()], "", None, "").replace("request_id = \"X-Request-ID\"\n", "");
    let program = Plimsoll::start(&text);
    let answer =
        ask(program.address(), "TraceParent: what ever\r\ntracestate: a=1\r\nX-Request-ID: mine\r\n");
    let (_, request) = origin.arrived(0).remove(0);
    assert_eq!(stage::one(&request, "traceparent").as_deref(), Some("what ever"));
    assert_eq!(stage::one(&request, "tracestate").as_deref(), Some("a=1"));
    assert_eq!(stage::one(&request, "x-request-id").as_deref(), Some("mine"));
    assert!(!answer.fields.has("x-request-id"));
    let line = program.wait_for_log(|_| true);
    assert!(line.get("request_id").is_none() && line.get("trace_id").is_none(), "{line}");
}

#[test]
fn strangers_cannot_have_everything_recorded() {
    let stage = Stage::with("", NONE);
    let began = std::time::Instant::now();
    ask_often(stage.program.address(), 500, &parent("01"));
    let seconds = began.elapsed().as_secs() as usize + 2;
    let sampled = |(_, request): &(usize, support::oracle::Request)| {
        let (trace, _, flags) = pieces(&stage::one(request, "traceparent").expect("one"));
        assert_eq!(trace, TRACE, "the trace goes on all the same");
        flags == "01"
    };
    let count = stage.origin.arrived(0).iter().filter(|request| sampled(request)).count();
    assert!((10..=10 * seconds).contains(&count) && count < 500, "{count} in {seconds} seconds");
    stage.spans(2 * count);

    let all = Stage::with("", &format!("{NONE}\nparents = \"all\""));
    ask_often(all.program.address(), 50, &parent("01"));
    all.spans(100);

    let trusted = Stage::with("", &format!("{ALL}\nparents = \"trusted\""));
    trusted.ask(&(parent("00") + "tracestate: a=1\r\n"));
    let (trace, _, flags) = pieces(&trusted.last("traceparent").expect("one"));
    assert_ne!(trace, TRACE);
    assert_eq!((&*flags, trusted.last("tracestate")), ("03", None));
    assert_eq!(trusted.spans(2)[0].parent, "");
}

#[test]
fn one_request_in_a_hundred_is_recorded_unless_it_is_said_otherwise() {
    let stage = Stage::with("", "");
    ask_often(stage.program.address(), 4000, "");
    let flags = |(_, request): &(usize, support::oracle::Request)| {
        pieces(&stage::one(request, "traceparent").expect("one")).2
    };
    let count = stage.origin.arrived(0).iter().filter(|request| flags(request) == "03").count();
    // 40 are expected; five deviations of 6.3 are one in a million.
    assert!((9..=71).contains(&count), "{count} of 4000");
    stage.spans(2 * count);
}

#[test]
fn each_attempt_has_a_span_and_its_server_knows_it() {
    let dead = process::Port::reserve();
    let origin = Origin::serve();
    let collector = Origin::serve();
    // Round robin takes them in turn: one of two requests meets the dead one first.
    let text = file(&[dead.address(), origin.address()], "", Some(collector.address()), ALL);
    let program = Plimsoll::start(&text);
    until("a retry", || {
        ask(program.address(), "");
        program.log_lines().iter().any(|line| line["attempts"] == 2)
    });
    let line = program.wait_for_log(|line| line["attempts"] == 2);
    let of_it = || {
        let mut spans = spans::spans(&collector);
        spans.retain(|span| Some(&*span.trace) == line["trace_id"].as_str());
        spans
    };
    until("its spans", || of_it().len() == 3);
    let [request, failed, good] = &of_it()[..] else { panic!("three spans") };
    assert_eq!((request.status, request.get("plimsoll.attempts")), (0, "2"));
    assert_eq!((failed.status, failed.get("error.type")), (2, "connect_failed"));
    assert_eq!((good.status, good.get("http.request.resend_count")), (0, "1"));
    assert_eq!((&failed.parent, &good.parent), (&request.id, &request.id));
    let told: Vec<String> = origin
        .arrived(0)
        .iter()
        .map(|(_, request)| pieces(&stage::one(request, "traceparent").expect("one")).1)
        .collect();
    assert!(told.contains(&good.id) && !told.contains(&failed.id) && !told.contains(&request.id));
}

#[test]
fn what_fails_says_why() {
    let dead = process::Port::reserve();
    let collector = Origin::serve();
    let program = Plimsoll::start(&file(&[dead.address()], "", Some(collector.address()), ALL));
    let answer = ask(program.address(), "");
    assert_eq!((answer.status, field(&answer, "x-request-id").len()), (502, 32));
    until("its spans", || spans::spans(&collector).len() == 2);
    let request = &spans::spans(&collector)[0];
    assert_eq!((request.status, request.get("error.type")), (2, "connect_failed"));
    assert_eq!((request.get("plimsoll.end"), request.get("http.response.status_code")), ("SC", "502"));
}

#[test]
fn an_upgrade_is_traced_and_its_answer_has_the_id() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Request-ID: theirs\r\n\r\n";
    let script = vec![support::Step::Read, support::Step::Send(switched.into()), support::Step::Close];
    let (origin, collector) = (Origin::scripted(vec![script]), Origin::serve());
    let program = Plimsoll::start(&file(&[origin.address()], "", Some(collector.address()), ALL));
    let mut client = Client::connect(program.address());
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let asked = support::oracle::Asked { method: b"GET", upgrade: true };
    let answer = client.answer_to(asked).whole();
    assert_eq!((answer.status, field(&answer, "x-request-id").len()), (101, 32));
    client.finish_sending();
    until("its spans", || spans::spans(&collector).len() == 2);
    assert_eq!(spans::spans(&collector)[0].get("http.response.status_code"), "101");
}

#[test]
fn routes_are_named_by_their_path() {
    let (origin, collector) = (Origin::serve(), Origin::serve());
    let address = origin.address();
    let program = Plimsoll::start(&format!(
        "workers = 1\n[[listen]]\nbind = \"127.0.0.1:0\"\n[backend.b]\nservers = [\"{address}\"]\n\
         [[route]]\nname = \"api\"\npath = \"/api/*\"\nto = \"b\"\n\
         [[route]]\npath = \"/here\"\nrespond = {{ body = \"hi\" }}\n\
         [tracing]\notlp = \"http://{}\"\n{ALL}\n",
        collector.address()
    ));
    let mut client = Client::connect(program.address());
    for path in ["/api/1", "/here"] {
        client.send(&get(path));
        assert_eq!(client.answer().whole().status, 200);
    }
    until("their spans", || spans::spans(&collector).len() == 3);
    let all = spans::spans(&collector);
    assert_eq!(
        (&*all[0].name, all[0].get("http.route"), all[0].get("plimsoll.route")),
        ("GET /api/*", "/api/*", "api")
    );
    assert_eq!((&*all[2].name, all[2].get("plimsoll.end")), ("GET /here", "L-"));
    assert_eq!(all[0].get("plimsoll.request_id"), "", "ids are for who asks for them");
}

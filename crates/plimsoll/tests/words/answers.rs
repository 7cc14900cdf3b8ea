//! Words in a field of answers.

use crate::process::Port;
use crate::rig::until;
use crate::stage::{Speaker, Speech, Stage, status};
use crate::support::{Client, Origin, Plimsoll, Step};

const HEARD: &str = "agent = { header = \"X-Server-Word\" }";

#[test]
fn a_word_in_an_answer_counts_and_stays_here() {
    let stage = Stage::new(2, HEARD);
    stage.speakers[0].answers_with("x-server-word: drain 50% # deploy\r\nX-Other: 1\r\n");
    let mut client = Client::connect(stage.address());
    for path in ["/", "/early", "/", "/early"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = client.answer().whole();
        let early = answer.interims.iter().map(|(_, fields)| fields);
        assert!(
            early.chain([&answer.fields]).all(|fields| fields.all("x-server-word").is_empty()),
            "{answer:?}"
        );
        assert_eq!(answer.interims.len(), usize::from(path == "/early"));
    }
    let seen = stage.until_state("a", "drain");
    assert_eq!(seen["state_reason"], "it says so itself: deploy");
    assert_eq!((&seen["word"]["by"], &seen["word"]["line"]), (&"answer".into(), &"drain 50%".into()));
    assert_eq!(stage.spread(10), [0, 10]);
}

#[test]
fn a_trailer_is_no_word_and_goes_to_nobody() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Server-Word: down # in a trailer\r\nX-Other: 1\r\n\r\n";
    let next = "HTTP/1.1 200 OK\r\nX-Server-Word: 50%\r\nContent-Length: 2\r\n\r\nok";
    let exchange = |answer: &str| [Step::Read, Step::Send(answer.into())];
    // The second request may come on a connection of its own.
    let scripts = vec![[exchange(answer), exchange(next)].concat(), exchange(next).into()];
    let (origin, admin) = (Origin::scripted(scripts), Port::reserve());
    let program = Plimsoll::start(&format!(
        "[admin]\nbind = \"{}\"\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"heard\"\n[backend.heard]\nservers = [\"{}\"]\n{HEARD}\n",
        admin.address(),
        origin.address()
    ));
    let mut client = Client::connect(program.address());
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer().whole();
        assert_eq!(answer.status, 200, "its only server is still there");
        assert!(answer.trailers.0.is_empty(), "{answer:?}");
        assert!(answer.fields.all("x-server-word").is_empty(), "{answer:?}");
    }
    // All that was said before is in force by then, and a share takes none of it back.
    let server = || status(admin.address())["backends"][0]["servers"][0].clone();
    until("the head of the second is heard", || server()["share"] == 0.5);
    let seen = server();
    assert_eq!((&seen["state"], &seen["word"]["line"]), (&"up".into(), &"50%".into()), "{seen}");
    assert!(!program.stderr_lines().iter().any(|line| line.contains("says in an answer")));
}

#[test]
fn a_share_in_an_answer_changes_the_picks() {
    let stage = Stage::new(2, HEARD);
    stage.speakers[0].answers_with("X-Server-Word: 50%\r\n");
    stage.spread(2);
    stage.until_share("a", 0.5);
    assert_eq!(stage.spread(30), [10, 20]);
    stage.speakers[0].answers_with("X-Server-Word: 100%\r\n");
    stage.spread(3);
    stage.until_share("a", 1.0);
    assert_eq!(stage.spread(30), [15, 15]);
}

#[test]
fn without_opting_in_the_field_is_one_like_any_other() {
    let (heard, plain) = (Speaker::start("a", Speech::line("up")), Speaker::start("b", Speech::line("up")));
    plain.answers_with("X-Server-Word: down\r\n");
    let text = format!(
        "[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"plain\"\n[[route]]\npath = \"/heard\"\nto = \"heard\"\n\
         [backend.plain]\nservers = [\"{}\"]\n[backend.heard]\nservers = [\"{}\"]\n{HEARD}\n",
        plain.address, heard.address
    );
    let program = Plimsoll::start(&text);
    let mut client = Client::connect(program.address());
    for _ in 0..20 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer().whole();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.fields.all("x-server-word"), [b"down"]);
    }
}

#[test]
fn a_server_that_changes_its_mind_with_every_answer_is_heard_now_and_then() {
    let stage = Stage::new(2, HEARD);
    let flips = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let speaker = stage.speakers[0].clone();
        let flips = &flips;
        scope.spawn(move || {
            for number in 0.. {
                if !flips.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                speaker.answers_with(&format!("X-Server-Word: {}%\r\n", 10 + number % 90));
            }
        });
        let began = std::time::Instant::now();
        let mut shares = std::collections::HashSet::new();
        while began.elapsed().as_secs() < 2 {
            stage.spread(20);
            shares.insert(stage.seen("a")["share"].to_string());
        }
        flips.store(false, std::sync::atomic::Ordering::Relaxed);
        // Every quarter of a second at most.
        assert!((2..=12).contains(&shares.len()), "{shares:?}");
    });
    stage.speakers[0].answers_with("X-Server-Word: 100%\r\n");
    until("its last word counts", || {
        stage.spread(20);
        stage.seen("a")["share"] == 1.0
    });
}

//! Name servers that lie: whatever they say, the last good servers stay, and nothing grows without bound.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::liar::{A, AAAA, Asked, Liar, Record, Say, address, alias};
use crate::rig::memory;
use crate::stage::{
    before, names, servers, sites, soon, source, until_asked, until_failing, until_served_by, upgradable,
    upgrade, who,
};
use crate::support::Plimsoll;

const ONE: &str = "127.0.0.31";
const TWO: &str = "127.0.0.32";
const EVIL: &str = "127.0.0.39";

/// The program, with one good server and what is said then.
fn after_the_truth(allow_empty: bool) -> (Liar, Plimsoll, u16) {
    let port = sites(&[ONE, TWO]);
    let liar = Liar::start(|asked| asked.addresses(&[ONE], 1));
    let program = before(&format!(
        "discover = {{ dns = \"web.internal:{port}\", allow_empty = {allow_empty}, {} }}",
        liar.resolver()
    ));
    until_served_by(&program, &[ONE], port);
    (liar, program, port)
}

type Lie = fn(&Asked<'_>) -> Say;

fn evil(asked: &Asked<'_>) -> Vec<Record> {
    vec![address(&asked.name, EVIL, 1)]
}

#[test]
fn no_lie_is_believed_and_the_truth_is_taken_again() {
    // It may be emptied: so none of these may be taken for an answer that there is nobody.
    let (liar, program, port) = after_the_truth(true);
    let lies: Vec<(&str, Lie)> = vec![
        ("garbage", |_| Say::Bytes(vec![0x55; 300])),
        ("nothing but a head", |asked| asked.spoilt(&[], |bytes| bytes.truncate(12))),
        ("a record that is cut off", |asked| {
            asked.spoilt(&evil(asked), |bytes| bytes.truncate(bytes.len() - 3))
        }),
        ("more records announced than there are", |asked| asked.spoilt(&evil(asked), |bytes| bytes[7] = 200)),
        ("a name that points at itself", |asked| {
            asked.spoilt(&[address("other.internal.", EVIL, 1)], |bytes| {
                let at = bytes.len() - 4 - 10 - labels_length("other.internal.");
                let to = u8::try_from(at).expect("it is near the start");
                bytes[at] = 0xc0;
                bytes[at + 1] = to;
            })
        }),
        ("somebody else's answer", |asked| asked.spoilt(&evil(asked), |bytes| bytes[0] ^= 0xff)),
        ("an answer to another question", |asked| asked.spoilt(&evil(asked), |bytes| bytes[13] ^= 1)),
        ("a failure", |asked| asked.answer(2, &[])),
        ("a failure with an answer", |asked| asked.answer(2, &evil(asked))),
        ("a refusal", |asked| asked.answer(5, &[])),
        ("records of other names", |asked| asked.answer(0, &[address("other.internal.", EVIL, 1)])),
        ("an alias of itself", |asked| asked.answer(0, &[alias(&asked.name, &asked.name)])),
        ("two aliases of each other", |asked| {
            let other = "other.internal.";
            asked.answer(0, &[alias(&asked.name, other), alias(other, &asked.name)])
        }),
        ("a chain of aliases without end", |asked| {
            let next = format!("x{}", asked.name);
            asked.answer(0, &[alias(&asked.name, &next[next.len().saturating_sub(60)..])])
        }),
        ("truncated, and nobody there", |asked| match asked.over_tcp {
            true => Say::Nothing,
            false => asked.answer(0x200, &[]),
        }),
        ("truncated, again and again", |asked| asked.answer(0x200, &evil(asked))),
    ];
    for (what, lie) in lies {
        liar.say(lie);
        let why = until_failing(&program);
        until_asked(&program, 1);
        assert_eq!(
            names(&program).into_iter().collect::<Vec<_>>(),
            [format!("{ONE}:{port}")],
            "{what}: {why}"
        );
        println!("{what}: {why}");
        liar.say(|asked| asked.addresses(&[ONE], 1));
        soon(what, || if source(&program)["failing"] == false { Ok(()) } else { Err(source(&program)) });
    }
    liar.say(|asked| asked.addresses(&[TWO], 1));
    until_served_by(&program, &[TWO], port);
    liar.say(|asked| asked.answer(3, &[]));
    soon("a plain no is believed", || if names(&program).is_empty() { Ok(()) } else { Err(names(&program)) });
}

fn labels_length(name: &str) -> usize {
    name.len() + 1
}

#[test]
fn one_kind_of_address_that_fails_does_not_take_the_other_along() {
    let (liar, program, port) = after_the_truth(false);
    liar.say(|asked| match asked.kind {
        AAAA => asked.answer(2, &[]),
        _ => asked.addresses(&[ONE, TWO], 1),
    });
    until_served_by(&program, &[ONE, TWO], port);
    let found = source(&program);
    assert!(
        found["failing"] == false && found["last_error"].as_str().is_some_and(|why| why.contains("AAAA"))
    );
}

#[test]
fn an_answer_that_is_truncated_goes_on_over_tcp() {
    let (liar, program, port) = after_the_truth(false);
    liar.say(|asked| match (asked.kind, asked.over_tcp) {
        (A, false) => asked.answer(0x200, &[address(&asked.name, EVIL, 1)]),
        _ => asked.addresses(&[ONE, TWO], 1),
    });
    until_served_by(&program, &[ONE, TWO], port);
}

#[test]
fn thousands_of_records_that_change_all_the_time_are_bounded() {
    let (liar, program, port) = after_the_truth(false);
    let many = |round: u64| -> Vec<String> {
        (0..3_500_u64).map(|n| format!("127.{}.{}.{}", 100 + round % 50, n / 250, 1 + n % 250)).collect()
    };
    let rounds = std::sync::atomic::AtomicU64::new(0);
    liar.say(move |asked| match (asked.kind, asked.over_tcp) {
        (A, false) => asked.answer(0x200, &[]),
        (A, true) => {
            let ips = many(rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let records: Vec<Record> = ips.iter().map(|ip| address(&asked.name, ip, 0)).collect();
            asked.answer(0, &records)
        }
        _ => asked.answer(0, &[]),
    });
    soon("there are many", || {
        if servers(&program).len() == 3_500 { Ok(()) } else { Err(servers(&program).len()) }
    });
    let (before, asked, began) = (memory(&program).0, liar.questions(), Instant::now());
    until_asked(&program, 5);
    let seconds = began.elapsed().as_secs_f64();
    let questions = (liar.questions() - asked) as f64;
    assert!(
        questions / seconds < 6.0,
        "{questions} in {seconds} s: a TTL of 0 is no reason to ask without end"
    );
    let grown = memory(&program).0.saturating_sub(before);
    println!("{} MiB, then {} MiB more", before >> 20, grown >> 20);
    assert!(grown < 200 << 20, "{} MiB", grown >> 20);
    liar.say(|asked| asked.addresses(&[ONE], 1));
    until_served_by(&program, &[ONE], port);
}

#[test]
fn a_long_ttl_is_not_waited_for_longer_than_a_minute_nor_a_short_one_asked_for_early() {
    let (liar, program, _) = after_the_truth(false);
    liar.say(|asked| asked.addresses(&[ONE], 3));
    until_asked(&program, 1);
    let (before, began) = (liar.questions(), Instant::now());
    soon("it is asked again", || if liar.questions() > before { Ok(()) } else { Err(()) });
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2_500) && took < Duration::from_secs(6), "{took:?}");
}

/// A backend whose servers are checked four times a second.
fn checked(liar: &Liar, port: u16) -> Plimsoll {
    let program = upgradable(&format!(
        "discover = {{ dns = \"web.internal:{port}\", allow_empty = true, {} }}\nhealth = {{ path = \"/\", every = \"250ms\", every_down = \"250ms\", timeout = \"250ms\" }}",
        liar.resolver()
    ));
    until_served_by(&program, &[ONE, TWO], port);
    program
}

#[test]
fn a_list_of_servers_that_fail_their_checks_takes_nobody_away() {
    let port = sites(&[ONE, TWO]);
    let liar = Liar::start(|asked| asked.addresses(&[ONE, TWO], 1));
    let program = checked(&liar, port);
    // Nobody listens there.
    liar.say(|asked| asked.addresses(&[EVIL], 1));
    let mixed = [EVIL, ONE, TWO].map(|address| format!("{address}:{port}")).into();
    soon("it is named, and the others go on", || {
        if names(&program) == mixed { Ok(()) } else { Err(names(&program)) }
    });
    until_asked(&program, 2);
    let served: BTreeSet<String> = (0..20).map(|_| who(&program)).collect();
    assert_eq!(served, [ONE, TWO].map(str::to_owned).into());
    let goes_on = "too few of the servers that its list names can serve, so 2 that it names no longer go on";
    assert!(program.stderr_lines().iter().any(|line| line.contains(goes_on)));
    // A reload knows of them too.
    program.signal(rustix::process::Signal::HUP);
    soon("it is reloaded", || {
        let is_reloaded = program.stderr_lines().iter().any(|line| line.contains(": reloaded "));
        if is_reloaded { Ok(()) } else { Err(program.stderr_lines()) }
    });
    assert_eq!(names(&program), mixed);
    // And whoever comes after it, until its own checks say otherwise.
    let _successor = upgrade(&program);
    until_asked(&program, 3);
    let served: BTreeSet<String> = (0..20).map(|_| who(&program)).collect();
    assert_eq!(served, [ONE, TWO].map(str::to_owned).into());
    assert_eq!(names(&program), mixed);
    // The truth.
    liar.say(|asked| asked.addresses(&[ONE], 1));
    until_served_by(&program, &[ONE], port);
    assert!(
        program
            .stderr_lines()
            .iter()
            .any(|line| line.contains("only servers that its list names serve again"))
    );
}

#[test]
fn a_list_of_others_alone_is_gone_over_to_once_they_pass_their_checks() {
    let port = sites(&[ONE, TWO, EVIL]);
    let liar = Liar::start(|asked| asked.addresses(&[ONE, TWO], 1));
    let program = checked(&liar, port);
    liar.say(|asked| asked.addresses(&[EVIL], 1));
    soon("the other one has taken over", || {
        let served = who(&program);
        assert!(served.starts_with("127."), "{served}");
        if names(&program) == [format!("{EVIL}:{port}")].into() { Ok(()) } else { Err(names(&program)) }
    });
    assert_eq!(who(&program), EVIL);
}

#[test]
fn a_list_that_may_be_empty_takes_those_away_who_pass_their_checks() {
    let port = sites(&[ONE, TWO]);
    let liar = Liar::start(|asked| asked.addresses(&[ONE, TWO], 1));
    let program = checked(&liar, port);
    liar.say(|asked| asked.answer(3, &[]));
    soon("there is nobody", || if names(&program).is_empty() { Ok(()) } else { Err(names(&program)) });
}

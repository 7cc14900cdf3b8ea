//! What servers say of themselves with their answers, to whichever worker got them: weights, and words of their own.

use plimsoll_config::model::{Reported, ServerState};
use plimsoll_interleavings_words::Words;
use plimsoll_traffic::Report;

use super::*;

/// Two servers whose weights are what they report: ten and thirty requests a second so far.
fn reporting() -> Arc<Backend> {
    let backend = backend(&[1_000, 1_000], |spec| {
        let rules = Reported { blackout: Duration::ZERO, expiration: Duration::from_secs(180), penalty: 100 };
        (spec.balance, spec.slow_start, spec.reported) = (Balance::Random, Duration::ZERO, Some(rules));
    });
    let first = balancer(&backend, 9);
    [(0, 10.0), (1, 30.0)]
        .into_iter()
        .for_each(|(server, requests)| first.hear(server, &says(requests), None, NOW));
    backend
}

fn says(requests: f64) -> Report {
    Report { cpu: 0.5, requests, ..Report::default() }
}

/// The next picks, which tell the weights. None of them works these out anew.
fn picks(backend: &Arc<Backend>) -> Vec<u32> {
    let (balancer, mut dice) = (balancer(backend, 9), Dice::new(5));
    let ask = Ask { now: NOW, key: 0, tried: &[] };
    (0..24).map(|_| balancer.pick(&ask, &mut dice).unwrap().index()).collect()
}

#[test]
fn weights_are_those_of_one_moment_whatever_servers_report_meanwhile() {
    under_many_schedules(|| {
        let (before, after) = (reporting(), reporting());
        balancer(&after, 9).hear(1, &says(3.0), None, NOW);
        let (before, after) = (picks(&before), picks(&after));
        assert_ne!(before, after);
        let backend = reporting();
        let shared = Arc::clone(&backend);
        at_once(3, move |worker| {
            let balancer = balancer(&shared, worker);
            match worker {
                0 => balancer.hear(1, &says(3.0), None, NOW),
                _ => drop(pick(&balancer)), // one of the two works the weights out
            }
        });
        let picked = picks(&backend);
        assert!(picked == before || picked == after, "{picked:?} is neither {before:?} nor {after:?}");
    });
}

#[test]
fn the_word_that_is_acted_on_is_the_one_that_was_heard_last() {
    under_many_schedules(|| {
        let backend = backend(&[8], |spec| spec.agent_header = Some("x-word".to_owned()));
        let words = Arc::new(Words::default());
        let (shared, saying) = (Arc::clone(&backend), Arc::clone(&words));
        at_once(3, move |worker| {
            let lease = pick(&balancer(&shared, worker)).unwrap();
            saying.hear("b", &lease, if worker == 0 { b"drain" } else { b"ready" });
        });
        let heard = words.take();
        let state = heard[0].word.state.expect("both say one");
        // What was heard last is no news any more.
        let lease = pick(&balancer(&backend, 9)).unwrap();
        let last: &[u8] = if state == ServerState::Drain { b"drain" } else { b"ready" };
        assert!(!lease.is_news(last), "{state:?} is acted on, and another word was heard after it");
    });
}

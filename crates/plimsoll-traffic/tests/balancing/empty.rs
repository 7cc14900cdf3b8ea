//! A backend without servers: it says that there is none, and becomes one with servers like any other.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Balance, Prequal, Probe, Reported, Subset};
use plimsoll_traffic::{Backend, Balancer, Dice, NoServer, Session};

use crate::fleet::{BOUNDED, POLICIES, ask, counts, server};

fn policies() -> Vec<Balance> {
    let probe = Some(Probe { path: "/load".to_owned(), rate: 300 });
    let probing = Balance::Prequal(Prequal { quantile: 84, age: Duration::from_secs(1), probe });
    POLICIES.iter().chain(&BOUNDED).cloned().chain([probing]).collect()
}

/// With everything that looks at all servers.
fn spec(balance: &Balance, servers: Vec<model::Server>) -> model::Backend {
    let reported =
        Reported { blackout: Duration::from_secs(10), expiration: Duration::from_secs(180), penalty: 100 };
    model::Backend {
        slow_start: Duration::from_secs(10),
        subset: Some(Subset { size: 12, instance: "lb-1".to_owned() }),
        reported: Some(reported),
        ..model::Backend::new("b", servers, balance.clone())
    }
}

#[test]
fn no_policy_finds_anybody() {
    for balance in policies() {
        let backend = Arc::new(Backend::new(&spec(&balance, Vec::new()), None));
        let mut dice = Dice::new(1);
        let balancer = Balancer::new(backend, &mut dice);
        for key in 0..50 {
            assert_eq!(balancer.pick(&ask(key), &mut dice).unwrap_err(), NoServer::None, "{balance:?}");
            for session in [Session::Server(0), Session::Key(key)] {
                assert!(balancer.keep(session, &ask(key)).is_none(), "{balance:?}");
            }
            assert_eq!(balancer.next_probe(&mut dice), None, "{balance:?}");
        }
    }
}

#[test]
fn one_that_is_filled_and_emptied_and_filled_serves_whole() {
    for balance in policies() {
        let servers = || (0..5).map(|i| server(i, 1)).collect::<Vec<_>>();
        let empty = Backend::new(&spec(&balance, Vec::new()), None);
        let filled = Backend::new(&spec(&balance, servers()), Some(&empty));
        let emptied = Backend::new(&spec(&balance, Vec::new()), Some(&filled));
        let again = Arc::new(Backend::new(&spec(&balance, servers()), Some(&emptied)));
        let balancer = Balancer::new(again, &mut Dice::new(1));
        let counts = counts(&balancer, 2_000, 2);
        let served = counts.iter().filter(|&&count| count > 0.0).count();
        let expected = if balance == Balance::First { 1 } else { 5 };
        assert_eq!(served, expected, "{balance:?}: {counts:?}");
    }
}

//! Whether a request that waits for its answer is sent to a second server, and after how long.
//!
//! In go the route's wish, how long its answers take, and the backend; out comes a delay, and later leave or the reason why not. A hedge is worth
//! its cost only where it is rare and servers have room: it draws on the budget of retries, and there is none while the backend is
//! nearly full (Dean and Barroso, *The Tail at Scale*, 2013). Must never hedge what is not known to be slow.

use plimsoll_config::model::Hedge;

use crate::backend::Backend;
use crate::pace::Pace;
use crate::time::Millis;

/// Above this part of what all servers may have in flight there are no hedges, in hundredths.
const BUSY: u64 = 80;

/// Why a request that waits is not sent to a second server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHedge {
    /// The backend's retries and hedges have had as many attempts as its requests allow.
    Budget,
    /// Its servers are nearly full.
    Load,
    /// No other server can take it.
    Server,
}

impl NoHedge {
    /// All of them.
    pub const ALL: [NoHedge; 3] = [NoHedge::Budget, NoHedge::Load, NoHedge::Server];

    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            NoHedge::Budget => "budget",
            NoHedge::Load => "load",
            NoHedge::Server => "no_server",
        }
    }
}

/// After how many microseconds a second server is asked; `None` as long as nobody knows what is slow.
pub fn hedge_delay(wish: Hedge, pace: &Pace, now: Millis) -> Option<u64> {
    match wish {
        Hedge::After(time) => Some(time.as_micros() as u64),
        Hedge::Quantile(_) => pace.high(now),
    }
}

impl Backend {
    /// Whether there may be a hedge now; takes nothing from the budget yet.
    ///
    /// # Errors
    /// Why not.
    pub fn may_hedge(&self, now: Millis) -> Result<(), NoHedge> {
        let servers = self.servers.iter().filter(|server| server.weight > 0);
        let (taken, most) = servers.fold((0, 0), |(taken, most), server| {
            (taken + u64::from(server.live.in_flight()), most + u64::from(server.most()))
        });
        if taken * 100 > most * BUSY {
            Err(NoHedge::Load)
        } else if self.budget.is_empty(now) {
            Err(NoHedge::Budget)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::{self, Balance};
    use std::time::Duration;

    #[test]
    fn a_fixed_time_is_taken_at_its_word_and_a_quantile_has_to_be_known() {
        let (pace, now) = (Pace::new(950), Millis(0));
        assert_eq!(hedge_delay(Hedge::After(Duration::from_millis(50)), &pace, now), Some(50_000));
        assert_eq!(hedge_delay(Hedge::Quantile(950), &pace, now), None);
        (0..200).for_each(|_| pace.observe(4_000, now));
        assert_eq!(hedge_delay(Hedge::Quantile(950), &pace, Millis(1_000)), Some(4_095));
    }

    #[test]
    fn neither_a_backend_that_is_nearly_full_nor_an_empty_budget_allows_any() {
        let server = |name: &str, weight| model::Server {
            max_requests: 5,
            weight,
            ..model::Server::new(name, model::Address::Name(name.to_owned(), 80))
        };
        let servers = vec![server("a", 1), server("b", 1), server("off", 0)];
        let backend = Backend::new(&model::Backend::new("b", servers, Balance::P2c), None);
        let now = Millis(5);
        let take =
            |server: usize, n: usize| (0..n).for_each(|_| assert!(backend.servers[server].live.take(5)));
        take(0, 5);
        take(1, 3);
        assert_eq!(backend.may_hedge(now), Ok(()), "80 % of ten: a server without weight counts for nothing");
        while backend.budget.withdraw(now) {}
        assert_eq!(backend.may_hedge(now), Err(NoHedge::Budget));
        take(1, 1);
        assert_eq!(backend.may_hedge(now), Err(NoHedge::Load));
    }
}

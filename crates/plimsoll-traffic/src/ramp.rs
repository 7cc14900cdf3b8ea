//! Slow start: the share of a server that is new or came back grows to what its weight says.
//!
//! In go the times at which servers began, out comes each one's share, a factor on every choice by weight. Shared by all
//! workers, since a server's beginning is one fact. When nobody is new it costs one look at one word that hardly ever changes.
//! Servers of a backend that is new as a whole have their whole share at once: there is nobody else to serve.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::reported::Reported;
use crate::server::Server;
use crate::time::Millis;

/// A whole share.
pub(crate) const WHOLE: u64 = 1_000;
/// What a server begins with: a tenth, Envoy's minimum.
const LEAST: u64 = WHOLE / 10;
/// It begins with its first pick.
pub(crate) const NEW: u64 = u64::MAX;

/// The ramps of one backend.
#[derive(Debug)]
pub(crate) struct Ramp {
    /// How long one takes, in milliseconds; 0 is none.
    window: u64,
    /// When the last one ends, in milliseconds; `NEW` while one has not begun, and for good where servers report their weights.
    until: AtomicU64,
    /// Servers that wait for their trial; see `health`. Here because a pick looks at this line anyway.
    pub(crate) trials: AtomicU32,
    /// Servers report their weights: shares are never sure to be whole.
    reported: Option<Reported>,
    /// With reported weights: none waits for its first pick.
    begun: AtomicBool,
}

impl Ramp {
    /// `begun` servers are already on their way, `new` ones are about to begin.
    pub(crate) fn new(window: Duration, servers: &[Server]) -> Ramp {
        let window = window.as_millis() as u64;
        let end = |began: u64| if began == NEW { NEW } else { began.saturating_add(window) };
        let ends = servers.iter().map(|s| s.live.ramp.load(Relaxed)).filter(|&began| began != 0).map(end);
        let until = AtomicU64::new(if window == 0 { 0 } else { ends.max().unwrap_or(0) });
        Ramp { window, until, trials: AtomicU32::new(0), reported: None, begun: AtomicBool::new(false) }
    }

    /// The same where servers report their weights. So that nobody else pays for it, the word that all look at says that a ramp is on its way.
    pub(crate) fn with(mut self, reported: Option<Reported>) -> Ramp {
        if reported.is_some() {
            self.until = AtomicU64::new(NEW);
        }
        Ramp { reported, ..self }
    }

    /// What servers report, if that is their weight.
    pub(crate) fn reported(&self) -> Option<&Reported> {
        self.reported.as_ref()
    }

    /// Whether any server's share may not be whole.
    pub(crate) fn is_active(&self, now: Millis) -> bool {
        now.0 < self.until.load(Relaxed)
    }

    /// A server came back: it begins now.
    pub(crate) fn begin(&self, server: &Server, now: Millis) {
        if self.reported.is_some() {
            server.live.said.begin();
        }
        if self.window == 0 {
            return;
        }
        let began = now.0.max(1); // 0 is the word for a whole share
        server.live.ramp.store(began, Relaxed);
        self.until.fetch_max(began + self.window, Relaxed);
    }

    /// Begins what waits for its first pick. To be called before shares are asked for.
    pub(crate) fn begin_new(&self, servers: &[Server], now: Millis) {
        if let Some(reported) = &self.reported {
            reported.refresh(servers, now);
            if self.begun.load(Relaxed) || self.begun.swap(true, Relaxed) {
                return;
            }
        } else if self.until.load(Relaxed) != NEW {
            return;
        }
        let began = now.0.max(1);
        for server in servers {
            // Several workers may get here; the first one's time counts.
            let _ = server.live.ramp.compare_exchange(NEW, began, Relaxed, Relaxed);
        }
        if self.reported.is_none() {
            let _ = self.until.compare_exchange(NEW, began + self.window, Relaxed, Relaxed);
        }
    }

    /// A server's share, `LEAST` to `WHOLE`; with reported weights 1 to `WHOLE`.
    pub(crate) fn share(&self, server: &Server, now: Millis) -> u64 {
        let share = match server.live.ramp.load(Relaxed) {
            0 => WHOLE,
            NEW => LEAST,
            began => {
                let elapsed = now.0.saturating_sub(began);
                if elapsed >= self.window { WHOLE } else { (elapsed * WHOLE / self.window).max(LEAST) }
            }
        };
        match &self.reported {
            None => share,
            Some(_) => (share * server.live.said.factor() / WHOLE).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_config::model::Address;
    use std::sync::Arc;

    fn server(ramp: u64) -> Server {
        let live = crate::server::Live::default();
        live.ramp.store(ramp, Relaxed);
        Server {
            name: "a".into(),
            address: Address::Name("a".into(), 1),
            weight: 1,
            priority: 0,
            backup: false,
            max_requests: 1,
            state: plimsoll_config::model::ServerState::Ready,
            says_down: false,
            live: Arc::new(live),
            check: None,
            health: Arc::default(),
            gradient: None,
        }
    }

    const SECOND: u64 = 1_000;

    #[test]
    fn a_share_grows_in_a_line_from_a_tenth() {
        let servers = [server(0), server(NEW)];
        let ramp = Ramp::new(Duration::from_secs(10), &servers);
        let at = Millis(100 * SECOND);
        assert!(ramp.is_active(at));
        ramp.begin_new(&servers, at);
        let shares = [0, 500, 1_000, 2_500, 5_000, 9_999, 10_000, 99_000]
            .map(|millis| ramp.share(&servers[1], Millis(at.0 + millis)));
        assert_eq!(shares, [100, 100, 100, 250, 500, 999, 1_000, 1_000]);
        assert_eq!(ramp.share(&servers[0], at), WHOLE);
        assert!(
            ramp.is_active(Millis(at.0 + 10 * SECOND - 1)) && !ramp.is_active(Millis(at.0 + 10 * SECOND))
        );
    }

    #[test]
    fn who_comes_back_begins_again() {
        let servers = [server(0)];
        let ramp = Ramp::new(Duration::from_secs(10), &servers);
        assert!(!ramp.is_active(Millis(0)));
        ramp.begin(&servers[0], Millis(0));
        assert_eq!(ramp.share(&servers[0], Millis(5_001)), 500);
        ramp.begin(&servers[0], Millis(6 * SECOND));
        assert_eq!(ramp.share(&servers[0], Millis(6 * SECOND)), LEAST);
        assert!(ramp.is_active(Millis(16 * SECOND - 1)) && !ramp.is_active(Millis(16 * SECOND)));
    }

    #[test]
    fn without_a_window_there_is_no_ramp() {
        let servers = [server(NEW)];
        let ramp = Ramp::new(Duration::ZERO, &servers);
        ramp.begin(&servers[0], Millis(5));
        assert!(!ramp.is_active(Millis(0)));
    }
}

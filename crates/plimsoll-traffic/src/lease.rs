//! A slot of a server, held by whoever serves a request, and the way in which policies hear what became of it.
//!
//! `Balancer::pick` gives it out. It goes back when dropped, however that comes about; what it was told before is what
//! policies learn from. It must never be possible to hold a slot without one of these.

use std::cell::Cell;
use std::rc::Rc;

use crate::balancer::Balancer;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::server::Server;
use crate::time::Micros;

/// A slot of a server, given back when dropped: at the end, on cancel, on panic.
#[derive(Debug)]
#[must_use = "dropping a lease gives the slot back"]
pub struct Lease {
    balancer: Rc<Balancer>,
    index: u32,
    /// Nobody has said yet what became of the request.
    waits: Cell<bool>,
    /// When the server was chosen.
    since: Micros,
    /// It tries a server that was ejected, and nobody has said yet how that went.
    trial: Cell<bool>,
}

impl Lease {
    pub(crate) fn new(balancer: Rc<Balancer>, index: u32, since: Micros) -> Lease {
        Lease { balancer, index, waits: Cell::new(true), since, trial: Cell::new(false) }
    }

    pub(crate) fn on_trial(self) -> Lease {
        self.trial.set(true);
        self
    }

    /// The server's index in its backend.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.balancer.server(self.index)
    }

    /// A connect to the server succeeded: what an earlier refusal said is over, and its share grows anew.
    pub fn connected(&self, now: Micros) {
        let server = self.server();
        if server.live.connected() {
            self.balancer.backend().ramp.begin(server, now.millis());
        }
    }

    /// The server answered, and not with a failure of its own.
    #[inline]
    pub fn succeeded(&self, now: Micros) {
        if self.server().live.fails() || self.trial.get() {
            self.balancer.backend().recovered(self.index as usize, self.trial.take(), now.millis());
        }
    }

    /// The request failed by the server's fault: no connection, no answer in time or none that can be understood, or one that says so
    /// (502, 503, 504; a 500 is the application's own affair). `reason` is for people.
    #[cold]
    pub fn failed(&self, reason: &str, now: Micros) {
        self.fails(reason, now);
    }

    /// The same where the connection broke or was not made. All that one crash breaks is one failure: a request that was under way at the last
    /// break says nothing new, and a server that is restarted under load is not to be ejected for it.
    #[cold]
    pub fn broke(&self, reason: &str, now: Micros) {
        if self.trial.get() || self.server().live.breaks_anew(self.since, now) {
            self.fails(reason, now);
        } else {
            self.server().live.count_broken();
        }
    }

    fn fails(&self, reason: &str, now: Micros) {
        self.balancer.backend().failed(self.index as usize, reason, self.trial.take(), now.millis());
    }

    /// Whether the policy learns from outcomes: if not, nobody need find out what to tell it.
    pub fn learns(&self) -> bool {
        self.balancer.learns()
    }

    /// Whether what the server says with its answer is of any use: if not, nobody need look for it.
    #[inline]
    pub fn hears(&self) -> bool {
        self.balancer.hears()
    }

    /// Whether what it reports of its load is.
    #[inline]
    pub fn reports(&self) -> bool {
        self.balancer.reports()
    }

    /// Whether its word is another one than was heard last: only then anybody need act on it.
    pub fn is_news(&self, word: &[u8]) -> bool {
        self.balancer.is_news(self.index, word)
    }

    /// The same, and from now on it is the one that was heard last. To be asked where nobody else can pass on another word in between.
    pub fn takes_news(&self, word: &[u8]) -> bool {
        self.balancer.takes_news(self.index, word)
    }

    /// Tells the balancer what the server reported with its answer, at `now`. To be told before the outcome.
    pub fn hear(&self, report: &Report, now: Micros) {
        self.balancer.hear(self.index, report, Some(now.since(self.since)), now);
    }

    /// Tells the policy what became of the request: once, when the head of the answer has come or the attempt has failed.
    /// The slot is still held: a body may take long and says nothing about the server. Later calls change nothing.
    pub fn observe(&self, outcome: &Outcome) {
        if self.waits.replace(false) && self.balancer.learns() {
            self.balancer.learn(self.index, self.since, Some(outcome));
        }
    }

    /// The same, and gives the slot back.
    pub fn finish(self, outcome: &Outcome) {
        self.observe(outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.waits.get() && self.balancer.learns() {
            self.balancer.learn(self.index, self.since, None);
        }
        if self.trial.get() {
            self.balancer.backend().undecided(self.index as usize);
        }
        self.balancer.give_back(self.index);
    }
}

//! What is known of a server, for the process that comes after this one.
//!
//! Out goes what was learned, with ages instead of times, because another process has another clock; in it comes there. Requests in
//! flight are no part of it: they end where they began. It must never tell more than was known, or as if it had been learned later.

use crate::sync::atomic::Ordering::Relaxed;

use plimsoll_config::model::ServerState;

use crate::backend::Backend;
use crate::gradient::Limit;
use crate::health::Remembered;
use crate::ramp::NEW;
use crate::server::{REFUSED_FOR, Server};
use crate::time::{Micros, Millis};

/// What was learned about one server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// It refused a connection, and is passed over for so many more milliseconds.
    pub refused_for: Option<u64>,
    /// The expected latency in microseconds, and how many milliseconds ago that was said.
    pub latency: Option<(f32, u32)>,
    /// Its share began to grow so many milliseconds ago.
    pub ramp: Option<u64>,
    /// Its limit of requests in flight that was found out.
    pub limit: Option<Limit>,
    /// What it is to do, and for how many milliseconds that has been so, if it was ever anything else.
    pub told: Option<(ServerState, u64)>,
    /// What is known of its health.
    pub health: Option<Remembered>,
}

impl Server {
    /// What is known as of `now`; `None` for nothing.
    pub fn memory(&self, now: Millis) -> Option<Memory> {
        let stamp = now.0 as u32;
        let ramp = Some(self.live.ramp.load(Relaxed)).filter(|&began| began != 0 && began != NEW);
        let (told, health) = {
            let record = self.health.record();
            (record.told(now), record.remembered(now, self.state == ServerState::Maint))
        };
        let memory = Memory {
            refused_for: Some(self.live.refused_until().saturating_sub(now.0)).filter(|&left| left > 0),
            latency: self.live.latency().map(|(latency, said)| (latency, stamp.wrapping_sub(said))),
            ramp: ramp.map(|began| now.0.saturating_sub(began)),
            limit: self
                .gradient
                .as_ref()
                .map(|gradient| gradient.told())
                .filter(|told| told.least_latency > 0),
            told,
            health,

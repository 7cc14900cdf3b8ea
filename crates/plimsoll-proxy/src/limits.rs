//! Rate limits of a route: asked before anything else is done for a request.
//!
//! The counting is `plimsoll-traffic`'s; here the key is found in the request's head, and the client is told by `RateLimit`,
//! `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) and, if refused, `Retry-After`. A dry run tells nobody but the log and the metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model;
use plimsoll_http::Head;
use plimsoll_traffic::{Micros, RateLimit, RateVerdict};

use crate::plan::key_of;

/// One limit, with what is remembered of its keys.
pub(crate) struct Limiter {
    pub(crate) spec: model::Limit,
    /// The key as it is written.
    pub(crate) name: String,
    pub(crate) rate: Arc<RateLimit>,
}

/// What a limit may go on from.
pub(crate) struct Earlier<'e> {
    pub(crate) key: &'e str,
    /// Requests, in how much time, and how many at once.
    pub(crate) of: (u32, Duration, u32),
    pub(crate) rate: Arc<RateLimit>,
}

/// What a request's limits say.
#[derive(Default)]
pub(crate) struct Ruling {
    /// It has to be refused.
    pub(crate) refused: bool,
    /// It would have been, but for a dry run.
    pub(crate) would_refuse: bool,
    /// Fields for the answer, whole lines.
    pub(crate) fields: Vec<u8>,
}

/// What is counted of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitTotals {
    /// Its key, as it is written.
    pub key: String,
    /// Nobody is refused.
    pub dry_run: bool,
    /// Requests that were refused, or would have been.
    pub refused: u64,
    /// Keys that were given a fresh start for want of memory.
    pub forgotten: u64,
}

impl Limiter {
    /// The limits of a route. One that was there before is the same; one with the same key but other figures goes on with what keys owe.
    pub(crate) fn of(specs: &[model::Limit], mut earlier: Vec<Earlier<'_>>, now: Micros) -> Box<[Limiter]> {
        let names: Vec<String> = specs.iter().map(|spec| spec.key.to_string()).collect();
        let mut take = |fits: &dyn Fn(&Earlier<'_>) -> bool| {
            earlier.iter().position(fits).map(|place| earlier.remove(place).rate)
        };
        let of = |spec: &model::Limit| (spec.requests, spec.per, spec.burst);
        let same = |(spec, name): (&model::Limit, &String)| take(&|e| e.key == name && e.of == of(spec));
        // All of them first: another one's is not to be taken for its key alone.
        let same: Vec<Option<Arc<RateLimit>>> = specs.iter().zip(&names).map(same).collect();
        let limiter = |((spec, name), same): ((&model::Limit, String), Option<Arc<RateLimit>>)| {
            let rate = same.unwrap_or_else(|| {
                let (requests, per, burst) = of(spec);
                Arc::new(match take(&|e| e.key == name) {
                    Some(rate) => RateLimit::after(requests, per, burst, &rate.memory(now, usize::MAX), now),
                    None => RateLimit::new(requests, per, burst),
                })
            });
            Limiter { spec: spec.clone(), name, rate }
        };
        specs.iter().zip(names).zip(same).map(limiter).collect()
    }

    /// For the limits of the next configuration.
    pub(crate) fn earlier(&self) -> Earlier<'_> {
        let of = (self.spec.requests, self.spec.per, self.spec.burst);
        Earlier { key: &self.name, of, rate: Arc::clone(&self.rate) }
    }

    pub(crate) fn totals(&self) -> LimitTotals {
        LimitTotals {
            key: self.name.clone(),
            dry_run: self.spec.dry_run,
            refused: self.rate.refused(),
            forgotten: self.rate.forgotten(),
        }
    }
}

/// Asks all limits; the first that refuses decides, and what it says is what the client is told. If all let it pass that is the one with the
/// least left.
#[inline(never)] // routes without limits don't come here
pub(crate) fn rule(
    limiters: &[Limiter],
    (head, bytes): (&Head, &[u8]),
    target: &[u8],
    client: IpAddr,
    now: Micros,
) -> Ruling {
    let mut ruling = Ruling::default();
    let mut told: Option<(&Limiter, RateVerdict)> = None;
    for limiter in limiters {
        let verdict = limiter.ask(head, bytes, target, client, now);
        if limiter.spec.dry_run {
            ruling.would_refuse |= !verdict.passes;
            continue;
        }
        if told.is_none_or(|(_, least)| verdict.remaining < least.remaining || !verdict.passes) {
            told = Some((limiter, verdict));
        }
        if !verdict.passes {
            ruling.refused = true;
            break;
        }
    }
    if let Some((limiter, verdict)) = told {
        limiter.tell(&verdict, &mut ruling.fields);
    }
    ruling
}

impl Limiter {
    fn ask(&self, head: &Head, bytes: &[u8], target: &[u8], client: IpAddr, now: Micros) -> RateVerdict {
        match (key_of(&self.spec.key, head, bytes, target), client.to_canonical()) {
            (Some(value), _) => self.rate.ask(value, now),
            (None, IpAddr::V4(v4)) => self.rate.ask(&v4.octets(), now),
            // The smallest block that one customer is given.
            (None, IpAddr::V6(v6)) => self.rate.ask(&v6.octets()[..8], now),
        }
    }

    fn tell(&self, verdict: &RateVerdict, out: &mut Vec<u8>) {
        let window = self.spec.per.as_secs_f64() * f64::from(self.spec.burst) / f64::from(self.spec.requests);
        let name = self.name.replace(['"', '\\'], "");
        let text = format!(
            "RateLimit-Policy: \"{name}\";q={};w={}\r\nRateLimit: \"{name}\";r={};t={}\r\n",
            self.rate.burst(),
            window.ceil().max(1.0),
            verdict.remaining,
            whole_seconds(verdict.reset),
        );
        out.extend_from_slice(text.as_bytes());
        if !verdict.passes {
            let line = format!("Retry-After: {}\r\n", whole_seconds(verdict.wait).max(1));
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

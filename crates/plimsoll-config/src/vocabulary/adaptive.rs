//! The keys of limits that are found out.
//!
//! Texts are shown to users, so they are sentences about what happens.

use super::Default::{Number, Said, Time};
use super::{Kind, Table, key};
use crate::defaults as d;

pub(super) static ADAPTIVE: Table = Table {
    id: "adaptive_concurrency",
    title: "an adaptive concurrency table",
    about: "How the number of requests that a server may have in flight follows how long its answers take. It never exceeds the server's `max_requests`.",
    keys: &[
        key("least", Kind::Number(1, d::MOST), Number(d::ADAPTIVE_LEAST), "No limit becomes smaller."),
        key("start", Kind::Number(1, d::MOST), Number(d::ADAPTIVE_START), "What a new server begins with."),
        key(
            "tolerance",
            Kind::Factor(d::ADAPTIVE_TOLERANCES.0, d::ADAPTIVE_TOLERANCES.1),
            Said("`1.2`"),
            "How many times the latency of a server without load is no sign of load yet. More is for servers whose latency grows long before they are full.",
        ),
        key(
            "probe",
            Kind::Time(d::SHORTEST_PROBE, d::LONGEST_RAMP),
            Time(d::ADAPTIVE_PROBE),
            "A server that has been loaded for so long, ± 25 %, has half its limit for a moment, to see how fast it is without load.",
        ),
    ],
    later: &[],
    elsewhere: &[
        ("min", "least"),
        ("min_concurrency", "least"),
        ("min_limit", "least"),
        ("initial", "start"),
        ("initial_limit", "start"),
        ("buffer", "tolerance"),
        ("rtt_tolerance", "tolerance"),
        ("interval", "probe"),
        ("min_rtt_interval", "probe"),
    ],
};

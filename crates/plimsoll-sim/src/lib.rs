//! Seeded worlds of clients, balancers and servers that drive the balancing code which production runs.
//!
//! In goes a world and a policy, or a scenario that has several of each; out come figures, judged by what is expected, and
//! pictures. It owns time and chance and models servers, clients and networks; it must never make a choice that
//! `plimsoll-traffic` makes, and it reads no clock, no file and no environment, so one seed gives the same bytes everywhere.

pub mod contracts;

mod arrivals;
mod checks;
mod clients;
mod engine;
mod events;
mod front;
mod gauge;
mod hedging;
mod histogram;
mod json;
mod law;
mod machine;
mod measure;
mod plot;
mod policy;
mod quantity;
mod queueing;
mod reference;
mod report;
mod reporting;
mod requests;
mod retrying;
mod scenario;
mod shipped;
mod spec;
mod streams;
mod study;
mod surroundings;
mod told;
mod world;

pub use arrivals::{Arrivals, Traced, parse_trace};
pub use histogram::Histogram;
pub use law::Law;
pub use machine::Discipline;
pub use measure::{Bound, Measure, figure};
pub use policy::Policy;
pub use quantity::{AboveOne, Count, NotNegative, Positive, Share};
pub use reference::Reference;
pub use report::{BATCHES, Bin, Ends, Moved, Report, Series};
pub use scenario::{Case, Expectation, Scenario};
pub use shipped::SHIPPED;
pub use study::{Job, Judged, Study, Verdict};
pub use world::{Antagonist, Change, Client, Fail, Hiccup, Keys, Proxy, Server, What, World};

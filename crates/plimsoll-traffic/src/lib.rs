//! What a load balancer decides, and nothing else: which route, which server, may it pass, may it be tried again.
//!
//! In come the checked configuration, the time (`Micros`) and the dice (`Dice`); out go decisions and guards. The only
//! state is counters: atomics where all workers share them, cells where one worker owns them. Nothing here reads a
//! clock, opens a socket, spawns, logs, or knows tokio, so a simulator can drive exactly what production runs.

pub mod backend;
pub mod balancer;
pub mod budget;
pub mod dice;
mod ewma;
mod gradient;
mod hashing;
pub mod health;
pub mod hedge;
mod kept;
mod lease;
mod levels;
pub mod limit;
mod maglev;
mod maglev_fill;
mod memory;
pub mod outcome;
pub mod pace;
mod path;
mod prequal;
pub mod pressure;
pub mod queue;
mod queue_rate;
mod ramp;
mod ranking;
mod rate;
mod recent;
mod rendezvous;
mod report;
mod reported;
pub mod retry;
mod ring;
mod rotation;
pub mod route;
pub mod sample;
pub mod server;
mod share;
mod smooth;
mod stays;
mod subset;
mod sync;
pub mod time;
pub mod waiting;
mod weights;
mod word;

pub use backend::Backend;
pub use balancer::{Ask, Balancer, NoServer, Session, Split};
pub use budget::{RetryBudget, Savings};
pub use dice::Dice;
pub use gradient::Limit;
pub use hashing::hash_key;
pub use health::{Condition, LastCheck, Remembered, State, Turn};
pub use hedge::{NoHedge, hedge_delay};
pub use kept::Kept;
pub use lease::Lease;
pub use limit::{ClientSlot, Gate, GateSlot, PerClient};
pub use memory::Memory;
pub use outcome::{Outcome, Verdict};
pub use pace::Pace;
pub use queue::{Rank, Refusal, Stand};
pub use rate::{RateLimit, RateMemory, Verdict as RateVerdict};
pub use report::Report;
pub use retry::{Again, Attempt, Denied, Failure, Wish, again, idempotent, permit, retry_after};
pub use route::{Router, split};
pub use sample::{Budget, Parent, continues, sampled};
pub use server::{Live, Server};
pub use time::{Micros, Millis};
pub use waiting::Place;
pub use word::{Claim, Word};

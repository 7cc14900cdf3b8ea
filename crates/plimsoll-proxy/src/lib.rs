//! The data plane: clients in, servers out, and everything between a request's head and its log line.
//!
//! ```text
//! client ─ listener ─ downstream ─▶ exchange ─▶ attempt ─▶ pool / connect ─▶ server
//!                                     │ response, tunnel      (bytes move in pump)
//!                              snapshot, access_log
//! ```
//! It owns sockets, time and tasks; it asks `plimsoll-traffic` which route, which server and whether to try again, and
//! `plimsoll-http` what bytes mean. It reads no configuration files and knows of no admin API. `exchange` is the file to
//! read first.

mod access_log;
mod attempt;
mod buffer;
mod clock;
mod connect;
mod deadline;
mod downstream;
mod error;
mod exchange;
mod forward;
mod histogram;
mod lag;
mod learned_limits;
mod limits;
mod listener;
mod load_report;
mod log_writer;
mod notice;
mod plan;
mod pool;
mod probe;
mod proxy;
mod pump;
mod race;
mod reply;
mod request_id;
mod response;
mod seats;
mod second;
mod share;
mod shortage;
mod snapshot;
mod stats;
mod sticky;
mod stream;
mod sync;
mod totals;
mod trace;
mod tries;
mod tunnel;
mod turn;
mod waiting;
mod words;
mod worker;

pub use histogram::{BOUNDS, Durations};
pub use learned_limits::LearnedLimit;
pub use limits::LimitTotals;
pub use listener::is_for;
pub use notice::notice;
pub use plimsoll_http::TraceParent;
pub use plimsoll_traffic::{Limit, Memory, Micros, Millis, RateMemory, Remembered};
pub use proxy::{Proxy, StartError, now, now_micros};
pub use snapshot::{Learned, Snapshot};
pub use stats::{CODES, Stats};
pub use totals::{FurtherTotals, ListenerTotals, ServerTotals, Totals, WorkerLoad};
pub use trace::{AttemptSpan, RequestSpan, SpanQueue, span_queue};
pub use words::{Heard, Told, Words};

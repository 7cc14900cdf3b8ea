//! What every policy promises, as properties over seeded worlds; beside most stands a wrong twin that must fail.
//!
//! `fleet` builds backends and puts load on their servers through leases, as production does: nothing here reaches
//! behind the public interface.

mod adaptive;
mod eligible;
mod empty;
mod fleet;
mod keys;
mod leases;
mod levels;
mod load;
mod shares;

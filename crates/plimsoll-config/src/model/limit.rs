//! How many requests one key may make on a route.

use std::time::Duration;

use super::HashKey;

/// One rate limit of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// So many requests…
    pub requests: u32,
    /// …in so much time.
    pub per: Duration,
    /// So many at once, after a silence; at least 1.
    pub burst: u32,
    /// Whose requests are counted together. A request without the key counts by its client's address.
    pub key: HashKey,
    /// Refuses nobody, and counts whom it would have refused.
    pub dry_run: bool,
}

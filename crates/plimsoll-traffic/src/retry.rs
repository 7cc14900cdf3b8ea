//! Whether a failed attempt may be repeated, and where.
//!
//! In goes how it failed and what was already sent, out comes the next step. Pure tables. A request that might have
//! been acted upon must never be sent twice unless its method says that this is harmless (RFC 9110, 9.2.2); a `POST`
//! of which a byte was sent is never sent again.

/// How an attempt failed, before any byte of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connect was refused, unreachable or timed out: this attempt sent nothing.
    Connect,
    /// A pooled connection closed before any byte of a response: the server gave it up while it was idle.
    StaleReuse,
    /// A fresh connection closed before any byte of a response.
    Reset,
    /// Anything else: a timeout, a malformed answer, an answer that had begun.
    Other,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Try the same server over a fresh connection.
    SameServerFresh,
    /// Try another server.
    OtherServer,
    /// Give up and answer with the failure.
    No,
}

/// What decides whether a request can be repeated.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Of the method; see [`idempotent`].
    pub idempotent: bool,
    /// Any byte of the request went out, in this attempt or an earlier one.
    pub anything_sent: bool,
    /// All that was read of the request is still in the replay buffer.
    pub replayable: bool,
    /// Retries left.
    pub left: u32,
    /// The one repetition over a fresh connection was used.
    pub fresh_used: bool,
}

/// What follows a failed attempt.
///
/// The repetition after `StaleReuse` is not counted against `left`: the server did nothing wrong, our pool was late.
pub fn again(failure: Failure, attempt: &Attempt) -> Again {
    let safe = attempt.idempotent || !attempt.anything_sent;
    if !safe || !attempt.replayable {
        return Again::No;
    }
    match failure {
        Failure::StaleReuse if !attempt.fresh_used => Again::SameServerFresh,
        Failure::Connect | Failure::StaleReuse | Failure::Reset if attempt.left > 0 => Again::OtherServer,
        _ => Again::No,
    }
}

/// Whether sending a request with this method twice is the same as once (RFC 9110, 9.2.2). Methods are case-sensitive.
pub fn idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: [Failure; 4] = [Failure::Connect, Failure::StaleReuse, Failure::Reset, Failure::Other];

    /// A GET that was sent, with everything in its favour.
    const GET: Attempt =
        Attempt { idempotent: true, anything_sent: true, replayable: true, left: 2, fresh_used: false };
    const POST: Attempt = Attempt { idempotent: false, ..GET };

    fn every_attempt() -> impl Iterator<Item = Attempt> {
        (0..32u32).map(|bits| Attempt {
            idempotent: bits & 1 != 0,
            anything_sent: bits & 2 != 0,
            replayable: bits & 4 != 0,
            left: bits >> 3 & 1,
            fresh_used: bits & 16 != 0,
        })
    }

    #[test]
    fn a_post_of_which_a_byte_was_sent_is_never_sent_again() {
        for attempt in every_attempt().filter(|a| !a.idempotent && a.anything_sent) {
            assert!(FAILURES.iter().all(|&f| again(f, &attempt) == Again::No), "{attempt:?}");
        }
    }

    #[test]
    fn what_is_no_longer_in_the_replay_buffer_is_never_sent_again() {
        for attempt in every_attempt().filter(|a| !a.replayable) {
            assert!(FAILURES.iter().all(|&f| again(f, &attempt) == Again::No), "{attempt:?}");
        }
    }

    #[test]
    fn a_failed_connect_goes_to_another_server_whatever_the_method() {
        let unsent = Attempt { anything_sent: false, ..POST };
        assert_eq!(again(Failure::Connect, &unsent), Again::OtherServer);
        assert_eq!(again(Failure::Connect, &GET), Again::OtherServer);
        assert_eq!(again(Failure::Connect, &Attempt { left: 0, ..unsent }), Again::No);
    }

    #[test]
    fn a_stale_connection_is_replaced_once_even_without_retries() {
        let none_left = Attempt { left: 0, ..GET };
        assert_eq!(again(Failure::StaleReuse, &none_left), Again::SameServerFresh);
        assert_eq!(again(Failure::StaleReuse, &Attempt { fresh_used: true, ..none_left }), Again::No);
        assert_eq!(again(Failure::StaleReuse, &Attempt { fresh_used: true, ..GET }), Again::OtherServer);
        assert_eq!(
            again(Failure::StaleReuse, &Attempt { anything_sent: false, ..POST }),
            Again::SameServerFresh
        );
        assert_eq!(again(Failure::StaleReuse, &POST), Again::No);
    }

    #[test]
    fn a_reset_of_an_idempotent_request_goes_to_another_server() {
        assert_eq!(again(Failure::Reset, &GET), Again::OtherServer);
        assert_eq!(again(Failure::Reset, &POST), Again::No);
    }

    #[test]
    fn retries_end_and_other_failures_are_final() {
        for attempt in every_attempt() {
            assert_eq!(again(Failure::Other, &attempt), Again::No);
            if attempt.left == 0 {
                assert!(FAILURES.iter().all(|&f| again(f, &attempt) != Again::OtherServer), "{attempt:?}");
            }
            if attempt.fresh_used {
                assert!(
                    FAILURES.iter().all(|&f| again(f, &attempt) != Again::SameServerFresh),
                    "{attempt:?}"
                );
            }
        }
    }

    #[test]
    fn knows_the_idempotent_methods() {
        assert!(
            [&b"GET"[..], b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"].iter().all(|m| idempotent(m))
        );
        assert!([&b"POST"[..], b"PATCH", b"CONNECT", b"get", b""].iter().all(|m| !idempotent(m)));
    }
}

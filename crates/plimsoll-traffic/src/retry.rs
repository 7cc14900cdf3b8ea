//! Whether a failed attempt may be repeated, where, and after how long.
//!
//! In goes how it failed and what was already sent, out comes the next step. [`again`] is a pure table of what is safe and wanted; [`permit`] then asks
//! the clock and the budget. A request that might have been acted upon must never be sent twice unless its method says that this is
//! harmless (RFC 9110, 9.2.2); a `POST` of which a byte was sent is never sent again.

use plimsoll_config::model::RetryOn;

use crate::budget::RetryBudget;
use crate::dice::Dice;
use crate::time::Millis;

/// The longest that a server's `Retry-After` is waited for, in milliseconds.
pub const MOST_ASKED: u64 = 1_000;
/// Between two retries, from the second on, in milliseconds: both bounds included.
pub const PAUSE: (u64, u64) = (25, 250);

/// How an attempt failed, before any byte of a response was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connect was refused, unreachable or timed out: this attempt sent nothing.
    Connect,
    /// A pooled connection closed before any byte of a response: the server gave it up while it was idle.
    StaleReuse,
    /// A fresh connection closed before any byte of a response.
    Reset,
    /// No byte of a response came in time.
    Timeout,
    /// The server answered with this status.
    Answer(u16),
    /// Anything else: a malformed answer, an answer that was cut.
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
    /// After what the route wants another try.
    pub on: RetryOn,
}

/// What follows a failed attempt.
///
/// The repetition after `StaleReuse` is not counted against `left`: the server did nothing wrong, our pool was late. An answer says that the
/// server has seen the request, so only what may be repeated in any case goes on after one.
pub fn again(failure: Failure, attempt: &Attempt) -> Again {
    let safe = attempt.idempotent || !attempt.anything_sent;
    if !safe || !attempt.replayable {
        return Again::No;
    }
    let wanted = match failure {
        Failure::StaleReuse if !attempt.fresh_used => return Again::SameServerFresh,
        Failure::Connect => attempt.on.connect,
        Failure::StaleReuse | Failure::Reset => attempt.on.reset,
        Failure::Timeout => attempt.idempotent && attempt.on.timeout,
        Failure::Answer(status) => attempt.idempotent && attempt.on.has(status),
        Failure::Other => false,
    };
    if wanted && attempt.left > 0 { Again::OtherServer } else { Again::No }
}

/// Another try that would be safe and is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Which retry of its request: 1 is the first.
    pub number: u32,
    /// What the answer's `Retry-After` asks for, in milliseconds.
    pub asked: Option<u64>,
    /// Until the request's time is up, in milliseconds.
    pub time_left: Option<u64>,
    /// What an answer usually takes, in milliseconds, if that is known.
    pub usual: Option<u64>,
}

/// Why there is no other try although it would be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The backend has had as many as its requests allow.
    Budget,
    /// It would hardly be answered in the time that is left.
    Time,
}

impl Denied {
    /// As logs and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Denied::Budget => "budget",
            Denied::Time => "time",
        }
    }
}

/// Gives leave to try again and takes it from the budget; says how long to wait before, in milliseconds.
///
/// # Errors
/// Why not; then nothing was taken.
pub fn permit(wish: &Wish, budget: &RetryBudget, now: Millis, dice: &mut Dice) -> Result<u64, Denied> {
    let pause = pause(wish, dice);
    if wish.time_left.is_some_and(|left| left <= pause.saturating_add(wish.usual.unwrap_or(0))) {
        return Err(Denied::Time);
    }
    if budget.withdraw(now) { Ok(pause) } else { Err(Denied::Budget) }
}

/// The first retry goes at once, since it goes to another server; later ones are spread, so that those that failed together don't
/// come together again. A server that asks for more is given it, up to [`MOST_ASKED`].
fn pause(wish: &Wish, dice: &mut Dice) -> u64 {
    let (least, most) = PAUSE;
    let spread = match wish.number {
        0 | 1 => 0,
        _ => least + u64::from(dice.below((most - least + 1) as u32)),
    };
    spread.max(wish.asked.unwrap_or(0).min(MOST_ASKED))
}

/// What `Retry-After` asks for, in milliseconds (RFC 9110, 10.2.3); `None` for what is neither seconds nor could be a date. A date has no finer
/// unit than a second, so it counts as more than is ever waited for.
pub fn retry_after(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    match value.first()? {
        b'0'..=b'9' if value.iter().all(u8::is_ascii_digit) => {
            let digits = std::str::from_utf8(value).ok()?;
            Some(digits.parse::<u64>().map_or(MOST_ASKED, |seconds| seconds.saturating_mul(1_000)))
        }
        b'A'..=b'Z' if value.ends_with(b" GMT") => Some(MOST_ASKED),
        _ => None,
    }
}

/// Whether sending a request with this method twice is the same as once (RFC 9110, 9.2.2). Methods are case-sensitive.
pub fn idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: [Failure; 10] = [
        Failure::Connect,
        Failure::StaleReuse,
        Failure::Reset,
        Failure::Timeout,
        Failure::Answer(500),
        Failure::Answer(502),
        Failure::Answer(503),
        Failure::Answer(504),
        Failure::Answer(200),
        Failure::Other,
    ];

    /// A GET that was sent, with everything in its favour.
    const GET: Attempt = Attempt {
        idempotent: true,
        anything_sent: true,
        replayable: true,
        left: 2,
        fresh_used: false,
        on: RetryOn::USUAL,
    };
    const POST: Attempt = Attempt { idempotent: false, ..GET };

    fn every_attempt() -> impl Iterator<Item = Attempt> {
        (0..2048u32).map(|bits| Attempt {
            idempotent: bits & 1 != 0,
            anything_sent: bits & 2 != 0,
            replayable: bits & 4 != 0,
            left: bits >> 3 & 1,
            fresh_used: bits & 16 != 0,
            on: RetryOn {
                connect: bits & 32 != 0,
                reset: bits & 64 != 0,
                bad_gateway: bits & 128 != 0,
                unavailable: bits & 256 != 0,
                gateway_timeout: bits & 512 != 0,
                timeout: bits & 1024 != 0,
            },
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
    fn an_answer_is_asked_for_again_only_if_the_method_allows_it_and_the_route_names_its_status() {
        for attempt in every_attempt() {
            for status in 100..600 {
                let named = match status {
                    502 => attempt.on.bad_gateway,
                    503 => attempt.on.unavailable,
                    504 => attempt.on.gateway_timeout,
                    _ => false,
                };
                let wanted = named && attempt.idempotent && attempt.replayable && attempt.left > 0;
                let expected = if wanted { Again::OtherServer } else { Again::No };
                assert_eq!(again(Failure::Answer(status), &attempt), expected, "{status} {attempt:?}");
            }
        }
    }

    #[test]
    fn what_the_route_does_not_name_is_not_tried_elsewhere() {
        for attempt in every_attempt() {
            let goes_on = |failure| again(failure, &attempt) == Again::OtherServer;
            assert!(attempt.on.connect || !goes_on(Failure::Connect), "{attempt:?}");
            assert!(attempt.on.timeout || !goes_on(Failure::Timeout));
            assert!(attempt.on.reset || !(goes_on(Failure::Reset) || goes_on(Failure::StaleReuse)));
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
    fn an_idempotent_request_without_an_answer_goes_to_another_server_where_the_route_wants_it() {
        let on = RetryOn { timeout: true, ..RetryOn::USUAL };
        assert_eq!(again(Failure::Timeout, &GET), Again::No);
        assert_eq!(again(Failure::Timeout, &Attempt { on, ..GET }), Again::OtherServer);
        assert_eq!(again(Failure::Timeout, &Attempt { on, anything_sent: false, ..POST }), Again::No);
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

    fn wish(number: u32, asked: Option<u64>) -> Wish {
        Wish { number, asked, time_left: None, usual: None }
    }

    #[test]
    fn the_first_retry_goes_at_once_and_later_ones_are_spread_over_the_whole_range() {
        let mut dice = Dice::new(3);
        assert!((0..100).all(|_| pause(&wish(1, None), &mut dice) == 0));
        for number in 2..6 {
            let drawn: Vec<u64> = (0..10_000).map(|_| pause(&wish(number, None), &mut dice)).collect();
            let mean = drawn.iter().sum::<u64>() as f64 / 1e4;
            assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&PAUSE.0), Some(&PAUSE.1)));
            assert!((mean - 137.5).abs() < 2.6, "{mean}: four deviations of the mean of a uniform number");
        }
    }

    #[test]
    fn a_server_is_given_the_time_that_it_asks_for_up_to_a_second() {
        let mut dice = Dice::new(4);
        for (asked, first) in [(0, 0), (300, 300), (1_000, 1_000), (30_000, 1_000)] {
            assert_eq!(pause(&wish(1, Some(asked)), &mut dice), first);
            assert!(pause(&wish(2, Some(asked)), &mut dice) >= first.max(PAUSE.0));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let cases: [(&str, Option<u64>); 9] = [
            ("0", Some(0)),
            (" 1 ", Some(1_000)),
            ("120", Some(120_000)),
            ("99999999999999999999999", Some(MOST_ASKED)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(MOST_ASKED)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, expected) in cases {
            assert_eq!(retry_after(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_try_that_would_come_too_late_is_not_made_and_costs_nothing() {
        let (budget, mut dice) = (RetryBudget::default(), Dice::new(5));
        let now = Millis(0);
        let mut ask = |time_left, usual, asked| {
            permit(&Wish { number: 1, asked, time_left: Some(time_left), usual }, &budget, now, &mut dice)
        };
        assert_eq!(ask(0, None, None), Err(Denied::Time));
        assert_eq!(ask(40, Some(40), None), Err(Denied::Time));
        assert_eq!(ask(900, Some(40), Some(1_000)), Err(Denied::Time), "it would still be waiting");
        let mut granted = 0;
        while ask(41, Some(40), None).is_ok() {
            granted += 1;
        }
        assert_eq!(granted, crate::budget::RESERVE, "what was denied took nothing");
        assert_eq!(ask(41, Some(40), None), Err(Denied::Budget));
    }
}

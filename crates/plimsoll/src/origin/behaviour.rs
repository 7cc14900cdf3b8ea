//! How an origin behaves, what of it a request to `/_origin` may change, and the dice behind delay and errors.
//!
//! Comes from the command line or from JSON; unknown keys and values out of range are refused with the reason, and a
//! refused change changes nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::{Delay, Share, Size};

/// How an origin answers. Where several faults are on, `hang` goes before `abort`, and that before the rest; being four
/// independent switches is what the JSON offers, so they are `bool`s here as well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Behaviour {
    /// How long an answer takes, from the last byte of the request.
    pub(crate) delay: Delay,
    /// The delay varies evenly by up to this much in both directions, never below 0.
    pub(crate) spread: Delay,
    /// The share of requests answered with 500.
    pub(crate) error_rate: Share,
    /// The status otherwise.
    pub(crate) status: u16,
    /// Answers are padded to this size; 0 means no padding.
    pub(crate) body_size: Size,
    /// Take requests and never answer.
    pub(crate) hang: bool,
    /// Close the connection in place of an answer.
    pub(crate) abort: bool,
    /// Promise a whole body and close half-way through.
    pub(crate) truncate: bool,
    /// Do not listen.
    pub(crate) refuse: bool,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            delay: Delay::default(),
            spread: Delay::default(),
            error_rate: Share::default(),
            status: 200,
            body_size: Size::default(),
            hang: false,
            abort: false,
            truncate: false,
            refuse: false,
        }
    }
}

/// A change: what is not named stays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Change {
    delay: Option<Delay>,
    spread: Option<Delay>,
    error_rate: Option<Share>,
    status: Option<u16>,
    body_size: Option<Size>,
    hang: Option<bool>,
    abort: Option<bool>,
    truncate: Option<bool>,
    refuse: Option<bool>,
}

impl Change {
    /// Reads a change from JSON; the error says what is wrong and where.
    pub(super) fn from_json(text: &[u8]) -> Result<Change, String> {
        // Serde would take an array as the fields in order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(r#"a change is a JSON object, such as {"delay": "2s"}"#.to_owned());
        }
        let change: Change = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match change.status {
            Some(status) if !(200..=599).contains(&status) => {
                Err(format!("status {status} is not in 200 to 599"))
            }
            _ => Ok(change),
        }
    }

    /// Whether it asks to stop listening.
    pub(super) fn refuses(&self) -> bool {
        self.refuse == Some(true)
    }

    /// `before` with this change.
    pub(super) fn applied_to(self, before: &Behaviour) -> Behaviour {
        Behaviour {
            delay: self.delay.unwrap_or(before.delay),
            spread: self.spread.unwrap_or(before.spread),
            error_rate: self.error_rate.unwrap_or(before.error_rate),
            status: self.status.unwrap_or(before.status),
            body_size: self.body_size.unwrap_or(before.body_size),
            hang: self.hang.unwrap_or(before.hang),
            abort: self.abort.unwrap_or(before.abort),
            truncate: self.truncate.unwrap_or(before.truncate),
            refuse: self.refuse.unwrap_or(before.refuse),
        }
    }
}

impl Behaviour {
    /// The delay of one request; `dice` is even in 0..1.
    pub(super) fn delay_for(&self, dice: f64) -> Duration {
        let offset = self.spread.0.as_secs_f64() * (2.0 * dice - 1.0);
        Duration::from_secs_f64((self.delay.0.as_secs_f64() + offset).max(0.0))
    }

    /// The status of one request; `dice` is even in 0..1.
    pub(super) fn status_for(&self, dice: f64) -> u16 {
        if dice < self.error_rate.0 { 500 } else { self.status }
    }
}

/// A source of numbers even in 0..1: SplitMix64 (Steele, Lea, Flood 2014), seeded by the process's own randomness.
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn new() -> Dice {
        Dice(AtomicU64::new(RandomState::new().build_hasher().finish()))
    }

    pub(super) fn roll(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_only_what_it_names() {
        let before = Behaviour { status: 404, hang: true, ..Behaviour::default() };
        let change = Change::from_json(br#"{"delay": "20ms", "hang": false}"#).unwrap();
        let delay = "20ms".parse().unwrap();
        assert_eq!(change.applied_to(&before), Behaviour { status: 404, delay, ..Behaviour::default() });
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let behaviour = Behaviour { abort: true, error_rate: Share(0.07), ..Behaviour::default() };
        let shown = serde_json::to_vec(&behaviour).unwrap();
        assert_eq!(Change::from_json(&shown).unwrap().applied_to(&Behaviour::default()), behaviour);
    }

    #[test]
    fn wrong_changes_are_refused_with_the_reason() {
        for (json, reason) in [
            (r#"{"dely": "1s"}"#, "unknown field `dely`"),
            (r#"{"delay": 20}"#, "invalid type"),
            (r#"{"delay": "20"}"#, "is not a time"),
            (r#"{"status": 99}"#, "200 to 599"),
            (r#"{"hang": "yes"}"#, "expected a boolean"),
            (r#"{"hang": true, "hang": false}"#, "duplicate field"),
            (r#"["1s"]"#, "JSON object"),
            ("", "JSON object"),
            ("{", "EOF"),
        ] {
            let error = Change::from_json(json.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn the_delay_stays_within_its_spread_and_above_zero() {
        let behaviour = Behaviour {
            delay: "20ms".parse().unwrap(),
            spread: "30ms".parse().unwrap(),
            ..Behaviour::default()
        };
        assert_eq!(behaviour.delay_for(0.0), Duration::ZERO);
        assert_eq!(behaviour.delay_for(0.5), Duration::from_millis(20));
        assert_eq!(behaviour.delay_for(1.0), Duration::from_millis(50));
    }

    #[test]
    fn errors_come_at_their_rate() {
        let behaviour = Behaviour { error_rate: Share(0.05), ..Behaviour::default() };
        let dice = Dice(AtomicU64::new(1));
        let errors = (0..100_000).filter(|_| behaviour.status_for(dice.roll()) == 500).count();
        // Five standard deviations of a binomial around 5,000; the seed is fixed, so this never flakes.
        assert!((4_655..=5_345).contains(&errors), "{errors}");
    }
}

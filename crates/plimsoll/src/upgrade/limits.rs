//! Rate limits on their way to another process: as JSON, with the time of the machine's own clock, so that it doesn't matter how long that way is.
//!
//! Keys are hashed; each with what it owes is 32 hexadecimal digits of one text. What is not understood is left out.

use std::fmt::Write;
use std::time::Duration;

use plimsoll_config::defaults::HANDED_KEYS;
use plimsoll_proxy::{LearnedLimit, Proxy, RateMemory, now_micros};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Digits of one number.
const DIGITS: usize = 16;

/// What is remembered now.
pub(crate) fn told(proxy: &Proxy) -> Value {
    let at = clock();
    let limits = proxy.snapshot().learned_limits(now_micros(), HANDED_KEYS);
    let mut told = json!({ "at": at });
    told["limits"] = limits.iter().map(as_json).collect();
    told
}

/// Reads [`told`] back, as of now.
pub(crate) fn read(told: &Value) -> Vec<LearnedLimit> {
    let Some(at) = told["at"].as_u64() else { return Vec::new() };
    let age = Duration::from_nanos(clock().saturating_sub(at));
    let limits = told["limits"].as_array().map_or(&[][..], Vec::as_slice);
    limits.iter().filter_map(limit).map(|limit| aged(limit, age)).collect()
}

fn aged(limit: LearnedLimit, age: Duration) -> LearnedLimit {
    LearnedLimit { memory: limit.memory.after(age), ..limit }
}

/// Nanoseconds that all processes of the machine count alike.
fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

fn as_json(limit: &LearnedLimit) -> Value {
    let LearnedLimit { route, key, requests, per, burst, memory } = limit;
    let mut debts = String::with_capacity(memory.debts.len() * 2 * DIGITS);
    for (key, debt) in &memory.debts {
        let _ = write!(debts, "{key:016x}{debt:016x}"); // a text takes everything
    }
    let mut said = json!({
        "route": route,
        "key": key,
        "requests": requests,
        "per": [per.as_secs(), per.subsec_nanos()],
        "burst": burst,
        "seeds": memory.seeds,
        "interval": memory.interval,
        "left_out": memory.left_out,
    });
    said["debts"] = Value::String(debts); // `json!` would copy it
    said
}

fn limit(said: &Value) -> Option<LearnedLimit> {
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    let memory = RateMemory {
        seeds: [said["seeds"][0].as_u64()?, said["seeds"][1].as_u64()?],
        interval: said["interval"].as_u64()?,
        debts: debts(said["debts"].as_str()?)?,
        left_out: said["left_out"].as_u64()?,
    };
    Some(LearnedLimit {
        route: text(&said["route"])?,
        key: text(&said["key"])?,
        requests: number(&said["requests"])?,
        per: Duration::new(said["per"][0].as_u64()?, number(&said["per"][1]).filter(|&n| n < 1_000_000_000)?),
        burst: number(&said["burst"])?,
        memory,
    })
}

fn debts(digits: &str) -> Option<Vec<(u64, u64)>> {
    let number = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let pair = |pair: &[u8]| {
        let (key, debt) = pair.split_at_checked(DIGITS)?;
        (debt.len() == DIGITS).then_some((number(key)?, number(debt)?))
    };
    digits.as_bytes().chunks(2 * DIGITS).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> LearnedLimit {
        let debts = vec![(u64::MAX, 3_600_000_000_000), (1, 7_200_000_000_000)];
        let memory = RateMemory { seeds: [u64::MAX, 7], interval: 11, debts, left_out: 5 };
        let per = Duration::from_millis(1_500);
        LearnedLimit { route: "r".to_owned(), key: "path".to_owned(), requests: 3, per, burst: 9, memory }
    }

    #[test]
    fn what_was_told_can_be_read_back_and_has_aged() {
        let ago = |seconds: u64| clock() - seconds * 1_000_000_000;
        assert_eq!(limit(&as_json(&known())), Some(known()));
        let told = json!({ "at": ago(3_600), "limits": [as_json(&known())] });
        let read = read(&told);
        assert_eq!(read[0].memory.debts.len(), 1, "what was owed for an hour is owed no more");
        let (key, debt) = read[0].memory.debts[0];
        assert!(key == 1 && (3_590_000_000_000..=3_600_000_000_000).contains(&debt), "{debt}");
        assert_eq!(limit(&as_json(&read[0])), Some(read[0].clone()));
    }

    #[test]
    fn nonsense_is_left_out() {
        let with = |debts: &str| {
            let mut said = as_json(&known());
            said["debts"] = debts.into();
            json!({ "at": 0, "limits": [said] })
        };
        for wrong in [&Value::Null, &json!({ "at": 1 }), &json!({ "at": 1, "limits": [7, {}, null] })] {
            assert_eq!(read(wrong), []);
        }
        for wrong in ["0", &"g".repeat(32), &"0".repeat(33), &"0".repeat(16), &"é".repeat(16)] {
            assert_eq!(read(&with(wrong)), [], "{wrong}");
        }
        assert_eq!(read(&with(&"f".repeat(64))).len(), 1);
    }
}

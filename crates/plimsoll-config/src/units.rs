//! Times and sizes as they are written: `"1m30s"`, `"64KiB"`.
//!
//! Strings go in, `Duration` or bytes come out, and the other way round for showing them. A number without a unit is
//! refused with the written form, since nobody can see whether `30` means seconds or milliseconds. Never rounds.

use std::time::Duration;

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Why a text is no time or size; holds what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadUnit(pub(crate) String);

/// Reads `"250ms"`, `"2s"`, `"1m30s"`, `"1h"`: each unit once, the largest first.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, BadUnit> {
    let how = || BadUnit("write a time as \"250ms\", \"2s\", \"1m30s\" or \"1h\"".to_owned());
    if is_number(text) {
        return Err(BadUnit(format!("write \"{text}s\" for seconds or \"{text}ms\" for milliseconds")));
    }
    let mut rest = text;
    let mut units = TIME_UNITS.iter();
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, unit, tail) = split_part(rest).ok_or_else(how)?;
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(how)?;
        total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).ok_or_else(how)?;
        rest = tail;
    }
    if text.is_empty() { Err(how()) } else { Ok(Duration::from_millis(total)) }
}

/// Reads `"512B"`, `"64KiB"` (1,024 each) or `"1MB"` (1,000 each).
pub(crate) fn parse_size(text: &str) -> Result<u64, BadUnit> {
    let how = || BadUnit("write a size as \"512B\", \"64KiB\", \"10MiB\" or \"1MB\"".to_owned());
    if is_number(text) {
        let written = text.parse().map_or_else(|_| format!("{text}B"), format_size);
        return Err(BadUnit(format!("write \"{written}\" for bytes")));
    }
    let (number, unit, rest) = split_part(text).ok_or_else(how)?;
    let (name, factor) =
        SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(how)?;
    if *name != unit {
        return Err(BadUnit(format!("write \"{number}{name}\"")));
    }
    if rest.is_empty() { number.checked_mul(*factor).ok_or_else(how) } else { Err(how()) }
}

/// Reads `"20%"`: whole percent.
pub(crate) fn parse_percent(text: &str) -> Result<u64, BadUnit> {
    let how = || BadUnit("write whole percent as \"20%\"".to_owned());
    if is_number(text) {
        return Err(BadUnit(format!("write \"{text}%\"")));
    }
    let digits = text.strip_suffix('%').filter(|digits| is_number(digits));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(how)
}

/// As it is written.
pub(crate) fn format_percent(percent: u64) -> String {
    format!("{percent}%")
}

/// `"1m30s"` to `(1, "m", "30s")`.
fn split_part(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let after = &text[digits..];
    let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    Some((text[..digits].parse().ok()?, &after[..end], &after[end..]))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The shortest way to write a time; whole milliseconds.
pub(crate) fn format_duration(time: Duration) -> String {
    let mut millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in TIME_UNITS {
        if millis >= factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    text
}

/// The shortest exact way to write a size.
pub(crate) fn format_size(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_documented_forms() {
        let cases = [("250ms", 250), ("2s", 2_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let cases = [("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1MB", 1_000_000), ("0B", 0)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_ambiguous_or_unordered() {
        for text in ["", "s", "10", "1.5s", "-1s", "1s1m", "1s1s", "1 s", "1d", "1S", "99999999999999999999s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "B", "10", "1.5MiB", "1KiB1B", "1 KiB", "1TB", "99999999999GiB", "1é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_answered_with_the_written_form() {
        assert_eq!(
            parse_duration("30").unwrap_err().0,
            "write \"30s\" for seconds or \"30ms\" for milliseconds"
        );
        assert_eq!(parse_size("8192").unwrap_err().0, "write \"8KiB\" for bytes");
        assert_eq!(parse_size("8kb").unwrap_err().0, "write \"8KB\"");
    }

    proptest! {
        #[test]
        fn a_time_survives_being_written(millis in 0..=u64::MAX / 2) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(time)), Ok(time));
        }

        #[test]
        fn a_size_survives_being_written(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn parts_of_a_time_add_up(h in 0u64..1000, m in 0u64..1000, s in 0u64..1000, ms in 0u64..1000) {
            let time = Duration::from_millis(h * 3_600_000 + m * 60_000 + s * 1_000 + ms);
            prop_assert_eq!(parse_duration(&format!("{h}h{m}m{s}s{ms}ms")), Ok(time));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text: String) {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}

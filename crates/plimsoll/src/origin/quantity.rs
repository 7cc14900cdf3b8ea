//! Times, sizes and shares as people write them: `20ms`, `1KiB`, `5%`.
//!
//! The same texts serve the command line and the JSON of `/_origin`, both ways. A bare number is refused, since nobody
//! can tell what it counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A time of at most an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Delay(pub(crate) Duration);

/// A number of bytes, at most 1 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Size(pub(crate) u64);

/// A share from 0 to 1, written in percent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Share(pub(crate) f64);

const LONGEST: Duration = Duration::from_secs(3600);
const LARGEST: u64 = 1 << 40;
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Delay, String> {
        let wrong =
            || format!(r#""{text}" is not a time: write a number and us, ms, s or m, such as "20ms""#);
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            _ => return Err(wrong()),
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= LONGEST => Ok(Delay(time)),
            _ => Err(format!(r#""{text}" is longer than an hour"#)),
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.write_str("0s") } else { write!(f, "{:?}", self.0) }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong =
            || format!(r#""{text}" is not a size: write a number and B, KiB, MiB or GiB, such as "1KiB""#);
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let &(_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let bytes = number * factor as f64;
        if bytes > LARGEST as f64 {
            return Err(format!(r#""{text}" is more than 1024GiB"#));
        }
        if bytes.fract() != 0.0 {
            return Err(format!(r#""{text}" is not a whole number of bytes"#));
        }
        // Exact: integers up to 2^40 all have an f64.
        Ok(Size(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZES.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        match split(text) {
            Some((percent, "%")) if percent <= 100.0 => Ok(Share(percent / 100.0)),
            _ => Err(format!(r#""{text}" is not a share: write 0% to 100%, such as "5%""#)),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Six decimals take out what the division by 100 put in: 7% would else come back as 7.000000000000001%.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

/// Number and unit. The number has digits and at most one point: no sign, exponent, `inf` or `nan`.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

macro_rules! through_text {
    ($($quantity:ty),*) => {$(
        impl TryFrom<String> for $quantity {
            type Error = String;

            fn try_from(text: String) -> Result<$quantity, String> {
                text.parse()
            }
        }

        impl From<$quantity> for String {
            fn from(quantity: $quantity) -> String {
                quantity.to_string()
            }
        }
    )*};
}

through_text!(Delay, Size, Share);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["0s", "20ms", "1.5s", "250µs", "3600s"] {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), text);
        }
        for text in ["0B", "1B", "1023B", "1KiB", "3MiB", "1024GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["0%", "5%", "7%", "0.1%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn units_mean_what_they_say() {
        assert_eq!("20ms".parse(), Ok(Delay(Duration::from_millis(20))));
        assert_eq!("2m".parse(), Ok(Delay(Duration::from_secs(120))));
        assert_eq!("1.5KiB".parse(), Ok(Size(1536)));
        assert_eq!("5%".parse(), Ok(Share(0.05)));
    }

    #[test]
    fn bare_numbers_signs_and_excess_are_refused() {
        for wrong in ["", "20", "ms", "-1s", "1e3s", "1 s", "2h", "3601s", "1..2s", "99999999999999999999m"] {
            assert!(wrong.parse::<Delay>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "1", "1KB", "-1B", "0.5B", "1025GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "5", "101%", "-1%", "nan%", "5 %"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong:?}");
        }
    }
}

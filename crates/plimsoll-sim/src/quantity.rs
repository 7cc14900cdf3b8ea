//! Numbers that cannot be wrong: what a scenario's keys take, checked while it is read, so that a problem has a place.

use serde::Deserialize;

/// A finite number above 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Positive(pub f64);

/// A finite number of 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct NotNegative(pub f64);

/// A finite number above 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct AboveOne(pub f64);

/// A part of a whole: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

/// A whole number from 1 to [`Count::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "i64")]
pub struct Count(pub u32);

impl Count {
    /// What fits the indices of the engine with room to spare.
    pub const MOST: u32 = 1_000_000_000;
}

macro_rules! checked {
    ($name:ident, $from:ty, $fits:expr, $make:expr, $what:literal) => {
        impl TryFrom<$from> for $name {
            type Error = String;
            fn try_from(number: $from) -> Result<$name, String> {
                let fits: fn($from) -> bool = $fits;
                let make: fn($from) -> $name = $make;
                if fits(number) { Ok(make(number)) } else { Err(format!("{number} is not {}", $what)) }
            }
        }
    };
}

checked!(Positive, f64, |n| n.is_finite() && n > 0.0, Positive, "a number above 0");
checked!(NotNegative, f64, |n| n.is_finite() && n >= 0.0, NotNegative, "a number of 0 or more");
checked!(AboveOne, f64, |n| n.is_finite() && n > 1.0, AboveOne, "a number above 1");
checked!(Share, f64, |n| (0.0..=1.0).contains(&n), Share, "a part between 0 and 1");
checked!(
    Count,
    i64,
    |n| (1..=i64::from(Count::MOST)).contains(&n),
    |n| Count(n as u32),
    "a whole number from 1 to 1,000,000,000"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!(Positive::try_from(0.0).is_err() && Positive::try_from(f64::NAN).is_err());
        assert!(NotNegative::try_from(-0.1).is_err() && NotNegative::try_from(0.0).is_ok());
        assert!(AboveOne::try_from(1.0).is_err() && AboveOne::try_from(f64::INFINITY).is_err());
        assert!(Share::try_from(1.0).is_ok() && Share::try_from(1.01).is_err());
        assert!(
            Count::try_from(0).is_err() && Count::try_from(1).is_ok() && Count::try_from(1 << 40).is_err()
        );
    }
}

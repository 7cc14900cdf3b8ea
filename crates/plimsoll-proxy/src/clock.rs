//! The wall clock as text, made once a second: the `Date` of our own answers and the times of log lines.

use std::cell::{Cell, Ref, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, tz::TimeZone};

/// The current second in the spellings that are needed.
pub(crate) struct Texts {
    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
    pub(crate) http: String,
    /// `1994-11-06T08:49:37`, UTC.
    pub(crate) iso: String,
    /// `06/Nov/1994:08:49:37 +0000`, as the common log format has it.
    pub(crate) common: String,
}

/// Remembers the texts of the second asked for last.
#[derive(Default)]
pub(crate) struct WallClock {
    second: Cell<Option<u64>>,
    texts: RefCell<Option<Texts>>,
}

impl WallClock {
    /// The texts of `time`.
    pub(crate) fn texts(&self, time: SystemTime) -> Ref<'_, Texts> {
        let second = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if self.second.get() != Some(second) {
            self.second.set(Some(second));
            *self.texts.borrow_mut() = Some(spell(second));
        }
        Ref::map(self.texts.borrow(), |texts| texts.as_ref().expect("set with the second"))
    }
}

fn spell(second: u64) -> Texts {
    // A clock beyond the year 9999 is not worth an error.
    let timestamp = i64::try_from(second)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let utc = timestamp.to_zoned(TimeZone::UTC);
    Texts {
        http: utc.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        iso: utc.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        common: utc.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn spells_the_example_of_the_rfc() {
        let clock = WallClock::default();
        let texts = clock.texts(UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(texts.http, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(texts.iso, "1994-11-06T08:49:37");
        assert_eq!(texts.common, "06/Nov/1994:08:49:37 +0000");
    }
}

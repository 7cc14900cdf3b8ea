//! W3C trace context: the `traceparent` field as values and back.
//!
//! <https://www.w3.org/TR/trace-context/>, read as strictly as it is written. Nothing here is made up or decided: ids are arguments, and
//! whether a request is sampled is known elsewhere. A field that is not valid is as good as none, never repaired.

/// How long `traceparent` is in version 00, the only one that is written.
pub const TRACEPARENT_LEN: usize = 55;

/// The bit of the flags that says that the parent may be recorded.
const SAMPLED: u8 = 0x01;
/// The bit that says that the trace id's last 56 bits are random (level 2 of the specification).
const RANDOM: u8 = 0x02;

/// What a `traceparent` says: where in a trace a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace; not 0.
    pub trace: u128,
    /// The sender's span; not 0.
    pub span: u64,
    /// The sender may have recorded it.
    pub sampled: bool,
    /// The trace's id is known to be random.
    pub random: bool,
}

impl TraceParent {
    /// Reads the value of a `traceparent` field; `None` if it is not valid.
    ///
    /// Version 00 is exact. Of a later one the fields that version 00 has are read, and what follows them behind a `-` is left alone,
    /// as the specification asks of receivers that do not know it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let (known, rest) = value.split_at_checked(TRACEPARENT_LEN)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let (version, flags) = (hex(&known[..2])?, hex(&known[53..])? as u8);
        let continued = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let (trace, span) = (hex(&known[3..35])?, hex(&known[36..52])? as u64);
        let context = TraceParent { trace, span, sampled: flags & SAMPLED != 0, random: flags & RANDOM != 0 };
        (dashes && continued && trace != 0 && span != 0).then_some(context)
    }

    /// The value of a `traceparent` field, in version 00.
    #[must_use]
    pub fn write(&self) -> [u8; TRACEPARENT_LEN] {
        let mut out = [b'-'; TRACEPARENT_LEN];
        let flags = (u8::from(self.sampled) * SAMPLED) | (u8::from(self.random) * RANDOM);
        spell(&mut out[..2], 0);
        spell(&mut out[3..35], self.trace);
        spell(&mut out[36..52], self.span.into());
        spell(&mut out[53..], flags.into());
        out
    }
}

/// Lower-case hexadecimal digits, at most 32, as the specification demands; `None` for anything else.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

/// Fills `out` with the number's last digits in lower-case hexadecimal.
pub fn spell(out: &mut [u8], mut number: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn reads_and_writes_the_example_of_the_specification() {
        let context = parse(EXAMPLE).expect("valid");
        assert_eq!(
            context,
            TraceParent {
                trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
                span: 0x00f0_67aa_0ba9_02b7,
                sampled: true,
                random: false
            }
        );
        assert_eq!(context.write(), EXAMPLE.as_bytes());
    }

    #[test]
    fn flags_are_bits_and_unknown_ones_are_not_passed_on() {
        for (flags, sampled, random, written) in [
            ("00", false, false, "00"),
            ("02", false, true, "02"),
            ("03", true, true, "03"),
            ("fd", true, false, "01"),
        ] {
            let context = parse(&format!("{}{flags}", &EXAMPLE[..53])).expect("valid");
            assert_eq!((context.sampled, context.random), (sampled, random), "{flags}");
            assert_eq!(&context.write()[53..], written.as_bytes());
        }
    }

    #[test]
    fn what_is_not_exact_is_not_valid() {
        let ids = &EXAMPLE[2..52];
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00{ids}-1"),
            format!("00{ids}-01 "),
            format!(" 00{ids}-01"),
            format!("00{ids}-01-"),
            format!("00{ids}-01-what-the-future-brings"),
            format!("00{ids}_01"),
            format!("00{ids}-0G"),
            format!("0g{ids}-01"),
            format!("ff{ids}-01"),
            format!("FF{ids}-01"),
            format!("+0{ids}-01"),
            EXAMPLE.replace("4bf9", "4BF9"),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE.replace("00f067aa0ba902b7", "00f067aa0ba902b"),
            EXAMPLE.replace('-', "_"),
            format!("{EXAMPLE}, {EXAMPLE}"),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let ids = &EXAMPLE[2..52];
        for text in [
            format!("01{ids}-01"),
            format!("cc{ids}-01-what-the-future-will-be-like"),
            format!("fe{ids}-01-"),
        ] {
            let context = parse(&text).expect("valid");
            assert_eq!(context.write(), EXAMPLE.as_bytes(), "it goes on in the version that is known");
        }
        assert_eq!(parse(&format!("cc{ids}-01.what")), None);
        assert_eq!(parse(&format!("cc{ids}-010")), None);
    }
}

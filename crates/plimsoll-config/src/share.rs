//! Parts of all, as they are written: `"20%"`.

use crate::address::Fault;
use crate::problem::Code;

/// A part of all, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl Share {
    /// All of them.
    pub const ALL: u32 = 1_000_000;
}

/// Reads `"1%"`, `"0.25%"`, `"100%"`: at most four decimals. `key` is what messages call it.
pub(crate) fn parse_share(text: &str, key: &str) -> Result<Share, Fault> {
    let how = || {
        Fault::new(Code::BadUnit, format!("`{key}` is not a share: `{text}`"))
            .help("write a share as \"1%\", \"0.25%\" or \"100%\"")
    };
    let number = text.strip_suffix('%').ok_or_else(how)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(decimals, 4) {
        return Err(how());
    }
    let millionths = format!("{whole}{decimals:0<4}").parse().map_err(|_| how())?;
    if millionths > Share::ALL {
        return Err(Fault::new(Code::OutOfRange, format!("`{key}` must be from 0% to 100%")));
    }
    Ok(Share(millionths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_shares() {
        for (text, millionths) in [
            ("1%", 10_000),
            ("0%", 0),
            ("100%", Share::ALL),
            ("0.25%", 2_500),
            ("0.0001%", 1),
            ("12.5%", 125_000),
        ] {
            assert_eq!(parse_share(text, "sample"), Ok(Share(millionths)), "{text}");
        }
        for text in
            ["", "%", "1", "0.01", "101%", "100.0001%", "-1%", "1.%", ".5%", "0.00001%", "1 %", "1e1%"]
        {
            assert!(parse_share(text, "sample").is_err(), "{text}");
        }
    }
}

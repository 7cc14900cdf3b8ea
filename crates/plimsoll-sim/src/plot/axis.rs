//! Axes: places for values, and which values get a mark.

/// A rectangle to draw in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A logarithmic scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// From `low` to `high`, both above 0.
    pub(crate) fn new(low: f64, high: f64) -> Log {
        Log { low: low.log10(), high: high.max(low * 10.0).log10() }
    }

    /// Where a value is, as a part of the way; outside of 0 to 1 beyond the ends.
    pub(crate) fn place(&self, value: f64) -> f64 {
        (value.log10() - self.low) / (self.high - self.low)
    }

    /// The powers of ten on it.
    pub(crate) fn decades(&self) -> Vec<f64> {
        let (first, last) = ((self.low - 1e-9).ceil() as i32, (self.high + 1e-9).floor() as i32);
        (first..=last).map(|exponent| 10f64.powi(exponent)).collect()
    }
}

/// Round values from 0 to `high`, about `count` of them.
pub(crate) fn round_steps(high: f64, count: f64) -> Vec<f64> {
    if !(high > 0.0 && high.is_finite()) {
        return vec![0.0];
    }
    let rough = high / count;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|&s| s >= rough).unwrap_or(rough);
    (0..=(high / step + 1e-9) as u32).map(|k| f64::from(k) * step).collect()
}

/// A mark's label: `0.001`, `10`, `20k`.
pub(crate) fn label(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", value / 1e6),
        v if v >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_and_steps_are_round() {
        assert_eq!(Log::new(0.5, 200.0).decades(), [1.0, 10.0, 100.0]);
        assert_eq!(Log::new(1.0, 100.0).place(10.0), 0.5);
        assert_eq!(round_steps(1714.0, 5.0), [0.0, 500.0, 1000.0, 1500.0]);
        assert_eq!(round_steps(0.0, 5.0), [0.0]);
        assert_eq!([0.001, 10.0, 20_000.0, 3e6].map(label), ["0.001", "10", "20k", "3M"]);
    }
}

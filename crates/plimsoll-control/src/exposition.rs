//! The text format of Prometheus: families with help and type, samples with labels, histograms.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names come from the program and are never checked here;
//! values of labels come from configurations and may hold anything, so they are escaped.

use std::fmt::{Display, Write};

use plimsoll_proxy::{BOUNDS, Durations};

/// What to declare to a server that asks.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

/// What a family's numbers are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Page {
    /// Begins a family; its samples follow.
    pub(crate) fn family<'p>(&'p mut self, name: &'p str, kind: Kind, help: &str) -> Family<'p> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// One number without labels, if it is known.
    pub(crate) fn single(&mut self, name: &str, kind: Kind, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, kind, help).sample("", value);
        }
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes everything");
    }
}

/// A family whose samples are being written.
pub(crate) struct Family<'p> {
    page: &'p mut Page,
    name: &'p str,
}

impl Family<'_> {
    /// One number; `labels` as [`label`] makes them, separated by commas.
    pub(crate) fn sample(&mut self, labels: &str, value: impl Display) {
        let name = self.name;
        match labels {
            "" => self.page.put(format_args!("{name} {value}\n")),
            _ => self.page.put(format_args!("{name}{{{labels}}} {value}\n")),
        }
    }

    /// The buckets, sum and count of a histogram in seconds.
    pub(crate) fn histogram(&mut self, labels: &str, durations: &Durations) {
        let (name, mut below) = (self.name, 0);
        for (&bound, n) in BOUNDS.iter().zip(durations.buckets) {
            below += n;
            let le = seconds(bound);
            self.page.put(format_args!("{name}_bucket{{{labels},le=\"{le}\"}} {below}\n"));
        }
        let (sum, count) = (seconds(durations.sum), durations.count());
        self.page.put(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
        self.page.put(format_args!("{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}\n"));
    }
}

/// `name="value"`, whatever the value holds.
pub(crate) fn label(name: &str, value: &str) -> String {
    let mut out = format!("{name}=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(label("route", "a\"b\\c\nd é"), "route=\"a\\\"b\\\\c\\nd é\"");
    }

    #[test]
    fn a_family_is_help_type_and_samples() {
        let mut page = Page::default();
        let mut family = page.family("a_total", Kind::Counter, "What it is.");
        family.sample(&label("x", "1"), 7);
        family.sample("", 0.25);
        page.single("b", Kind::Gauge, "Unknown.", None::<u64>);
        assert_eq!(
            page.finish(),
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total{x=\"1\"} 7\na_total 0.25\n"
        );
    }

    #[test]
    fn buckets_add_up_to_the_count() {
        let mut page = Page::default();
        let durations = Durations { buckets: std::array::from_fn(|_| 1), sum: 1_500_000 };
        page.family("t", Kind::Histogram, "T.").histogram("x=\"1\"", &durations);
        let text = page.finish();
        assert!(text.contains("t_bucket{x=\"1\",le=\"0.00025\"} 1\n"), "{text}");
        assert!(
            text.contains("t_bucket{x=\"1\",le=\"60\"} 17\nt_bucket{x=\"1\",le=\"+Inf\"} 18\n"),
            "{text}"
        );
        assert!(text.ends_with("t_sum{x=\"1\"} 1.5\nt_count{x=\"1\"} 18\n"), "{text}");
    }
}

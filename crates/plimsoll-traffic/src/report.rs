//! What a server says about its own load in an answer: ORCA's `endpoint-load-metrics` field.
//!
//! In goes the field's value, out come the few figures that are used: what gRPC's weights are made of (A58) and what Prequal probes for.
//! Forms: `TEXT cpu_utilization=0.3,rps_fractional=12` and `JSON {"cpu_utilization": 0.3}`, with the names of
//! xds.data.orca.v3.OrcaLoadReport. Never half a report: one with anything in it that is no such figure is none.

use serde_json::Value;

/// One report. A figure that was not said is 0, as in ORCA's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// `application_utilization`: how busy the server says it is, 1 being its capacity.
    pub application: f64,
    /// `cpu_utilization`: the same of its processors.
    pub cpu: f64,
    /// `rps_fractional`: requests a second.
    pub requests: f64,
    /// `eps`: errors a second.
    pub errors: f64,
    /// `named_metrics.rif`: requests it has accepted and not yet answered.
    pub in_flight: Option<u32>,
    /// `named_metrics.latency_ms`: what a request takes there at that load, in microseconds.
    pub latency: Option<f32>,
}

impl Report {
    /// Reads a field's value; `None` for what is no report in one of the two forms.
    pub fn parse(value: &[u8]) -> Option<Report> {
        let value = std::str::from_utf8(value).ok()?.trim();
        let (form, rest) = value.split_once(' ')?;
        let mut report = Report::default();
        match form {
            "TEXT" => {
                for pair in rest.split(',') {
                    let (name, number) = pair.split_once(['=', ':'])?;
                    report.set(name.trim(), number.trim().parse().ok()?)?;
                }
            }
            "JSON" => {
                let Value::Object(fields) = serde_json::from_str(rest).ok()? else { return None };
                for (name, value) in &fields {
                    match value {
                        Value::Object(named) => {
                            for (key, value) in named {
                                report.set(&format!("{name}.{key}"), value.as_f64()?)?;
                            }
                        }
                        number => report.set(name, number.as_f64()?)?,
                    }
                }
            }
            _ => return None,
        }
        Some(report)
    }

    fn set(&mut self, name: &str, number: f64) -> Option<()> {
        if !number.is_finite() || number < 0.0 {
            return None;
        }
        match name {
            "application_utilization" => self.application = number,
            "cpu_utilization" => self.cpu = number,
            "rps_fractional" => self.requests = number,
            "rps" if self.requests == 0.0 => self.requests = number, // deprecated, whole numbers
            "eps" => self.errors = number,
            "named_metrics.rif" => self.in_flight = Some(number as u32),
            "named_metrics.latency_ms" => self.latency = Some((number * 1_000.0) as f32),
            _ => {} // memory, costs, metrics of the application's own: not ours
        }
        Some(())
    }

    /// The weight by gRPC's A58: requests a second divided by utilization, to which the share of errors is added `penalty` times. `None`
    /// where it cannot be told.
    pub(crate) fn weight(&self, penalty: f64) -> Option<f64> {
        let busy = if self.application > 0.0 { self.application } else { self.cpu };
        (busy > 0.0 && self.requests > 0.0)
            .then(|| self.requests / (busy + self.errors / self.requests * penalty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let text =
            b"TEXT cpu_utilization=0.3, application_utilization=0.5,rps_fractional=12.5,eps=1,mem_utilization=0.9,named_metrics.rif=7,named_metrics.latency_ms=1.5";
        let json =
            br#"JSON {"cpu_utilization":0.3,"application_utilization":0.5,"rps_fractional":12.5,"eps":1,
            "named_metrics":{"rif":7,"latency_ms":1.5,"queue":3}}"#;
        let wanted = Report {
            application: 0.5,
            cpu: 0.3,
            requests: 12.5,
            errors: 1.0,
            in_flight: Some(7),
            latency: Some(1_500.0),
        };
        assert_eq!(Report::parse(text), Some(wanted));
        assert_eq!(Report::parse(json), Some(wanted));
        assert_eq!(Report::parse(b"TEXT named_metrics.rif:2").and_then(|r| r.in_flight), Some(2));
    }

    #[test]
    fn what_is_no_report_is_none_as_a_whole() {
        for wrong in [
            &b""[..],
            b"TEXT",
            b"TEXT ",
            b"TEXT cpu_utilization",
            b"TEXT cpu_utilization=high",
            b"TEXT cpu_utilization=0.3,eps=-1",
            b"TEXT cpu_utilization=NaN",
            b"TEXT cpu_utilization=inf",
            b"JSON 3",
            b"JSON {\"cpu_utilization\":\"0.3\"}",
            b"JSON {\"cpu_utilization\":0.3",
            b"JSON {\"named_metrics\":{\"rif\":{}}}",
            b"BIN CgMBAgM=",
            b"cpu_utilization=0.3",
            b"TEXT \xff=1",
        ] {
            assert_eq!(Report::parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn the_weight_is_a58s() {
        let report = Report { cpu: 0.5, requests: 100.0, errors: 10.0, ..Report::default() };
        assert_eq!(report.weight(1.0), Some(100.0 / 0.6));
        assert_eq!(report.weight(0.0), Some(200.0));
        assert_eq!(Report { application: 0.25, ..report }.weight(0.0), Some(400.0), "before the processor's");
        assert_eq!(Report { cpu: 0.0, ..report }.weight(1.0), None);
        assert_eq!(Report { requests: 0.0, ..report }.weight(1.0), None);
    }
}

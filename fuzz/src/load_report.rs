//! `endpoint-load-metrics` from any bytes: whatever is read is a number that can be reckoned with, and reads the same when written anew.

use plimsoll_traffic::Report;

/// Reads the input as a field's value, and what was read once more.
pub fn check(input: &[u8]) {
    let Some(report) = Report::parse(input) else { return };
    for figure in [report.application, report.cpu, report.requests, report.errors] {
        assert!(figure.is_finite() && figure >= 0.0, "{}", input.escape_ascii());
    }
    assert!(report.latency.is_none_or(|latency| latency >= 0.0), "{}", input.escape_ascii());
    let Report { application, cpu, requests, errors, .. } = report;
    let text = format!(
        "TEXT application_utilization={application},cpu_utilization={cpu},rps_fractional={requests},eps={errors}"
    );
    let again = Report { in_flight: None, latency: None, ..report };
    assert_eq!(Report::parse(text.as_bytes()), Some(again), "{}", input.escape_ascii());
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kept_inputs_pass() {
        for input in [
            &b"TEXT cpu_utilization=0.3,rps_fractional=1e3,named_metrics.rif=7"[..],
            b"JSON {\"cpu_utilization\":0.3,\"named_metrics\":{\"rif\":7,\"latency_ms\":1e38}}",
            b"TEXT eps=1e309",
        ] {
            super::check(input);
        }
    }
}

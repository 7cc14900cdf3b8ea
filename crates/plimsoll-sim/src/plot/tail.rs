//! The part of requests that waited longer than x, a curve a policy, on logarithmic axes: the far right is what people feel.

use super::COLOURS;
use super::axis::{Frame, Log, label};
use super::svg::{Anchor, Svg};
use crate::report::Report;

/// The smallest part drawn: what fewer than ten requests decide is noise.
const FEWEST: f64 = 10.0;

pub(crate) fn draw(svg: &mut Svg, frame: Frame, names: &[&str], reports: &[Report]) {
    let curves: Vec<Vec<(f64, f64)>> = reports.iter().map(curve).collect();
    let points = || curves.iter().flatten();
    let high = points().map(|p| p.0).fold(1.0, f64::max);
    // Where nearly all still wait nothing is to be seen.
    let low = points().filter(|p| p.1 < 0.9).map(|p| p.0).fold(f64::INFINITY, f64::min).clamp(0.01, 1.0);
    let least = points().map(|p| p.1).fold(0.1, f64::min);
    let (x_axis, y_axis) = (Log::new(low, high * 1.05), Log::new(least, 1.0));
    let x = |value: f64| frame.x + x_axis.place(value).clamp(0.0, 1.0) * frame.width;
    let y = |part: f64| frame.y + (1.0 - y_axis.place(part).clamp(0.0, 1.0)) * frame.height;
    for mark in x_axis.decades() {
        svg.line((x(mark), frame.y), (x(mark), frame.y + frame.height), "#e4e4e4", 1.0);
        svg.note(x(mark), frame.y + frame.height + 15.0, Anchor::Middle, &label(mark));
    }
    for mark in y_axis.decades() {
        svg.line((frame.x, y(mark)), (frame.x + frame.width, y(mark)), "#e4e4e4", 1.0);
        svg.note(frame.x - 6.0, y(mark) + 4.0, Anchor::End, &percent(mark));
    }
    for (index, points) in curves.iter().enumerate() {
        let places: Vec<(f64, f64)> =
            points.iter().filter(|p| p.0 >= low).map(|&(value, part)| (x(value), y(part))).collect();
        svg.curve(&places, COLOURS[index % COLOURS.len()]);
    }
    let middle = frame.x + frame.width / 2.0;
    svg.note(middle, frame.y + frame.height + 31.0, Anchor::Middle, "waited longer than (log)");
    svg.note(frame.x - 6.0, frame.y - 6.0, Anchor::End, "requests");
    for (index, name) in names.iter().enumerate() {
        let p99 = crate::measure::figure(reports[index].latency.quantile(0.99));
        let (right, line) = (frame.x + frame.width - 8.0, frame.y + 18.0 + index as f64 * 16.0);
        svg.coloured(
            right,
            line,
            Anchor::End,
            COLOURS[index % COLOURS.len()],
            &format!("{name}   p99 {p99}"),
        );
    }
}

/// Ends where the tail falls below what is drawn: with an edge there, so that a plateau is seen to its end.
fn curve(report: &Report) -> Vec<(f64, f64)> {
    let least = FEWEST / report.latency.count().max(1) as f64;
    let mut points = Vec::new();
    for (value, part) in report.latency.tail() {
        if part < least {
            points.extend(points.last().map(|&(_, last)| (value, last)));
            break;
        }
        points.push((value, part));
    }
    points
}

fn percent(part: f64) -> String {
    format!("{} %", label(part * 100.0))
}

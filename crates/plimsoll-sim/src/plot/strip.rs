//! How much was on each server over time: a strip a policy, a line of pixels a server (or as many servers as share one),
//! dark where much is.

use super::axis::{Frame, label, round_steps};
use super::svg::{Anchor, Svg};
use crate::report::{Report, Series};
use crate::scenario::Case;

/// Lines of a strip at most; more servers share them, the fullest shows.
const LINES: usize = 48;
/// Columns at most.
const COLUMNS: usize = 160;
/// Grades of darkness.
const GRADES: usize = 24;

/// What is darkest: the greatest load of any server, so that strips of one case can be compared.
pub(crate) fn worst(reports: &[Report]) -> u32 {
    reports.iter().flat_map(|r| &r.series.bins).flat_map(|bin| &bin.load).copied().max().unwrap_or(1).max(1)
}

pub(crate) fn draw(svg: &mut Svg, frame: Frame, name: &str, colour: &str, report: &Report, worst: u32) {
    svg.coloured(frame.x, frame.y - 3.0, Anchor::Start, colour, name);
    let most = report.series.bins.iter().flat_map(|bin| &bin.load).max().copied().unwrap_or(0);
    let text = format!("at most {most} on a server");
    svg.note(frame.x + frame.width, frame.y - 3.0, Anchor::End, &text);
    svg.rect(frame.x, frame.y, frame.width, frame.height, "#fbfbf4");
    let cells = cells(&report.series, worst);
    let (lines, columns) = (cells.len().max(1) as f64, cells.first().map_or(1, Vec::len).max(1) as f64);
    let (width, height) = (frame.width / columns, frame.height / lines);
    svg.begin_pixels();
    for (line, grades) in cells.iter().enumerate() {
        let y = frame.y + line as f64 * height;
        let mut column = 0;
        while column < grades.len() {
            // Neighbours of one grade are one rectangle.
            let run = grades[column..].iter().take_while(|&&grade| grade == grades[column]).count();
            if grades[column] > 0 {
                let x = frame.x + column as f64 * width;
                svg.rect(x, y, run as f64 * width, height, &shade(grades[column]));
            }
            column += run;
        }
    }
    svg.end_pixels();
}

/// Grades by line and column; each cell shows the greatest load in it.
fn cells(series: &Series, worst: u32) -> Vec<Vec<usize>> {
    let (bins, servers) = (series.bins.len(), series.bins.first().map_or(0, |bin| bin.load.len()));
    let (lines, columns) = (servers.min(LINES), bins.min(COLUMNS));
    let mut cells = vec![vec![0; columns]; lines];
    for (at, bin) in series.bins.iter().enumerate() {
        let column = at * columns / bins;
        for (server, &load) in bin.load.iter().enumerate() {
            let cell = &mut cells[server * lines / servers][column];
            *cell = (*cell).max(grade(load, worst));
        }
    }
    cells
}

/// Logarithmic: from nothing to one is a step that matters, from 1,000 to 1,001 is none.
fn grade(load: u32, worst: u32) -> usize {
    if load == 0 {
        return 0;
    }
    let part = f64::from(load + 1).ln() / f64::from(worst + 1).ln();
    ((part * GRADES as f64).round() as usize).clamp(1, GRADES)
}

/// Pale yellow over orange to a dark violet.
fn shade(grade: usize) -> String {
    const STOPS: [[f64; 3]; 5] = [
        [252.0, 246.0, 212.0],
        [252.0, 195.0, 105.0],
        [232.0, 108.0, 66.0],
        [150.0, 40.0, 95.0],
        [45.0, 12.0, 75.0],
    ];
    let place = grade as f64 / GRADES as f64 * (STOPS.len() - 1) as f64;
    let from = (place as usize).min(STOPS.len() - 2);
    let part = place - from as f64;
    let mix = |channel: usize| {
        (STOPS[from][channel] + (STOPS[from + 1][channel] - STOPS[from][channel]) * part).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// What the shades mean.
pub(crate) fn legend(svg: &mut Svg, x: f64, y: f64, height: f64, worst: u32) {
    let step = height / GRADES as f64;
    svg.begin_pixels();
    for grade in 1..=GRADES {
        svg.rect(x, y + height - grade as f64 * step, 12.0, step + 0.5, &shade(grade));
    }
    svg.end_pixels();
    let mut marks: Vec<u32> = (0..9).map(|k| 10u32.pow(k)).take_while(|&mark| mark * 2 < worst).collect();
    marks.push(worst);
    for mark in marks {
        let part = f64::from(mark + 1).ln() / f64::from(worst + 1).ln();
        svg.note(x + 17.0, y + height * (1.0 - part) + 8.0, Anchor::Start, &label(f64::from(mark)));
    }
    svg.note(x + 12.0, y - 6.0, Anchor::Middle, "load");
}

/// The axis of time below the strips.
pub(crate) fn times(svg: &mut Svg, x: f64, width: f64, y: f64, span: f64) {
    for mark in round_steps(span, 6.0) {
        let place = x + width * if span > 0.0 { mark / span } else { 0.0 };
        svg.line((place, y - 16.0), (place, y - 12.0), "#999999", 1.0);
        svg.note(place, y, Anchor::Middle, &label(mark));
    }
}

/// Which lines are whose, where there is more than one group.
pub(crate) fn groups(svg: &mut Svg, x: f64, y: f64, case: &Case) {
    let mut text = "servers from top to bottom, time from left to right".to_owned();
    if case.world.groups.len() > 1 {
        let groups = case.world.groups.iter().map(|(name, range)| format!("{} {name}", range.len()));
        text = format!("{text}: {}", groups.collect::<Vec<_>>().join(", then "));
    }
    svg.note(x, y, Anchor::Start, &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Bin;

    #[test]
    fn many_servers_and_bins_share_cells_and_the_fullest_shows() {
        let bin = |at: usize| Bin {
            load: (0..96).map(|s| u32::from(s == 95 && at == 319) * 7).collect(),
            ..Bin::default()
        };
        let series = Series { width: 1.0, bins: (0..320).map(bin).collect() };
        let cells = cells(&series, 7);
        assert_eq!((cells.len(), cells[0].len()), (48, 160));
        assert_eq!((cells[47][159], cells[0][0]), (GRADES, 0));
    }

    #[test]
    fn nothing_is_no_shade_and_the_most_is_the_darkest() {
        assert_eq!((grade(0, 9), grade(1, 1), grade(9, 9)), (0, GRADES, GRADES));
        assert_eq!(shade(GRADES), "#2d0c4b");
        assert!(grade(1, 100_000) >= 1);
    }
}

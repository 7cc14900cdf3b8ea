//! How much was on each server over time: a strip a policy, a line of pixels a server (or as many servers as share one),
//! dark where much is.

use std::ops::Range;

use super::axis::{Frame, label, round_steps};
use super::svg::{Anchor, Svg};
use crate::report::{Report, Series};
use crate::scenario::Case;

/// The height of a server's line at least; more servers share one, and the fullest shows.
const THINNEST: f64 = 1.5;
/// The height of a group at least, and between two.
const SEEN: f64 = 5.0;
const ROOM: f64 = 2.0;
/// Columns at most.
const COLUMNS: usize = 120;
/// Grades of darkness.
const GRADES: usize = 24;

/// What is darkest: the greatest load of any server, so that strips of one case can be compared.
pub(crate) fn worst(reports: &[Report]) -> u32 {
    reports.iter().flat_map(|r| &r.series.bins).flat_map(|bin| &bin.load).copied().max().unwrap_or(1).max(1)
}

pub(crate) fn draw(
    svg: &mut Svg,
    frame: Frame,
    (name, colour): (&str, &str),
    report: &Report,
    groups: &[(String, Range<usize>)],
    worst: u32,
) {
    svg.coloured(frame.x, frame.y - 3.0, Anchor::Start, colour, name);
    let most = report.series.bins.iter().flat_map(|bin| &bin.load).max().copied().unwrap_or(0);
    let text = format!("at most {most} on a server");
    svg.note(frame.x + frame.width, frame.y - 3.0, Anchor::End, &text);
    svg.rect(frame.x, frame.y, frame.width, frame.height, "#fbfbf4");
    let lines = lines(groups, frame.height);
    let cells = cells(&report.series, &lines, worst);
    let width = frame.width / cells.first().map_or(1, Vec::len).max(1) as f64;
    let mut shades: Vec<Vec<[f64; 4]>> = vec![Vec::new(); GRADES + 1];
    for (line, grades) in lines.iter().zip(&cells) {
        let mut column = 0;
        while column < grades.len() {
            // Neighbours of one grade are one rectangle.
            let run = grades[column..].iter().take_while(|&&grade| grade == grades[column]).count();
            let x = frame.x + column as f64 * width;
            shades[grades[column]].push([x, frame.y + line.y, run as f64 * width, line.height]);
            column += run;
        }
    }
    for (grade, rects) in shades.iter().enumerate().skip(1).filter(|(_, rects)| !rects.is_empty()) {
        svg.pixels(rects, &shade(grade));
    }
}

/// A line of pixels: which servers it shows, and where.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    servers: Range<usize>,
    y: f64,
    height: f64,
}

/// Each group has height by its number of servers, but enough to be seen, and a little room to the next.
fn lines(groups: &[(String, Range<usize>)], height: f64) -> Vec<Line> {
    let servers: usize = groups.iter().map(|(_, range)| range.len()).sum();
    let room = height - ROOM * groups.len().saturating_sub(1) as f64;
    let share = |range: &Range<usize>| (range.len() as f64 / servers.max(1) as f64 * room).max(SEEN);
    let all: f64 = groups.iter().map(|(_, range)| share(range)).sum();
    let (mut lines, mut y) = (Vec::new(), 0.0);
    for (_, range) in groups {
        let height = share(range) * room / all;
        let count = range.len().min(((height / THINNEST) as usize).max(1));
        for line in 0..count {
            let at = |line: usize| range.start + range.len() * line / count;
            let thick = height / count as f64;
            lines.push(Line { servers: at(line)..at(line + 1), y: y + line as f64 * thick, height: thick });
        }
        y += height + ROOM;
    }
    lines
}

/// Grades by line and column; each cell shows the greatest load in it.
fn cells(series: &Series, lines: &[Line], worst: u32) -> Vec<Vec<usize>> {
    let bins = series.bins.len();
    let columns = bins.min(COLUMNS);
    let mut cells = vec![vec![0; columns]; lines.len()];
    for (at, bin) in series.bins.iter().enumerate() {
        for (line, grades) in lines.iter().zip(&mut cells) {
            let most = bin.load[line.servers.clone()].iter().max().copied().unwrap_or(0);
            let cell = &mut grades[at * columns / bins];
            *cell = (*cell).max(grade(most, worst));
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
    for grade in 1..=GRADES {
        svg.pixels(&[[x, y + height - grade as f64 * step, 12.0, step + 0.5]], &shade(grade));
    }
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
        let load = |at: usize| (0..96).map(|s| u32::from(s == 95 && at == 239) * 7).collect();
        let bins = (0..240).map(|at| Bin { load: load(at), ..Bin::default() }).collect();
        let lines = lines(&[("one".to_owned(), 0..1), ("others".to_owned(), 1..96)], 52.0);
        assert!(lines[0].servers == (0..1) && lines[0].height > 4.0, "a group of one is seen");
        let cells = cells(&Series { width: 1.0, bins }, &lines, 7);
        assert!(cells.len() < 50 && cells[0].len() == 120);
        assert_eq!((cells[cells.len() - 1][119], cells[0][0]), (GRADES, 0));
        let end = lines.last().unwrap();
        assert!((end.y + end.height - 52.0).abs() < 1e-9 && end.servers.end == 96);
    }

    #[test]
    fn nothing_is_no_shade_and_the_most_is_the_darkest() {
        assert_eq!((grade(0, 9), grade(1, 1), grade(9, 9)), (0, GRADES, GRADES));
        assert_eq!(shade(GRADES), "#2d0c4b");
        assert!(grade(1, 100_000) >= 1);
    }
}

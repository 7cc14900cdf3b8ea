//! Pictures of a scenario: how long clients waited, and how much was on each server over time, policy beside policy.
//!
//! In goes what came of it, out comes one SVG with a row for each case: on the left the part of requests that waited longer than x,
//! on logarithmic axes; on the right a strip for each policy with a line of pixels for each server and the time from left to
//! right, dark where much is on a server. Needs no font that may be missing and no script; the same study gives the same bytes.

mod axis;
mod strip;
mod svg;
mod tail;

use crate::report::Report;
use crate::scenario::Case;
use crate::study::Study;
use svg::{Anchor, Svg};

/// Colours that differ for eyes of all kinds (Okabe and Ito), in the order of the policies.
pub(crate) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b5ea7", "#444444"];

const WIDTH: f64 = 1180.0;
const HEAD: f64 = 72.0;
const LEFT: f64 = 70.0;
const TAIL_WIDTH: f64 = 440.0;
const STRIPS_LEFT: f64 = 610.0;
const STRIP_HEIGHT: f64 = 74.0;
const GAP: f64 = 84.0;

impl Study {
    /// The picture, as SVG; nothing of cases that were skipped.
    pub fn plot(&self) -> String {
        let cases: Vec<(&Case, &[Report])> = self.drawn().collect();
        let height = HEAD + cases.iter().map(|(_, reports)| row_height(reports) + GAP).sum::<f64>();
        let mut svg = Svg::new(WIDTH, height);
        svg.text(24.0, 30.0, 20.0, Anchor::Start, &self.scenario.name);
        let seed =
            format!("{}; seed {}; time in mean service times", self.scenario.about, self.scenario.seed);
        svg.note(24.0, 52.0, Anchor::Start, &seed);
        let mut top = HEAD;
        for (case, reports) in cases {
            row(&mut svg, case, reports, top + 26.0);
            top += row_height(reports) + GAP;
        }
        svg.finish()
    }

    fn drawn(&self) -> impl Iterator<Item = (&Case, &[Report])> {
        let cases = self.scenario.cases.iter().zip(&self.reports);
        cases.filter(|(_, reports)| !reports.is_empty()).map(|(case, reports)| (case, reports.as_slice()))
    }
}

/// Of the frame on the left: no less than what all strips take.
fn row_height(reports: &[Report]) -> f64 {
    (reports.len() as f64 * STRIP_HEIGHT).max(250.0)
}

fn row(svg: &mut Svg, case: &Case, reports: &[Report], top: f64) {
    svg.text(24.0, top - 10.0, 14.0, Anchor::Start, &case.name);
    let names: Vec<&str> = case.policies.iter().map(|p| p.name.as_str()).collect();
    let frame = axis::Frame { x: LEFT, y: top + 8.0, width: TAIL_WIDTH, height: row_height(reports) - 30.0 };
    tail::draw(svg, frame, &names, reports);
    let worst = strip::worst(reports);
    let strip_height = (row_height(reports) - 22.0) / reports.len() as f64;
    for (index, (name, report)) in names.iter().zip(reports).enumerate() {
        let frame = axis::Frame {
            x: STRIPS_LEFT,
            y: top + 8.0 + index as f64 * strip_height,
            width: WIDTH - STRIPS_LEFT - 90.0,
            height: strip_height - 22.0,
        };
        let colour = COLOURS[index % COLOURS.len()];
        strip::draw(svg, frame, (name, colour), report, &case.world.groups, worst);
    }
    let bottom = top + 8.0 + row_height(reports) - 22.0;
    strip::legend(svg, WIDTH - 66.0, top + 8.0, bottom - top - 30.0, worst);
    let span = reports.iter().map(|r| r.series.width * r.series.bins.len() as f64).fold(0.0, f64::max);
    strip::times(svg, STRIPS_LEFT, WIDTH - STRIPS_LEFT - 90.0, bottom - 2.0, span);
    strip::groups(svg, STRIPS_LEFT, bottom + 14.0, case);
}

#[cfg(test)]
mod tests {
    use crate::Scenario;

    fn study(policies: &str) -> super::Study {
        let text = format!(
            "about = \"x < y & z\"\npolicies = [{policies}]\n[world]\nrequests = 5000\nservers = [{{ name = \"all\", count = 4 }}]\n[[case]]\nname = \"one\"\n[[case]]\nname = \"two\"\nskip = \"later\"\n"
        );
        Scenario::parse("x", "x.toml", &text, &|_| Err(String::new()))
            .unwrap_or_else(|e| panic!("{e}"))
            .study()
    }

    #[test]
    fn a_picture_is_well_formed_and_always_the_same() {
        let picture = study("\"p2c\", \"random\"").plot();
        assert_eq!(picture, study("\"p2c\", \"random\"").plot());
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("x &lt; y &amp; z") && !picture.contains("NaN") && !picture.contains("inf"));
        let open = picture.matches("<text").count();
        assert_eq!(open, picture.matches("</text>").count());
        assert!(picture.contains(">one<") && !picture.contains(">two<"), "what was skipped is not drawn");
        assert!(picture.contains(">p2c<") && picture.contains(">random<"));
    }
}

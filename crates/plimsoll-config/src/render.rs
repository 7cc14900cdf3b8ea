//! Problems as text for people and as JSON for machines.
//!
//! The text looks like rustc's: the message, file:line:column, the line itself with the place marked, and a line of
//! help. The lines shown are made harmless for a terminal by the renderer, messages by `Problem`.

use std::fmt::Write as _;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::problem::{Problem, Problems, Severity};
use crate::source::At;

/// Wider than any sensible line, so that what is shown does not depend on a terminal.
const WIDTH: usize = 200;

impl Problems {
    /// Every problem for people, an empty line between two; ends with a line end unless there is none.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let mut text = String::new();
        for (index, problem) in self.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{}", self.render_one(problem, &renderer));
        }
        text
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.message.as_str()).id(problem.code.as_str());
        let mut group = title.element(self.snippet(problem.at, AnnotationKind::Primary, None));
        for (at, label) in &problem.related {
            group = group.element(self.snippet(*at, AnnotationKind::Context, Some(label)));
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group] as &[Group<'_>])
    }

    fn snippet<'a>(
        &'a self,
        at: At,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Snippet<'a, Annotation<'a>> {
        let source = &self.sources[at.file];
        let (line, _) = source.line_and_column(at.start);
        let (start, text) = source.line_around(at.start);
        // A place that spans lines (a multi-line array) is marked on its first line only.
        let from = (at.start - start).min(text.len());
        let to = (at.end.max(at.start) - start).min(text.len()).max(from);
        let annotation = kind.span(from..to).label(label);
        Snippet::source(text).line_start(line).path(source.path.as_str()).annotation(annotation)
    }

    /// An array with one object a problem: `file`, `line`, `column`, `message`, `help` (or null), `code`, and `related`
    /// (other places that belong to it, each with `file`, `line`, `column`, `message`).
    pub fn to_json(&self) -> Value {
        self.iter().map(|problem| self.problem_json(problem)).collect()
    }

    fn problem_json(&self, problem: &Problem) -> Value {
        let (file, line, column) = self.locate(problem.at);
        let related: Vec<Value> =
            problem.related.iter().map(|(at, label)| self.place_json(*at, label)).collect();
        json!({
            "file": file,
            "line": line,
            "column": column,
            "message": problem.message,
            "help": problem.help,
            "code": problem.code.as_str(),
            "related": related,
        })
    }

    fn place_json(&self, at: At, message: &str) -> Value {
        let (file, line, column) = self.locate(at);
        json!({ "file": file, "line": line, "column": column, "message": message })
    }
}

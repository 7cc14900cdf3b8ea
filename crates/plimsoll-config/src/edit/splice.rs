//! Splicing a text: items added to, changed in and taken from an array or a run of tables.
//!
//! Places come from the parser; what is between them (commas, comments, spaces) is read here. Only what has to be otherwise is touched.

use super::{missing_place, table};
use crate::source::{Raw, RawKey, RawValue};

/// A text that is to be edited.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a str);

type Edited = Result<String, String>;

impl<'a> Text<'a> {
    /// True if the item is a table with a header of its own.
    pub(super) fn is_header(self, item: Option<&Raw>) -> bool {
        let is_table = |item: &&Raw| matches!(item.value, RawValue::Table(_));
        item.filter(is_table).is_some_and(|item| self.0[item.at.start..].starts_with('['))
    }

    /// A line before the one of `at`, as far in as that one.
    pub(super) fn line_before(self, at: usize, line: &str) -> Edited {
        let start = self.line_start(at);
        let indent = &self.0[start..at];
        if !indent.trim().is_empty() {
            return Err(missing_place());
        }
        Ok(self.with(start, start, &format!("{indent}{line}{}", self.newline())))
    }

    /// `new` as the last item of the array `list`.
    pub(super) fn add(self, list: &Raw, items: &[Raw], new: &str) -> Edited {
        let Some(last) = items.last() else {
            let open = list.at.start + 1;
            return Ok(self.with(open, open, new));
        };
        if std::ptr::eq(last, list) {
            return Ok(self.with(list.at.start, list.at.end, &format!("[{}, {new}]", self.slice(list))));
        }
        let start = self.line_start(last.at.start);
        let indent = &self.0[start..last.at.start];
        if !indent.trim().is_empty() {
            return Ok(self.with(last.at.end, last.at.end, &format!(", {new}")));
        }
        // An item a line: so does the new one.
        let newline = self.newline();
        let comma = self.comma_after(last.at.end);
        let end = self.line_end(comma.unwrap_or(last.at.end));
        let closes_there = list.at.end <= end;
        match comma {
            Some(_) if !closes_there => Ok(self.with(end, end, &format!("{newline}{indent}{new},"))),
            None if !closes_there => {
                let edited = self.with(end, end, &format!("{newline}{indent}{new}"));
                Ok(Text(&edited).with(last.at.end, last.at.end, ","))
            }
            _ => Ok(self.with(last.at.end, last.at.end, &format!(",{newline}{indent}{new}"))),
        }
    }

    /// A further table behind the last one, with the same header.
    pub(super) fn add_table(self, items: &[Raw], lines: &[String]) -> Edited {
        let last = items.last().ok_or_else(missing_place)?;
        let start = self.line_start(last.at.start);
        let header_end = self.0[start..].find("]]").ok_or_else(missing_place)? + start + 2;
        let (newline, header) = (self.newline(), &self.0[start..header_end]);
        let indent = &header[..header.len() - header.trim_start().len()];
        let end = self.line_end(end_of(last));
        let lines: String = lines.iter().map(|line| format!("{newline}{indent}{line}")).collect();
        Ok(self.with(end, end, &format!("{newline}{newline}{header}{lines}")))
    }

    /// Other values of a table's keys, and keys that it does not have yet.
    pub(super) fn set(self, item: &Raw, there: &[(RawKey, Raw)], keys: &[(&'static str, String)]) -> Edited {
        let mut splices: Vec<(usize, usize, String)> = Vec::new();
        let mut more = Vec::new();
        for (key, value) in keys {
            match there.iter().find(|(known, _)| known.name == *key) {
                Some((_, raw)) => splices.push((raw.at.start, raw.at.end, value.clone())),
                None => more.push(format!("{key} = {value}")),
            }
        }
        if !more.is_empty() {
            let place = if self.is_header(Some(item)) {
                let (key, value) =
                    there.iter().find(|(key, _)| key.name == "address").ok_or_else(missing_place)?;
                let indent = &self.0[self.line_start(key.at.start)..key.at.start];
                let lines: String =
                    more.iter().map(|line| format!("{}{indent}{line}", self.newline())).collect();
                (self.line_end(value.at.end), lines)
            } else {
                let end = there.iter().map(|(_, raw)| end_of(raw)).max().ok_or_else(missing_place)?;
                (end, format!(", {}", more.join(", ")))
            };
            splices.push((place.0, place.0, place.1));
        }
        // From behind, so that earlier places stay what they are.
        splices.sort_by_key(|(start, ..)| std::cmp::Reverse(*start));
        let mut edited = self.0.to_owned();
        for (start, end, new) in splices {
            edited.replace_range(start..end, &new);
        }
        Ok(edited)
    }

    /// A table in the place of an address; `alone` is for one that stands without brackets.
    pub(super) fn to_table(self, item: &Raw, alone: bool, keys: &[(&'static str, String)]) -> Edited {
        let has_address = keys.iter().any(|(key, _)| *key == "address");
        let address = (!has_address).then(|| ("address", self.slice(item).to_owned()));
        let all: Vec<(&'static str, String)> = address.into_iter().chain(keys.iter().cloned()).collect();
        let new = if alone { format!("[{}]", table(&all)) } else { table(&all) };
        Ok(self.with(item.at.start, item.at.end, &new))
    }

    /// Without the item at this place.
    pub(super) fn remove(self, items: &[Raw], place: usize) -> Edited {
        let item = &items[place];
        let start = self.line_start(item.at.start);
        if self.is_header(Some(item)) {
            let end = self.after_line(end_of(item));
            // One of the two empty lines around it goes too.
            let blank = self.0[..start].ends_with("\n\n") || self.0[..start].ends_with("\n\r\n");
            let end = if blank && self.0[end..self.line_end(end)].trim().is_empty() {
                self.after_line(end)
            } else {
                end
            };
            return Ok(self.with(start, end, ""));
        }
        let comma = self.comma_after(item.at.end);
        let end = comma.unwrap_or(item.at.end);
        let rest = self.0[end..self.line_end(end)].trim();
        let is_alone =
            self.0[start..item.at.start].trim().is_empty() && (rest.is_empty() || rest.starts_with('#'));
        if is_alone {
            return Ok(self.with(start, self.after_line(end), ""));
        }
        let spaces =
            |from: usize| from + self.0[from..].len() - self.0[from..].trim_start_matches([' ', '\t']).len();
        match (comma, place.checked_sub(1).map(|before| items[before].at.end)) {
            (Some(comma), _) if place + 1 < items.len() => Ok(self.with(item.at.start, spaces(comma), "")),
            (_, Some(before)) if !self.0[before..item.at.start].contains('#') => {
                Ok(self.with(before, item.at.end, ""))
            }
            _ => Ok(self.with(item.at.start, end, "")),
        }
    }

    fn with(self, start: usize, end: usize, new: &str) -> String {
        format!("{}{new}{}", &self.0[..start], &self.0[end..])
    }

    fn slice(self, item: &Raw) -> &'a str {
        &self.0[item.at.start..item.at.end]
    }

    fn newline(self) -> &'static str {
        if self.0.contains("\r\n") { "\r\n" } else { "\n" }
    }

    fn line_start(self, at: usize) -> usize {
        self.0[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    /// Where the line of `at` ends, before its line end.
    fn line_end(self, at: usize) -> usize {
        let end = self.0[at..].find('\n').map_or(self.0.len(), |end| at + end);
        if self.0[at..end].ends_with('\r') { end - 1 } else { end }
    }

    /// Where the line behind that of `at` begins.
    fn after_line(self, at: usize) -> usize {
        self.0[at..].find('\n').map_or(self.0.len(), |end| at + end + 1)
    }

    /// The place behind the comma that follows, over spaces, line ends and comments.
    fn comma_after(self, mut at: usize) -> Option<usize> {
        loop {
            let rest = &self.0[at..];
            let next = rest.trim_start();
            at += rest.len() - next.len();
            match next.chars().next()? {
                ',' => return Some(at + 1),
                '#' => at = self.after_line(at),
                _ => return None,
            }
        }
    }
}

/// Where the last value of a table ends, or a value.
fn end_of(raw: &Raw) -> usize {
    match &raw.value {
        RawValue::Table(keys) => keys.iter().map(|(_, raw)| end_of(raw)).max().unwrap_or(0).max(raw.at.end),
        _ => raw.at.end,
    }
}

//! A metrics page, taken apart: what families there are, and what their samples say.
//!
//! A small reader of the text format, written for these tests and strict: a line that it does not understand, a sample before
//! its family or a family that comes twice fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::support::Client;

/// One number.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) text: String,
    /// Types by name.
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Page {
    /// Asks for it.
    pub(crate) fn of(admin: SocketAddr) -> Page {
        let mut client = Client::connect(admin);
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.answer().whole();
        assert_eq!(answer.status, 200);
        let content_type = answer.fields.all("content-type");
        assert_eq!(content_type, [&b"text/plain; version=0.0.4; charset=utf-8"[..]]);
        Page::read(String::from_utf8(answer.body).expect("UTF-8"))
    }

    fn read(text: String) -> Page {
        let (mut types, mut samples, mut family) = (BTreeMap::new(), Vec::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').expect("name and help").0.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("name and type");
                assert_eq!(name, family, "the type follows the help");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else {
                let sample = Sample::read(line);
                assert_eq!(sample.family(&types), family, "{line}");
                samples.push(sample);
            }
        }
        Page { text, types, samples }
    }

    /// Type and names of labels of each family.
    pub(crate) fn families(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let mut families: BTreeMap<_, _> =
            self.types.iter().map(|(name, kind)| (name.clone(), (kind.clone(), BTreeSet::new()))).collect();
        for sample in &self.samples {
            let family = families.get_mut(sample.family(&self.types)).expect("checked when it was read");
            family.1.extend(sample.labels.keys().filter(|label| *label != "le").cloned());
        }
        families
    }

    /// The names of all samples.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| sample.name.clone()).chain(self.types.keys().cloned()).collect()
    }

    /// The sum of the samples that have these labels among theirs.
    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(self.names().contains(name), "there is no {name}");
        let is_meant = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(l, v)| sample.labels.get(*l).is_some_and(|x| x == v))
        };
        self.samples.iter().filter(is_meant).map(|sample| sample.value).sum()
    }

    /// The same for whole numbers.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.number(name, labels) as u64
    }
}

impl Sample {
    fn read(line: &str) -> Sample {
        let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("open labels: {line}"));
        let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (label, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            (label.to_owned(), value.trim_end_matches('"').to_owned())
        };
        Sample { name: name.to_owned(), labels: pairs.map(pair).collect(), value }
    }

    /// Its family: its name, or what stands before a histogram's suffix.
    fn family(&self, types: &BTreeMap<String, String>) -> &str {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| self.name.strip_suffix(suffix));
        base.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(&self.name)
    }
}

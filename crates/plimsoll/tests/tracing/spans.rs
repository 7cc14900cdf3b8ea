//! OTLP messages as a stranger reads them: the wire format of protobuf by hand, and the numbers of opentelemetry-proto.
//!
//! Shares nothing with the program, which declares its messages; `peers` has readers by others. Whatever it does not know makes it panic.

use std::collections::BTreeMap;

use crate::support::Origin;

/// A field's value on the wire.
#[derive(Debug, Clone, PartialEq)]
enum Wire {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message's fields in their order.
type Message = Vec<(u64, Wire)>;

/// A span with what its resource says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) state: String,
    /// Empty for none.
    pub(crate) parent: String,
    pub(crate) name: String,
    /// 2 for a server, 3 for a client.
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Texts, and numbers as texts.
    pub(crate) attributes: BTreeMap<String, String>,
    /// 2 for an error.
    pub(crate) status: u64,
    pub(crate) flags: u64,
    pub(crate) service: String,
}

impl Span {
    /// An attribute, or empty.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// All spans that a collector has got so far, in their order.
pub(crate) fn spans(collector: &Origin) -> Vec<Span> {
    let requests = collector.arrived(0);
    requests.iter().flat_map(|(_, request)| read(&request.body)).collect()
}

/// The spans of an `ExportTraceServiceRequest`.
pub(crate) fn read(body: &[u8]) -> Vec<Span> {
    let mut all = Vec::new();
    for resource_spans in inner(&message(body), 1) {
        let resource = inner(&resource_spans, 1).pop().expect("a resource");
        let service = attributes(&resource, 1)["service.name"].clone();
        for span in inner(&resource_spans, 2).iter().flat_map(|scope| inner(scope, 2)) {
            all.push(Span { service: service.clone(), ..read_span(&span) });
        }
    }
    all
}

fn read_span(span: &Message) -> Span {
    Span {
        trace: hex(&bytes(span, 1)),
        id: hex(&bytes(span, 2)),
        state: text(span, 3),
        parent: hex(&bytes(span, 4)),
        name: text(span, 5),
        kind: number(span, 6),
        start: number(span, 7),
        end: number(span, 8),
        attributes: attributes(span, 9),
        status: inner(span, 15).first().map_or(0, |status| number(status, 3)),
        flags: number(span, 16),
        service: String::new(),
    }
}

fn attributes(message: &Message, tag: u64) -> BTreeMap<String, String> {
    let pair = |attribute: &Message| {
        let value = inner(attribute, 2).pop().expect("a value");
        let value = match &value[..] {
            [(1, Wire::Bytes(text))] => String::from_utf8(text.clone()).expect("UTF-8"),
            [(3, Wire::Number(number))] => number.to_string(),
            other => panic!("neither a text nor a number: {other:?}"),
        };
        (text(attribute, 1), value)
    };
    inner(message, tag).iter().map(pair).collect()
}

fn fields(message: &Message, tag: u64) -> impl Iterator<Item = &Wire> {
    message.iter().filter(move |(found, _)| *found == tag).map(|(_, value)| value)
}

fn inner(parent: &Message, tag: u64) -> Vec<Message> {
    let of = |value: &Wire| match value {
        Wire::Bytes(bytes) => message(bytes),
        other => panic!("field {tag} is no message: {other:?}"),
    };
    fields(parent, tag).map(of).collect()
}

fn bytes(message: &Message, tag: u64) -> Vec<u8> {
    match fields(message, tag).next() {
        None => Vec::new(),
        Some(Wire::Bytes(bytes)) => bytes.clone(),
        other => panic!("field {tag} has no bytes: {other:?}"),
    }
}

fn text(message: &Message, tag: u64) -> String {
    String::from_utf8(bytes(message, tag)).expect("UTF-8")
}

fn number(message: &Message, tag: u64) -> u64 {
    match fields(message, tag).next() {
        None => 0,
        Some(Wire::Number(number)) => *number,
        other => panic!("field {tag} is no number: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(mut bytes: &[u8]) -> Message {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Wire::Number(varint(&mut bytes)),
            1 => Wire::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("8 bytes"))),
            2 => {
                let length = varint(&mut bytes) as usize;
                Wire::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Wire::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("4 bytes")).into()),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0..10 {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << (place * 7);
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number of more than 10 bytes")
}

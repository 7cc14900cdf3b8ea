//! Programs of the OpenTelemetry project that read what is sent: its types for Python, and its collector.

use serde_json::Value;

use crate::need::{need_collector, need_python, script};
use crate::process::{Port, Process, scratch, until};
use crate::spans::Span;
use crate::stage::{Stage, ask, file, parent};
use crate::support::{Origin, Plimsoll};
use crate::{ALL, PARENT, TRACE, TRUSTED};

/// What both show of a span, in the JSON that protobuf defines for it, against our own reading.
fn compare(shown: &Value, span: &Span, hex: impl Fn(&Value) -> String) {
    assert_eq!((hex(&shown["traceId"]), hex(&shown["spanId"])), (span.trace.clone(), span.id.clone()));
    assert_eq!((&shown["name"], &shown["flags"]), (&Value::from(&*span.name), &Value::from(span.flags)));
    assert_eq!(shown["startTimeUnixNano"].as_str(), Some(&*span.start.to_string()));
    assert_eq!(shown["endTimeUnixNano"].as_str(), Some(&*span.end.to_string()));
    let attributes = shown["attributes"].as_array().expect("attributes");
    assert_eq!(attributes.len(), span.attributes.len());
    for attribute in attributes {
        let value = attribute["value"].as_object().expect("a value").values().next().expect("one");
        assert_eq!(value.as_str(), Some(span.get(attribute["key"].as_str().expect("a key"))), "{attribute}");
    }
}

#[test]
fn the_types_for_python_read_the_same() {
    let Some(python) = need_python(&["opentelemetry.proto.collector.trace.v1.trace_service_pb2"]) else {
        return;
    };
    let stage = Stage::with(TRUSTED, ALL);
    stage.ask(&(parent("01") + "tracestate: a=1\r\n"));
    let ours = stage.spans(2);
    let path = scratch("message");
    let (_, request) = stage.collector.arrived(0).remove(0);
    std::fs::write(&path, &request.body).expect("the test's own directory can be written");
    let name = path.to_str().expect("UTF-8");
    let message = script(&python, "otlp_read.py", &[name]).result();
    std::fs::remove_file(&path).expect("it is there");
    let shown = message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    assert_eq!((shown.len(), &shown[0]["kind"]), (2, &"SPAN_KIND_SERVER".into()));
    for (shown, ours) in shown.iter().zip(&ours) {
        // Protobuf's own JSON has bytes in base64; the script writes hexadecimal.
        compare(shown, ours, |id| id.as_str().expect("a text").to_owned());
    }
}

#[test]
fn the_collector_takes_what_is_sent() {
    let Some(collector) = need_collector() else { return };
    let (port, out) = (Port::reserve(), scratch("spans.json"));
    let configuration = scratch("otelcol.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{}'}}}}}}}}\n\
         exporters: {{file: {{path: '{}', flush_interval: 50ms}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}\n",
        port.address(),
        out.display()
    );
    std::fs::write(&configuration, text).expect("the test's own directory can be written");
    let address = port.address();
    let running =
        Process::start("otelcol", std::process::Command::new(collector).arg("--config").arg(&configuration));
    until("the collector", || std::net::TcpStream::connect(address).is_ok());
    let origin = Origin::serve();
    let program = Plimsoll::start(&file(&[origin.address()], TRUSTED, Some(address), ALL));
    assert_eq!(ask(program.address(), &parent("01")).status, 200);
    assert!(program.stop().success());
    let mut text = String::new();
    until("the spans", || {
        text = std::fs::read_to_string(&out).unwrap_or_default();
        text.ends_with('\n')
    });
    drop(running);
    drop(port);
    let message: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let shown = message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    assert_eq!(
        (shown[0]["traceId"].as_str(), shown[0]["parentSpanId"].as_str()),
        (Some(TRACE), Some(PARENT))
    );
    assert_eq!((&shown[0]["kind"], &shown[1]["kind"], shown.len()), (&2.into(), &3.into(), 2));
    assert_eq!(shown[1]["parentSpanId"], shown[0]["spanId"]);
    for path in [out, configuration] {
        std::fs::remove_file(path).expect("it is there");
    }
}

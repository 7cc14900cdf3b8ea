"""Reads an ExportTraceServiceRequest with OpenTelemetry's own types and prints it as JSON, ids in hexadecimal."""

import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

message = ExportTraceServiceRequest()
with open(sys.argv[1], "rb") as file:
    message.ParseFromString(file.read())
shown = MessageToDict(message)
for resource, resource_shown in zip(message.resource_spans, shown["resourceSpans"]):
    for scope, scope_shown in zip(resource.scope_spans, resource_shown["scopeSpans"]):
        for span, span_shown in zip(scope.spans, scope_shown["spans"]):
            span_shown["traceId"] = span.trace_id.hex()
            span_shown["spanId"] = span.span_id.hex()
print(json.dumps(shown))

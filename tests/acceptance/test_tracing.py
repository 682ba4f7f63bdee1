"""The trace is carried from whoever enqueues a job to its run, and reaches a collector."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.tracing import traced
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.eventually import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Take spans as an OpenTelemetry collector does; give its address and the spans."""
    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_is_a_span_of_the_trace_that_enqueued_it(
    tmp_path: Path, database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (endpoint, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with daemon(tmp_path, database_url) as process:
            process.await_event("daemon.started")
            job_id = enqueue(conn, NewJob(type="quick", traceparent=PARENT)).id
            span = eventually(lambda: spans, within_s=20)[0]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.name == "run quick"
    attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    assert attributes["messaging.message.id"] == job_id
    assert attributes["ayb_jobs.attempt"] == 1


def test_what_is_enqueued_within_a_span_belongs_to_its_trace(conn: Connection) -> None:
    context = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        enqueue(conn, NewJob(type="one"))
        enqueue(conn, NewJob(type="told", traceparent=PARENT.replace("01", "00", 1)))
        enqueue_many(conn, [NewJob(type="many")])
    enqueue(conn, NewJob(type="outside"))
    rows: dict[str, str | None] = dict(conn.execute("SELECT type, traceparent FROM _ayb_jobs").fetchall())
    assert rows == {"one": PARENT, "told": PARENT.replace("01", "00", 1), "many": PARENT, "outside": None}


def test_nothing_is_traced_where_the_sdk_is_switched_off() -> None:
    registry = Registry()
    registry.handler("t", description="")(lambda _ctx: None)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}
    assert traced(registry, environ).problem is None

"""The trace of whoever enqueues is found, and looking for it never fails."""

import sys
from types import ModuleType

import pytest
from opentelemetry import trace

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from ayb_jobs.tracing import current_traceparent


def test_there_is_no_trace_outside_a_span() -> None:
    assert current_traceparent() is None


def test_the_current_span_is_told_as_w3c_writes_it() -> None:
    context = trace.SpanContext(trace_id=1, span_id=2, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert current_traceparent() == f"00-{1:032x}-{2:016x}-01"


def test_a_job_can_be_enqueued_while_another_thread_imports_opentelemetry(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", ModuleType("opentelemetry.trace"))  # as it begins
    assert enqueue(conn, NewJob(type="test")).created


def test_a_module_whose_import_is_forbidden_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert current_traceparent() is None

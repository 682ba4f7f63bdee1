"""A span around each run of a handler, within the trace in which its job was enqueued.

Needs the extra `ayb-jobs[otel]`. Spans are exported where OpenTelemetry's own environment variables name an endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin), or go to whatever provider the application's modules have set.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import AnyHandler, JobType
from ayb_jobs.handlers.registry import Registry

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
MISSING_EXTRA = "OpenTelemetry is not installed; pip install 'ayb-jobs[otel]'"


@dataclass(frozen=True, slots=True)
class Traced:
    """A registry whose handlers run in spans, and what sends the last of them before the process ends."""

    registry: Registry
    flush: Callable[[], None]
    problem: str | None = None


def traced(registry: Registry, environ: Mapping[str, str]) -> Traced:
    """Return the registry with a span around each run, or as it is where nobody traces.

    `problem` says why spans that were asked for cannot be made.
    """
    wanted = any(environ.get(name) for name in ENDPOINTS) and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    if not wanted and "opentelemetry" not in sys.modules:
        return Traced(registry, _nothing)
    if importlib.util.find_spec("opentelemetry") is None or (wanted and not _can_export()):
        return Traced(registry, _nothing, MISSING_EXTRA)
    flush = _export() if wanted else _nothing
    return Traced(with_spans(registry), flush)


def with_spans(registry: Registry) -> Registry:
    """Return a registry of the same types, each of whose runs is a span of the global tracer provider."""
    spanned = Registry()
    for job_type in registry.types():
        spanned.add(replace(job_type, run=_in_span(job_type)))
    return spanned


def _in_span(job_type: JobType) -> AnyHandler:
    from opentelemetry import propagate, trace  # an optional extra

    tracer = trace.get_tracer("ayb_jobs")

    def span(context: JobContext | AsyncJobContext) -> AbstractContextManager[object]:
        job = context.job
        parent = propagate.extract({"traceparent": job.traceparent}) if job.traceparent else None
        attributes: dict[str, str | int] = {
            "messaging.system": "ayb_jobs",
            "messaging.operation.type": "process",
            "messaging.destination.name": job.queue,
            "messaging.message.id": job.id,
            "ayb_jobs.job_type": job.type,
            "ayb_jobs.attempt": job.attempt,
        }
        return tracer.start_as_current_span(
            f"run {job_type.name}", context=parent, kind=trace.SpanKind.CONSUMER, attributes=attributes
        )

    def run(context: JobContext) -> object:
        with span(context):
            return job_type.run(context)

    async def run_async(context: AsyncJobContext) -> object:
        with span(context):
            return await job_type.run(context)

    return run_async if job_type.executor == "async" else run


def _can_export() -> bool:
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        return False
    return found is not None and importlib.util.find_spec("opentelemetry.sdk") is not None


def _export() -> Callable[[], None]:
    """Send spans to the endpoint that the environment names; return what sends the rest at the end."""
    from opentelemetry import trace  # an optional extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "ayb-jobs"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _nothing(*_: Any) -> None:
    pass

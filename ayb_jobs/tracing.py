"""The trace that the current code belongs to, where it belongs to one, in W3C's notation."""

import sys


def current_traceparent() -> str | None:
    """Return the current OpenTelemetry span as a `traceparent`, or None where there is none.

    Costs a dictionary lookup in a process that has not imported OpenTelemetry, and so has no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

"""The trace that the current code belongs to, if any, in W3C's notation."""

import sys


def current_traceparent() -> str | None:
    """Return the current OpenTelemetry span as a `traceparent`, or None if there is none.

    Costs a dictionary lookup in a process that has not imported OpenTelemetry, and so has no span.
    """
    # While another thread imports the module it stands there already, without all of its names; no span exists then.
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:
        return None
    context = current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

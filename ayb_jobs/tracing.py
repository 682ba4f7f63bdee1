"""The trace that the current code belongs to, if any, in W3C's notation."""

import re
import sys

# W3C's version 00: version, trace, parent, flags.
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def known_traceparent(text: str | None) -> str | None:
    """Return a text that is a `traceparent`, else None: a client or plain SQL may have written anything."""
    return text if text and TRACEPARENT.fullmatch(text) else None


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

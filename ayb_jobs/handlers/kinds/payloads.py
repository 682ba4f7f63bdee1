"""The payload as it is sent to what is no Python: JSON text, with the digits that it is stored with."""

from collections.abc import Mapping
from typing import Any

from ayb_jobs.errors import PayloadUndecodable
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.model.digits import json_text


def payload_with_defaults(ctx: JobContext | AsyncJobContext, defaults: Mapping[str, Any]) -> str:
    """Return a job's payload as JSON text. What an object does not say is taken from the defaults."""
    text, payload = ctx.job.payload_text, ctx.payload
    if text is None:
        raise PayloadUndecodable
    if not defaults or not (payload is None or isinstance(payload, dict)):
        return text
    missing = {name: value for name, value in defaults.items() if name not in (payload or {})}
    if not missing:
        return text
    added = json_text(missing)
    return f"{added[:-1]},{text[1:]}" if payload else added

"""JSON as text, in AYB's manner: a key that would be null is left out, an instant is RFC 3339 in UTC."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ayb_jobs.model.instants import instant_text


class Stored(str):
    """A text that is JSON already."""

    __slots__ = ()


def object_text(fields: Mapping[str, Any]) -> str:
    """Return the JSON of an object; fields that are None are left out."""
    parts = [f"{json.dumps(key)}:{value_text(value)}" for key, value in fields.items() if value is not None]
    return f"{{{','.join(parts)}}}"


def value_text(value: Any) -> str:
    """Return the JSON of a value; an instant is RFC 3339 in UTC."""
    if isinstance(value, Stored):
        return value
    return json.dumps(instant_text(value) if isinstance(value, datetime) else value)


def page_text(items: Iterable[str], **further: str | int | None) -> str:
    """Return the JSON of a page of items that are JSON already."""
    texts = list(items)
    return object_text({"items": Stored(f"[{','.join(texts)}]"), "count": len(texts), **further})

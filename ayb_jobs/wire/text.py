"""JSON as text, in AYB's manner: a key that would be null is left out, an instant is RFC 3339 in UTC."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from ayb_jobs.model.instants import instant_text


class Stored(str):
    """A text that is JSON already."""

    __slots__ = ()


def object_text(fields: Mapping[str, Any]) -> str:
    """Return the JSON of an object; fields that are None are left out."""
    parts = [f"{_key_text(key)}:{value_text(value)}" for key, value in fields.items() if value is not None]
    return f"{{{','.join(parts)}}}"


# Names of fields come again and again.
_key_text = lru_cache(maxsize=1024)(encode_basestring_ascii)


def value_text(value: Any) -> str:
    """Return the JSON of a value; an instant is RFC 3339 in UTC."""
    if isinstance(value, Stored):
        return value
    if type(value) is str:
        return encode_basestring_ascii(value)
    if type(value) is int:
        return str(value)
    return f'"{instant_text(value)}"' if isinstance(value, datetime) else json.dumps(value, allow_nan=False)


def page_text(items: Iterable[str], **further: str | int | None) -> str:
    """Return the JSON of a page of items that are JSON already."""
    texts = list(items)
    return object_text({"items": Stored(f"[{','.join(texts)}]"), "count": len(texts), **further})

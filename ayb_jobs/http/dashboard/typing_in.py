"""What people type into fields, as values; each error names its field."""

import math
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.digits import exact

MOST_DIGITS = 18


def decoded(text: str, field: str) -> Any:
    """Return typed JSON as a value whose numbers keep their digits; raises `InvalidInput`."""
    try:
        return exact(text.encode())
    except RecursionError:
        raise InvalidInput(f"{field} is nested too deeply", field=field) from None
    except ValueError as error:
        raise InvalidInput(f"{field} is not JSON: {error}", field=field) from None


def number(text: str, field: str) -> float | None:
    """Return a typed number, or None for nothing; raises `InvalidInput`."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"{field} is {text[:50]!r}; a number is needed", field=field)
    return value


def whole_number(text: str, field: str) -> int | None:
    """Return a typed whole number, or None for nothing; raises `InvalidInput`."""
    if not text:
        return None
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise InvalidInput(f"{field} is {text[:50]!r}; a whole number is needed", field=field)
    return int(text)

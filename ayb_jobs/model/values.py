"""What a payload or a result may hold besides JSON's values, how it is written, and where a value is that cannot be."""

import math
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

TAKEN = "JSON's values are taken, and UUID, datetime, date, Decimal, Enum, dataclass and pydantic values"
LONGEST_KEY = 50


def json_value(value: object) -> Any:
    """Return a value in JSON's terms, be it of parts that are not yet; Decimals stay, for their digits.

    Raises `TypeError` if it is none that may be stored.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if is_model(value):
        return _dumped(value)
    raise TypeError(f"{named(value)} cannot be stored; {TAKEN}")


def is_model(value: object) -> bool:
    """Tell whether a value is an instance of a pydantic model; pydantic need not be there."""
    models = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return models is not None and isinstance(value, models)


def _dumped(model: Any) -> Any:
    """Return a pydantic model as it is written in JSON, by its aliases, but with its Decimals.

    In JSON pydantic writes them as strings; everything else is as the model says, serializers included.
    """
    written = model.model_dump(mode="json", by_alias=True, round_trip=True)
    return _with_decimals(written, model.model_dump(by_alias=True, round_trip=True))


def _with_decimals(written: Any, held: Any) -> Any:
    """Put the Decimals that a model holds in place of the strings that are written for them."""
    if isinstance(held, Decimal) and isinstance(written, str):
        return held
    if isinstance(held, dict) and isinstance(written, dict) and len(held) == len(written):
        pairs = zip(written.items(), held.values(), strict=True)
        return {key: _with_decimals(part, original) for (key, part), original in pairs}
    if isinstance(held, list | tuple) and isinstance(written, list) and len(held) == len(written):
        return [_with_decimals(part, original) for part, original in zip(written, held, strict=True)]
    return written


def beyond_floats(number: Decimal) -> str | None:
    """Return `large` or `small` if a finite number is so for a float: a handler would get infinity or zero for it."""
    if not number or 0 < abs(float(number)) < math.inf:
        return None
    return "large" if number.adjusted() > 0 else "small"


def fault_of(value: Any, name: str) -> str | None:
    """Return a sentence about the first part of a value that cannot be stored, with its path; None if all can.

    The path begins with `name`. Raises `RecursionError` for a value that holds itself or is nested too deeply.
    """
    return next(_faults(name, value), None)


def _faults(path: str, value: Any) -> Iterator[str]:
    match value:
        case str():
            if fault := _fault_of_text(value):
                yield f"{path}: {fault}"
        case dict():
            yield from _faults_of_object(path, value)
        case list() | tuple():
            for number, part in enumerate(value):
                yield from _faults(f"{path}[{number}]", part)
        case float() | Decimal():
            if not Decimal(value).is_finite():
                yield f"{path}: {value} cannot be stored; JSON has finite numbers alone"
            elif isinstance(value, Decimal) and (size := beyond_floats(value)):
                yield f"{path}: {value} is too {size} a number to be computed with"
        case None | int():
            return
        case _:
            yield from _faults_of_other(path, value)


def _faults_of_object(path: str, value: dict[Any, Any]) -> Iterator[str]:
    for key, part in value.items():
        if fault := _fault_of_key(key):
            yield f"{path}: {fault}"
        yield from _faults(f"{path}{_step(key)}", part)


def _faults_of_other(path: str, value: Any) -> Iterator[str]:
    try:
        inner = json_value(value)
    except (TypeError, ValueError) as error:
        yield f"{path}: {error}"
    else:
        yield from _faults(path, inner)


def _fault_of_text(text: str) -> str | None:
    if "\x00" in text:
        return "a text with a NUL character cannot be stored by PostgreSQL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text with a lone surrogate cannot be stored; JSON cannot carry it"
    return None


def _fault_of_key(key: object) -> str | None:
    if isinstance(key, str):
        return (fault := _fault_of_text(key)) and f"in a key, {fault}"
    if key is None or isinstance(key, int | float):
        return None
    return f"{named(key)} cannot be a key; JSON's keys are strings"


def _step(key: object) -> str:
    """Return how a path goes on into the value of a key: `.price`, or `["unit price"]` if the key is no name."""
    text = key if isinstance(key, str) else str(key)
    shown = text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}…"
    return f".{shown}" if shown.isidentifier() else f'["{shown}"]'


def named(value: object) -> str:
    """Return what a value is, with its article: `a set`, `an object`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"

"""JSON whose numbers keep the digits that they are written with: `1.10` stays `1.10`, as in PostgreSQL's jsonb.

A float keeps 17 digits and no trailing zero, so a fraction is a `Decimal` here.
"""

import json
import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from ayb_jobs.model.values import beyond_floats, json_value


class _HoldsDecimal(TypeError):
    """A Decimal was found, which the plain encoder does not write."""


def _unknown(value: object) -> Any:
    if isinstance(value, Decimal):
        raise _HoldsDecimal
    return json_value(value)


PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_unknown)


def _kept_encoder() -> Callable[[Any], str]:
    """Return what does `PLAIN.encode` with an encoder made once: to make one for each value takes most of the time."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # only CPython has it
        return PLAIN.encode
    within: dict[int, object] = {}  # the values that one is within while it is written, to find one that holds itself
    write = make(within, _unknown, json.encoder.encode_basestring, None, ":", ",", False, False, False)

    def encode(value: Any) -> str:
        try:
            return "".join(write(value, 0))
        except (ValueError, KeyError):  # the value's own fault, which is told below, or a thread writes the same
            within.clear()
        except BaseException:
            within.clear()
            raise
        return PLAIN.encode(value)

    return encode


encode_plain = _kept_encoder()


def json_text(value: Any) -> str:
    """Return a value as JSON; each Decimal in it is a number with all of its digits.

    What else may be in it says `model.values`. Raises `TypeError`, `ValueError` or `RecursionError` for anything else.
    """
    try:
        return encode_plain(value)
    except _HoldsDecimal:
        return _with_decimals(value)


def shown_json(value: Any) -> str:
    """Return what `json_text` does, indented and in ASCII alone, for people."""
    return _with_decimals(value, ensure_ascii=True, indent=2)


def _with_decimals(value: Any, *, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Write a marked text for each Decimal, and put the numbers in place of them; nobody can guess the mark."""
    mark = os.urandom(16).hex()  # `secrets` is slow to import
    numbers: list[str] = []

    def marked(part: object) -> Any:
        if not isinstance(part, Decimal):
            return json_value(part)
        if not part.is_finite():
            raise ValueError(f"{part} is not a JSON number")
        if size := beyond_floats(part):
            raise ValueError(f"{part} is too {size} a number")
        numbers.append(str(part))
        return mark

    separators = (",", ":") if indent is None else (",", ": ")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, allow_nan=False, separators=separators, indent=indent, default=marked
    )
    first, *others = encoder.encode(value).split(f'"{mark}"')
    return first + "".join(number + rest for number, rest in zip(numbers, others, strict=True))


def exact(text: str | bytes) -> Any:
    """Return JSON as a value in which each fraction is a Decimal.

    Raises as `json.loads` does, and `ValueError` for a number that is too large or too small to be computed with.
    """
    return json.loads(text, parse_int=_whole, parse_float=_fraction, parse_constant=_refuse)


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python computes with so many digits only
        raise ValueError(f"{digits[:20]}… is too large a number: it has {len(digits.lstrip('-'))} digits") from None


def _fraction(digits: str) -> Decimal:
    try:
        number = Decimal(digits)
    except InvalidOperation:  # an exponent beyond what a Decimal holds
        raise ValueError(f"{digits[:20]} is too large or too small a number") from None
    if size := beyond_floats(number):
        raise ValueError(f"{digits[:20]} is too {size} a number")
    return number


def plain(value: Any) -> Any:
    """Return a value with floats for Decimals, as everything but a payload is read."""
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: plain(part) for key, part in value.items()}
        case list():
            return [plain(part) for part in value]
        case _:
            return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

"""A payload, or a result, as PostgreSQL's jsonb takes and returns it."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from json.scanner import make_scanner
from typing import Any

from ayb_jobs.errors import InvalidInput, PayloadUndecodable
from ayb_jobs.model.digits import json_text
from ayb_jobs.model.values import fault_of

MAX_PAYLOAD_BYTES = 1024 * 1024
# Decodes the value at a place of a text. It looks for no white space around it, of which jsonb stores none, and takes a
# fourth of the time of `json.loads`.
DECODER: Any = json.JSONDecoder()
scan_stored = make_scanner(DECODER)
EXACT_DECODER: Any = json.JSONDecoder(parse_float=Decimal)
scan_exactly = make_scanner(EXACT_DECODER)
# A NUL character as JSON writes it; a backslash before it would make it a text of six characters.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def encode_payload(payload: Any) -> str:
    """Return a payload as JSON text that PostgreSQL's jsonb takes.

    It may hold what `model.values` says. Of keys that are the same in JSON, such as 1 and "1", jsonb keeps the last.
    Raises `InvalidInput`, which names the value at fault by its path.
    """
    return encode_json(payload, "payload", MAX_PAYLOAD_BYTES)


def encode_json(value: Any, name: str, most_bytes: int) -> str:
    """Return a value as `encode_payload` does, of at most so many bytes. `name` is what it is called if it is unfit."""
    try:
        text = json_text(value)
        size = len(text) if text.isascii() else len(text.encode())
    except (RecursionError, TypeError, ValueError) as error:
        raise _unfit(value, name, error) from None
    if size > most_bytes:
        raise InvalidInput(f"{name} has {size} bytes; at most {most_bytes} are allowed", field=name)
    if "\\u0000" in text and NUL.search(text):
        raise _unfit(value, name, None)
    return text


def _unfit(value: Any, name: str, error: Exception | None) -> InvalidInput:
    """Return what is wrong with a value that cannot be stored."""
    try:
        fault = fault_of(value, name)
    except RecursionError:
        fault = f"{name} is nested too deeply, or holds itself"
    return InvalidInput(fault or f"{name} is not JSON: {error}", field=name)


def decode_payload(text: str | None, scan: Callable[[str, int], tuple[Any, int]] = scan_stored) -> Any:
    """Return a stored payload as a Python value, with a float for each fraction.

    Raises `PayloadUndecodable` for what jsonb stores but Python refuses: nesting beyond the recursion limit, numbers of
    more digits than Python converts. None stands for a text that is too large.
    """
    if text is None:
        raise PayloadUndecodable("the payload cannot be decoded: it is too large as text")
    try:
        value, _ = scan(text, 0)
    except RecursionError:
        raise PayloadUndecodable("the payload cannot be decoded: it is nested too deeply") from None
    except (StopIteration, ValueError) as error:
        raise PayloadUndecodable(f"the payload cannot be decoded: {error}") from None
    return value


def decode_payload_exactly(text: str | None) -> Any:
    """Do what `decode_payload` does, with a Decimal for each fraction, so that it is stored again with all digits."""
    return decode_payload(text, scan_exactly)

"""The wording of faults: the key, what is wrong, what would be right."""

import json
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic.fields import FieldInfo

PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a table"}


def wanted(info: FieldInfo) -> str:
    """Say which values a setting takes, such as `a whole number from 1 to 1000`."""
    return f"{kind(info.annotation)}{bounds(info)}"


def kind(annotation: Any) -> str:
    """Say which type of value is meant."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return kind(arguments[0])
    if origin is dict and arguments[1] is float:
        return "a table of numbers"
    if origin is list:
        inner = kind(arguments[0])
        return "a list of " + {"text": "texts"}.get(
            inner, inner.removeprefix("one of ") if "one of" in inner else "tables"
        )
    return PLAIN.get(origin or annotation, "a table")


def bounds(info: FieldInfo) -> str:
    """Say between which bounds the value lies; empty where there are none."""
    found: dict[type, Any] = {type(constraint): constraint for constraint in info.metadata}
    if Ge in found and Le in found:
        return f" from {found[Ge].ge} to {found[Le].le}"
    if Ge in found:
        return f" of at least {found[Ge].ge}"
    if Gt in found:
        return f" greater than {found[Gt].gt}"
    if MaxLen in found:
        return f" of 1 to {found[MaxLen].max_length} characters"
    if MinLen in found:
        return ", not empty"
    return ""


def shown(value: Any) -> str:
    """Return a value as its author wrote it, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line should stay a line


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the nearest known name, or else the names there are.

    If one alone begins as the name does, but for a plural's s, that one is meant: `workers`, `worker_concurrency`.
    """
    import difflib  # noqa: PLC0415 - settings without a fault do not need it

    names = sorted(known)
    begun = [each for each in names if each.lower().startswith(name.lower().removesuffix("s"))]
    near = begun if len(begun) == 1 else difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names)}" if len(names) <= 30 else "docs/configuration.md has all names"  # noqa: PLR2004 - a line should stay a line

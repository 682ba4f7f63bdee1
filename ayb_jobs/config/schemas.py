"""What a JSON schema of a single value says, in pydantic's terms."""

from collections.abc import Mapping
from typing import Any, Literal

TYPES: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
BOUNDS = {"minLength": "min_length", "maxLength": "max_length", "minimum": "ge", "maximum": "le"}


def kind_of(schema: Mapping[str, Any]) -> Any:
    """Return the type of value that a schema takes; any value if it names none."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    return TYPES[schema["type"]] if schema else Any


def bounds_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema's bounds as the arguments of pydantic's `Field`."""
    return {BOUNDS[key]: value for key, value in schema.items() if key in BOUNDS}

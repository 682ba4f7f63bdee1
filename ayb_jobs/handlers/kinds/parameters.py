"""The parameters of SQL in the configuration: `%(name)s` is bound to the payload's value of that name."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from ayb_jobs.config.section import Fault
from ayb_jobs.errors import Discard
from ayb_jobs.handlers.suggestion import suggestion
from ayb_jobs.model.digits import plain

# Whatever psycopg takes for a placeholder: `%%` is a percent sign, and `%(name)s` is the payload's value of that name.
PLACEHOLDER = re.compile(r"%(?:%|\((?P<name>[^)]*)\)s)?")


def placeholder_faults(
    path: tuple[str, ...], text: str, payload: Mapping[str, Any], which: str = ""
) -> Iterator[Fault]:
    """Yield what is wrong with an SQL text and its placeholders.

    `path` is its key, `which` tells it from its siblings.
    """
    if not text.strip():
        yield path, f"{which}is empty; SQL is needed"
    for found in PLACEHOLDER.finditer(text):
        name = found["name"]
        if found[0] == "%":
            yield path, f"{which}has a lone % before {text[found.end() :][:10]!r}; write %% for a percent sign"
        elif name is not None and name not in payload:
            right = suggestion(name, payload) if payload else f"; add payload = {{ {name} = … }}"
            yield path, f"{which}uses %({name})s, for which payload has no default{right}"


def bound(payload: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values to bind: those of the payload, over the defaults. A null in the payload is an SQL NULL.

    A fraction is bound as a float, whichever of the two it comes from, so that a statement sees one type.

    Discards the job if its payload is no object, which another attempt would not change.
    """
    given = {} if payload is None else payload
    if not isinstance(given, Mapping):
        raise Discard(f"the payload is a {type(given).__name__}; this job takes an object, such as {{}}")
    return {name: bindable(plain(given.get(name, default))) for name, default in defaults.items()}


def bindable(value: Any) -> Any:
    """Return a JSON value as psycopg binds it: lists and objects as jsonb, anything else as it is."""
    return Jsonb(value) if isinstance(value, Mapping | list) else value

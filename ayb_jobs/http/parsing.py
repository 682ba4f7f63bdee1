"""Reads what a client sends: bodies and query parameters, leniently on AYB's calls, strictly on our own.

AYB passes over keys that it does not know, so clients of AYB's may send any. A call of AYB's does so here as well, as
long as it says nothing that AYB does not have. As soon as one key is ours, every key has to be known.
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.edge.problems import InvalidBody, field_problems
from ayb_jobs.model.digits import exact, plain
from ayb_jobs.model.instants import in_utc
from ayb_jobs.model.names import did_you_mean
from ayb_jobs.wire.names import api_name

MAX_PAGE = 500
DEFAULT_PAGE = 50
# As many unknown names as an answer tells of.
MOST_TOLD = 20
WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")


class Body(BaseModel):
    """A request's body, in camelCase.

    `theirs` are the keys that the call has in the origin system; there are none on a call of our own. `passed_over` are
    keys that may be sent and say nothing.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, strict=True)

    theirs: ClassVar[Collection[str]] = ()
    passed_over: ClassVar[Collection[str]] = ()

    @classmethod
    def understood(cls, sent: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the known keys say; the same unless a call has meanings of its own."""
        return dict(sent)


Model = TypeVar("Model", bound=Body)


def read_body(body: bytes, model: type[Model]) -> Model:
    """Return a body as a model; raises `InvalidInput` or `InvalidBody` saying which field is wrong and how."""
    return read_object(decode_object(body), model)


def read_object(sent: Mapping[str, Any], model: type[Model]) -> Model:
    """Return a decoded object as a model; raises as `read_body` does."""
    known = {field.alias or name for name, field in model.model_fields.items()}
    if not is_lenient(sent, known, model.theirs):
        refuse_unknown(set(sent) - known - {*model.passed_over}, known, "key")
    fields = {name: value if name == "payload" else plain(value) for name, value in sent.items() if name in known}
    try:
        return model.model_validate(model.understood(fields))
    except ValidationError as error:
        raise InvalidBody(field_problems([dict(part) for part in error.errors()])) from None


def is_lenient(sent: Collection[str], known: Collection[str], theirs: Collection[str]) -> bool:
    """Tell whether unknown names are passed over: on a call of an origin system's that says nothing of ours."""
    return bool(theirs) and not {*sent} & ({*known} - {*theirs})


def refuse_unknown(unknown: Collection[str], known: Collection[str], what: str) -> None:
    """Raise `InvalidBody` for names that a call does not have."""
    told = sorted(unknown)[:MOST_TOLD]
    if told:
        raise InvalidBody(
            {shown(name): ("unknown", f"there is no such {what}{did_you_mean(name[:100], known)}") for name in told}
        )


def shown(name: str) -> str:
    """Return a name that a client sent as an answer can carry it."""
    return name[:100].encode("utf-8", "replace").decode()


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds, with its fractions as Decimals; raises `InvalidInput`."""
    return as_object(decode(body), "the body")


def as_object(value: Any, what: str) -> dict[str, Any]:
    """Return a decoded value if it is an object; raises `InvalidInput`."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object")
    return value


def decode(body: bytes) -> Any:
    """Return what a body holds, with its fractions as Decimals; raises `InvalidInput`."""
    try:
        return exact(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None


def instant_of(text: str | None, field: str) -> datetime | None:
    """Return an instant that a client wrote with its zone; raises `InvalidInput`, which names the field."""
    if text is None:
        return None
    wrong = InvalidInput(f"{api_name(field)} is not an instant; write it as 2030-01-31T08:00:00Z", field=field)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise wrong from None
    if instant.tzinfo is None:
        raise wrong
    return in_utc(instant, field)


async def only_known_parameters(request: Request) -> None:
    """Refuse query parameters that a call of our own does not have."""
    known = parameters_of(request)
    refuse_unknown(set(request.query_params) - known, known, "parameter")


def known_once_ours(*theirs: str) -> Any:
    """Return a dependency that refuses unknown query parameters only beside one that AYB does not have."""

    async def check(request: Request) -> None:
        known = parameters_of(request)
        if not is_lenient(request.query_params.keys(), known, theirs):
            refuse_unknown(set(request.query_params) - known, known, "parameter")

    return Depends(check)


def parameters_of(request: Request) -> set[str]:
    """Return the names of the query parameters that a route has."""
    return {parameter.alias for parameter in request.scope["route"].dependant.query_params}


OURS = [Depends(only_known_parameters)]


def given_or(default: int) -> BeforeValidator:
    """Have an empty parameter mean the default: forms send the fields that nobody filled in."""
    return BeforeValidator(lambda value: default if value == "" else value)


def number_or(default: int) -> BeforeValidator:
    """Have whatever is no whole number mean the default, as AYB does."""
    return BeforeValidator(lambda value: value if isinstance(value, int) or WHOLE.fullmatch(value) else default)


Limit = Annotated[int, given_or(DEFAULT_PAGE), Query(description="At most 500; below 1 means 50")]
AybLimit = Annotated[int, number_or(DEFAULT_PAGE), Query(description="At most 500; below 1, or no number, means 50")]
AybOffset = Annotated[int, number_or(0), Query(description="Rows to skip; a cursor is quicker")]

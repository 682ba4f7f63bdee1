"""Bodies and answers that are derived from the model's fields, so that none has to be listed again."""

from collections.abc import Collection, Mapping
from types import GenericAlias
from typing import Any, get_type_hints

from pydantic import ConfigDict, Field, create_model

from ayb_jobs.config.schemas import bounds_of, kind_of
from ayb_jobs.http.parsing import Body
from ayb_jobs.http.shapes import Shape
from ayb_jobs.model.schedules.fields import FIELDS, Rule
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.wire.names import api_name
from ayb_jobs.wire.schedules import BODY_FIELDS, READ_ONLY, SHOWN


class NamedByField(Body):
    """A body whose keys are the API's names of the model's fields; any other is refused."""

    model_config = ConfigDict(alias_generator=api_name, extra="forbid", strict=True)


class ShownByField(Shape):
    """An answer whose keys are the API's names of the model's fields."""

    model_config = ConfigDict(alias_generator=api_name)


class AsAyb(NamedByField):
    """A body that means what AYB takes it to mean; keys that AYB does not know may be sent.

    An empty `timezone` is UTC, an empty `cronExpr` says nothing, and `maxAttempts` below 1 is the default.
    """

    model_config = ConfigDict(extra="ignore")

    theirs = frozenset({"name", "jobType", "cronExpr", "timezone", "payload", "enabled", "maxAttempts"})
    passed_over = READ_ONLY | BODY_FIELDS.keys()

    @classmethod
    def understood(cls, sent: Mapping[str, Any]) -> dict[str, Any]:
        """Return what AYB would understand."""
        return {
            key: "UTC" if (key, value) == ("timezone", "") else value for key, value in sent.items() if said(key, value)
        }


def said(key: str, value: Any) -> bool:
    """Tell whether AYB takes a key with this value for one that was sent."""
    match key:
        case "cronExpr":
            return bool(value != "")
        case "maxAttempts":
            return type(value) is not int or value > 0
        case _:
            return True


def schedule_body(
    name: str,
    doc: str,
    base: type[NamedByField] = NamedByField,
    *,
    required: Collection[str] = (),
    without: Collection[str] = (),
) -> type[NamedByField]:
    """Return a body with the fields of a schedule, some of them `required` and some left out."""
    given: dict[str, Any] = {
        field: _body_field(rule, required=field in required) for field, rule in FIELDS.items() if field not in without
    }
    return create_model(name, __base__=base, __doc__=doc, **given)


def _body_field(rule: Rule, *, required: bool) -> tuple[Any, Any]:
    """Return a field as pydantic checks it: bounds as the model has them. Null stands for "not given"."""
    choices = rule.schema.get("enum")
    kind = str if choices else kind_of(rule.schema)
    bounds = bounds_of(rule.schema)
    if required:
        return kind, Field(**bounds)
    extra: Any = {"enum": [*choices, None]} if choices else None
    return (kind if kind is Any else kind | None), Field(default=None, json_schema_extra=extra, **bounds)


def _shown_field(kind: Any) -> tuple[Any, Any]:
    return kind, (None if isinstance(None, kind) else ...)


def _schedule_shape() -> type[ShownByField]:
    hints = get_type_hints(Schedule)
    shown: dict[str, Any] = {field: _shown_field(hints[field]) for field in SHOWN.values()}
    shown |= {"payload": (Any, ...), "ping_url_set": (bool, ...)}
    return create_model("ScheduleShape", __base__=ShownByField, __doc__="A schedule.", **shown)


ScheduleShape = _schedule_shape()
_PAGE: dict[str, Any] = {"items": (GenericAlias(list, (ScheduleShape,)), ...), "count": (int, ...)}
SchedulePage = create_model("SchedulePage", __base__=Shape, __doc__="The schedules, by name.", **_PAGE)

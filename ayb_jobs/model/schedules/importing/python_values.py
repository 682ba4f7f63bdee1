"""Plain values in Python source that is read and never run: literals, names that stand for them, and timings."""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard


class Unknown(NamedTuple):
    """What cannot be known without running the source. `why` says so, as the end of a sentence about the value."""

    why: str

    def __repr__(self) -> str:
        return self.why


class Crontab(NamedTuple):
    """Celery's `crontab(…)`: its fields by name, each a number, a text, or several."""

    fields: Mapping[str, Any]

    def __repr__(self) -> str:
        return "a crontab"


class Every(NamedTuple):
    """An interval in seconds. `notes` tell what is left out of it."""

    seconds: float
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{self.seconds:g} s"


CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
# Celery's crontab() takes these by position; the order of the rest differs between its versions.
_BY_POSITION = ("minute", "hour")
# What `timedelta()` takes, in its order.
_TIMEDELTA = {
    "days": 86400, "seconds": 1, "microseconds": 1e-6, "milliseconds": 1e-3, "minutes": 60, "hours": 3600, "weeks": 604800,
}  # fmt: skip
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_MOST_VALUES = 10_000
# What a value may weigh: names let a line double what the line before has made, and forty lines a million million.
_MOST_WEIGHT = 100_000
_CHARACTERS_OF_ONE = 10
# Names let values be nested more deeply than any expression: each line may put the line before into a list.
_MOST_DEPTH = 100
_MOST_BITS = 1024


@dataclass(slots=True)
class Scope:
    """What the source has said so far: the values of its names (dotted ones too), and where imported ones are from."""

    values: dict[str, Any] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def evaluate(self, node: ast.AST | None) -> Any:
        """Return the value of an expression, or `Unknown`; a container may hold some that are unknown."""
        value: Any = unknown(node)
        match node:
            case ast.Constant():
                value = node.value
            case ast.Dict():
                value = _bounded(self._dictionary(node), node)
            case ast.List() | ast.Tuple() | ast.Set():
                value = self._sequence(node)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                value = self._named(node)
            case ast.UnaryOp(op=ast.USub()):
                operand = self.evaluate(node.operand)
                value = -operand if is_number(operand) else value
            case ast.BinOp():
                value = _bounded(self._combined(node), node)
            case ast.Call():
                value = _bounded(self._called(node), node)
            case _:
                pass
        return value

    def origin(self, node: ast.AST) -> str:
        """Return the full name of what is called, as far as imports tell it: `celery.schedules.crontab`."""
        name = ast.unparse(node)
        head, dot, rest = name.partition(".")
        return f"{self.imports[head]}{dot}{rest}" if head in self.imports else name

    def _named(self, node: ast.expr) -> Any:
        name = ast.unparse(node)
        if name in self.values:
            return self.values[name]
        if isinstance(node, ast.Subscript):
            container, key = self.evaluate(node.value), self.evaluate(node.slice)
            if isinstance(container, dict) and isinstance(key, str) and key in container:
                return container[key]
            if isinstance(key, str) and f"{ast.unparse(node.value)}.{key}" in self.values:
                return self.values[f"{ast.unparse(node.value)}.{key}"]  # conf["timezone"] is conf.timezone
        head = name.partition(".")[0]
        if head in self.imports:
            return Unknown(f"`{name}` is imported ({self.imports[head]}), and not in this file")
        if self.stars:
            return Unknown(f"`{name}` is not in this file; it may come from {', '.join(self.stars)}")
        return unknown(node)

    def _dictionary(self, node: ast.Dict) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found |= self.spread(value)
            else:
                name = self.evaluate(key)
                found[_key(name, key)] = self.evaluate(value)
        return found

    def spread(self, node: ast.expr) -> dict[Any, Any]:
        """Return what `**node` adds to a dictionary; one unknown entry if that cannot be known."""
        value = self.evaluate(node)
        if isinstance(value, dict):
            return value
        return {f"**{ast.unparse(node)}": value if isinstance(value, Unknown) else unknown(node)}

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Any:
        if any(isinstance(each, ast.Starred) for each in node.elts):
            return unknown(node)
        values = [self.evaluate(each) for each in node.elts]
        if not is_bounded(values):
            return too_large(node)
        if isinstance(node, ast.Set):
            return frozenset(values) if all(map(_is_hashable, values)) else unknown(node)
        return values if isinstance(node, ast.List) else tuple(values)

    def _combined(self, node: ast.BinOp) -> Any:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        if isinstance(node.op, ast.BitOr) and isinstance(left, dict):
            return left | (right if isinstance(right, dict) else self.spread(node.right))
        for part in (left, right):
            if isinstance(part, Unknown):
                return part
        act = _OPERATORS.get(type(node.op))
        texts = isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add)
        if act is None or not (texts or (is_number(left) and is_number(right))):
            if isinstance(left, Every) and is_number(right) and isinstance(node.op, ast.Mult):
                return Every(left.seconds * right)
            return unknown(node)
        try:
            return act(left, right)
        except (ArithmeticError, ValueError):
            return unknown(node)

    def _called(self, node: ast.Call) -> Any:
        origin = self.origin(node.func)
        name = origin.rpartition(".")[2]
        if "." in origin and not _is_known(origin):
            return unknown(node)
        if name == "dict":
            return self.arguments(node)
        values = [self.evaluate(each) for each in node.args]
        keywords = {each.arg: self.evaluate(each.value) for each in node.keywords if each.arg is not None}
        made = _CALLS.get(name)
        is_plain = made is not None and len(keywords) == len(node.keywords)
        found = made(values, keywords) if made is not None and is_plain else None
        return unknown(node) if found is None else found

    def arguments(self, node: ast.Call) -> dict[Any, Any]:
        """Return what a call is given, as dictionaries or by keyword, as one dictionary."""
        found: dict[Any, Any] = {}
        for each in node.args:
            found |= self.spread(each)
        for keyword in node.keywords:
            by_name = keyword.arg is not None
            found |= {keyword.arg: self.evaluate(keyword.value)} if by_name else self.spread(keyword.value)
        return found


def unknown(node: ast.AST | None) -> Unknown:
    """Return that an expression is not a plain value."""
    return Unknown(f"`{shown(node)}` is not a plain value")


def too_large(node: ast.AST) -> Unknown:
    """Return that an expression is more than is read."""
    return Unknown(f"`{shown(node)}` is too large")


def _bounded(value: Any, node: ast.AST) -> Any:
    return value if is_bounded(value) else too_large(node)


def is_bounded(value: Any) -> bool:
    """Tell whether a value is small enough to be walked and written, even if it holds another value many times."""
    left, waiting = _MOST_WEIGHT, [(value, 0)]
    while waiting and left > 0:
        left -= 1
        held_value, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            return False
        inner: Iterable[Any] = ()
        match held_value:
            case str() | bytes() as text:
                left -= len(text) // _CHARACTERS_OF_ONE
            case bool():
                pass
            case int() as number if number.bit_length() > _MOST_BITS:
                return False
            case dict() as held:
                inner = (each for pair in held.items() for each in pair)
            case Crontab(fields):
                inner = (dict(fields),)
            case list() | tuple() | frozenset() as held:
                inner = held
            case _:
                pass
        waiting += [(each, depth + 1) for each in inner]
    return left > 0


def shown(node: ast.AST | None, most: int = 60) -> str:
    """Return an expression as a short line."""
    text = " ".join(ast.unparse(node).split()) if node is not None else ""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def unknown_parts(value: Any, *, timings: bool = True) -> list[Unknown]:
    """Return what is unknown in a value, at any depth; a time span and a crontab are, without `timings`."""
    match value:
        case Unknown():
            return [value]
        case Crontab() | Every() if not timings:
            return [Unknown("it holds a time span or a crontab, which cannot be stored")]
        case Every():
            return []
        case Crontab():
            parts = [*value.fields.values()]
        case dict():
            parts = [each for pair in value.items() for each in pair]
        case list() | tuple() | frozenset():
            parts = [*value]
        case _:
            return []
    return [found for part in parts for found in unknown_parts(part, timings=timings)]


def _is_known(origin: str) -> bool:
    return origin.startswith(("celery.", "datetime.")) or origin.rpartition(".")[0].rpartition(".")[2] in (
        "schedules", "datetime", "crontab",
    )  # fmt: skip


def _is_hashable(value: Any) -> bool:
    return not isinstance(value, dict | list | Crontab) and not (
        isinstance(value, tuple) and not all(map(_is_hashable, value))
    )


def _key(value: Any, node: ast.AST) -> Any:
    if isinstance(value, Unknown) or not _is_hashable(value):
        return ast.unparse(node)
    return value


# What is called, by its last name: each returns a value, `Unknown` with a reason of its own, or None.


def _list(values: list[Any], keywords: dict[str, Any]) -> Any:
    if len(values) != 1 or keywords:
        return None
    if isinstance(values[0], Unknown):
        return values[0]
    return list(values[0]) if type(values[0]) in (list, tuple) else None


def _range(values: list[Any], _: dict[str, Any]) -> Any:
    try:
        numbers = range(*values)
    except (TypeError, ValueError):
        return None
    return list(numbers) if len(numbers) <= _MOST_VALUES else None


def _crontab(values: list[Any], keywords: dict[str, Any]) -> Any:
    if len(values) > len(_BY_POSITION):
        return Unknown(
            "a crontab's day and month are given by position, whose order differs between versions of Celery"
        )
    fields = dict(zip(_BY_POSITION, values, strict=False)) | keywords
    fields.pop("app", None)
    if extra := fields.keys() - set(CRONTAB_FIELDS):
        return Unknown(f"a crontab's {', '.join(sorted(extra))} has no counterpart here")
    unread = unknown_parts(fields)
    return unread[0] if unread else Crontab(fields)


def _crontab_of_text(values: list[Any], keywords: dict[str, Any]) -> Any:
    text = values[0] if len(values) == 1 and not keywords else None
    fields = text.split() if isinstance(text, str) else []
    return Crontab(dict(zip(CRONTAB_FIELDS, fields, strict=True))) if len(fields) == len(CRONTAB_FIELDS) else None


def _timedelta(values: list[Any], keywords: dict[str, Any]) -> Any:
    given = [*zip(_TIMEDELTA, values, strict=False), *keywords.items()]
    if any(name not in _TIMEDELTA or not is_number(value) for name, value in given):
        return None
    return Every(sum(_TIMEDELTA[name] * value for name, value in given))


def _schedule(values: list[Any], keywords: dict[str, Any]) -> Any:
    given = dict(zip(("run_every", "relative"), values, strict=False)) | keywords
    every = given.get("run_every")
    if is_number(every):
        every = Every(every)
    if not isinstance(every, Every) or given.keys() - {"run_every", "relative", "app"}:
        return None
    note = "relative: there it fires at whole multiples of its interval; here it counts from its first fire"
    return every._replace(notes=(note,)) if given.get("relative") else every


_CALLS: Mapping[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "list": _list,
    "tuple": _list,
    "set": _list,
    "frozenset": _list,
    "range": _range,
    "crontab": _crontab,
    "from_string": _crontab_of_text,
    "timedelta": _timedelta,
    "schedule": _schedule,
}

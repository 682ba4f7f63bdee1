"""Values that never change behave as those of `dataclass` do, and cost a start next to nothing."""

import copy
from collections.abc import Callable, Hashable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from ayb_jobs.frozen import frozen


@frozen
class Fact:
    """A value."""

    name: str
    count: int = 1


@frozen
class Other:
    """One of another kind, with the same fields."""

    name: str
    count: int = 1


# Else the type checkers refuse what is to fail.
ANY_FACT: Any = Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What `Fact` would be as a dataclass."""

    name: str
    count: int = 1


@pytest.mark.parametrize("values", [{"name": "a"}, {"name": "a", "count": 1}, {"count": 2, "name": "b"}])
def test_it_is_made_and_shown_as_a_dataclass_is(values: dict[str, Any]) -> None:
    fact, model = Fact(**values), Model(**values)
    assert (fact.name, fact.count) == (model.name, model.count)
    assert repr(fact) == repr(model).replace("Model", "Fact")


@pytest.mark.parametrize("values", [{}, {"count": 1}, {"name": "a", "size": 1}])
def test_a_field_that_is_missing_or_unknown_is_an_error(values: dict[str, Any]) -> None:
    for kind in (Fact, Model):
        with pytest.raises(TypeError):
            kind(**values)


def test_the_error_names_the_fields() -> None:
    with pytest.raises(TypeError, match=r"^Fact was given no name, an unknown size$"):
        ANY_FACT(size=1)


def test_it_takes_no_values_by_place() -> None:
    with pytest.raises(TypeError):
        ANY_FACT("a")


def test_equal_values_of_one_kind_are_equal() -> None:
    assert Fact(name="a") == Fact(name="a", count=1)
    assert hash(Fact(name="a")) == hash(Fact(name="a", count=1))
    assert Fact(name="a") != Fact(name="b")
    assert ANY_FACT(name="a") != Other(name="a")
    assert isinstance(Fact(name="a"), Hashable)


def test_it_cannot_be_changed() -> None:
    fact = Fact(name="a")
    with pytest.raises(FrozenInstanceError, match="name"):
        setattr(fact, "name", "b")  # noqa: B010 - the type checker would refuse the plain assignment
    with pytest.raises(FrozenInstanceError, match="name"):
        del fact.name
    assert fact == Fact(name="a")


@pytest.mark.parametrize("default", [{}, [], set(), field(default_factory=dict)])
def test_a_default_that_all_would_share_is_refused(default: Any) -> None:
    kind: Any = type("Shared", (), {"__annotations__": {"values": Any}, "values": default})
    with pytest.raises(TypeError, match=r"Shared\.values"):
        frozen(kind)


def test_the_functions_of_dataclasses_take_it() -> None:
    assert replace(ANY_FACT(name="a"), count=3) == Fact(name="a", count=3)
    with pytest.raises(TypeError, match="size"):
        replace(ANY_FACT(name="a"), size=3)
    assert asdict(Fact(name="a")) == asdict(Model(name="a"))
    for ours, theirs in zip(fields(Fact), fields(Model), strict=True):
        assert repr(ours) == repr(theirs)
    assert is_dataclass(Fact)


@frozen
class Checked:
    """A value that is looked at once it is made."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count is too small")


def test_it_is_checked_once_it_is_made() -> None:
    assert Checked(count=0).count == 0
    with pytest.raises(ValueError, match="too small"):
        Checked(count=-1)
    with pytest.raises(ValueError, match="too small"):
        replace(Checked(count=0), count=-1)


@frozen
class Telling:
    """A value with a function."""

    tell: Callable[[str], str] = str.upper
    count: Callable[..., int] = lambda *given: len(given)


def test_a_default_that_is_a_function_is_no_method() -> None:
    assert Telling().tell("a") == "A"
    assert Telling().count(1, 2) == 2


def test_copies_are_equal() -> None:
    fact = Fact(name="a", count=3)
    assert copy.copy(fact) == copy.deepcopy(fact) == fact

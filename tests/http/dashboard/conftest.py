"""Pages that know how things stand this very moment: each test changes that, and looks."""

from collections.abc import Iterator
from typing import Any

import pytest

from ayb_jobs.http.dashboard import shared
from ayb_jobs.storage.throwaway import Databases
from tests.http.dashboard import browsing
from tests.http.dashboard.sick import Sick, serving_the_sick


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "apart_s", lambda _, **__: 0.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that the tests of a module share."""
    with browsing.launched() as started:
        yield started


@pytest.fixture(scope="module")
def sick(databases: Databases) -> Iterator[Sick]:
    """The dashboard on a database in which much is wrong, which the tests of a module share."""
    with serving_the_sick(databases) as served:
        yield served

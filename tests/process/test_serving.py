"""The API is served if all that it needs is installed; an application's own FastAPI is not all."""

import re
import threading
from importlib.util import find_spec
from typing import Any, cast

import pytest
import tomli

from ayb_jobs.config import Config, Jobs
from ayb_jobs.events import ApiUnavailable, Event, Events
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.metrics import Metrics
from ayb_jobs.process.serving import API_LIBRARIES, has_api, served
from tests.docs.reading import ROOT

# Packages whose module has another name.
MODULES = {"graphql_core": "graphql"}


def test_the_api_needs_all_libraries_of_its_extra() -> None:
    extras = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = [re.split(r"[<>=\[; ]", wanted)[0].replace("-", "_") for wanted in extras["api"]]
    assert sorted(MODULES.get(name, name) for name in names) == sorted(API_LIBRARIES)
    assert has_api()


@pytest.mark.parametrize("missing", API_LIBRARIES)
def test_without_one_of_them_the_daemon_says_what_to_install_and_serves_nothing(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.process.serving.find_spec", lambda name: None if name == missing else find_spec(name))
    told: list[Event] = []
    events = Events()
    events.subscribe(told.append)
    with served(
        cast(Any, None),  # nothing asks the daemon
        config=Config(jobs=Jobs(enabled=True)),
        registry=Registry(),
        events=events,
        metrics=Metrics(),
        started=threading.Event(),
    ) as address:
        assert address is None
    assert told == [ApiUnavailable()]

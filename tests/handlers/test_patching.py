"""A module that replaces Python's threads while it is imported is refused by name, with what to do."""

import _thread
import select
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from ayb_jobs.config import load_config
from ayb_jobs.errors import ConfigError
from ayb_jobs.handlers.packs import build_registry

PATCHING = """
import {module}
def replaced(*_): raise AssertionError("nobody waits this way")
replaced.__module__ = "{owner}"
{module}.{name} = replaced
from ayb_jobs import Registry
registry = Registry()
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (_thread, "start_new_thread"),
        (_thread, "allocate_lock"),
        (select, "select"),
        (select, "poll"),
        (time, "sleep"),
    ],
)
@pytest.mark.parametrize(("owner", "named"), [("gevent.thread", " by gevent's"), ("myapp.threads", "")])
def test_a_module_that_replaces_threads_is_refused_with_what_to_do(
    module: ModuleType, name: str, owner: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patching_handlers.py").write_text(PATCHING.format(module=module.__name__, name=name, owner=owner))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    config = load_config(overrides={"handlers.modules": ["patching_handlers"], "handlers.packs": []})
    try:
        with pytest.raises(ConfigError) as refused:
            build_registry(config)
    finally:
        monkeypatch.undo()
        del sys.modules["patching_handlers"]
    (problem,) = refused.value.problems
    assert problem.startswith(
        f"handlers.modules cannot be used: patching_handlers replaces Python's threads or waiting{named} while"
    )
    assert "patch before the daemon starts, by `python -m gevent.monkey" in problem

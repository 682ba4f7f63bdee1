"""The user's modules, packs and jobs written as SQL come together, or every fault is told, each with its key."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ayb_jobs.config import load_config
from ayb_jobs.errors import ConfigError
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry, default_schedules

FLAG = " (flag --handlers-modules)"
HEADER = """
from ayb_jobs import Registry
registry = Registry()

@registry.handler("{name}")
def handle(ctx):
    pass
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Returns a function that writes a module into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(*modules: str) -> tuple[str, ...]:
    return build_registry(load_config(overrides={"handlers.modules": list(modules), "handlers.packs": []})).names()


def problems(*modules: str) -> list[str]:
    """Return what is wrong with modules that a flag names, without the flag, which each names last."""
    with pytest.raises(ConfigError) as refused:
        names(*modules)
    assert all(problem.endswith(FLAG) for problem in refused.value.problems)
    return [problem.removesuffix(FLAG) for problem in refused.value.problems]


App = Callable[[str, str], None]


def test_a_module_is_found_in_the_current_directory(app: App) -> None:
    app("shop.jobs", HEADER.format(name="a"))
    assert names("shop.jobs") == ("a",)


def test_a_module_s_one_registry_may_have_any_name(app: App) -> None:
    app("jobs_one", HEADER.format(name="a").replace("registry =", "tasks = also =").replace("@registry", "@tasks"))
    assert names("jobs_one") == ("a",)


def test_one_of_several_registries_is_named_after_a_colon(app: App) -> None:
    app("jobs_two", "from ayb_jobs import Registry\nmails, bills = Registry(), Registry()")
    assert names("jobs_two:mails") == ()
    assert problems("jobs_two") == [
        "handlers.modules cannot be used: jobs_two holds several registries; name one: jobs_two:mails or jobs_two:bills"
    ]
    assert problems("jobs_two:males") == [
        "handlers.modules cannot be used: jobs_two: males is not there; it holds mails, bills"
    ]


def test_modules_may_share_one_registry(app: App) -> None:
    app("jobs_base", HEADER.format(name="a"))
    app("jobs_more", "from jobs_base import registry\nregistry.handler('b')(lambda ctx: None)")
    assert names("jobs_base", "jobs_more") == ("a", "b")


def test_every_fault_is_told_at_once(app: App) -> None:
    app("no_registry", "registry = 3")
    app("broken", "def f():\n    raise KeyError('secret')\nf()")
    app("unparsable", "def f(:\n")
    app("needs_more", "import not_installed_anywhere")
    app("quits", "import sys\nsys.exit(3)")
    app("jobs_a", HEADER.format(name="a"))
    app("jobs_b", HEADER.format(name="a"))
    app("self_conflict", HEADER.format(name="z") + "\nregistry.handler('z')(handle)\n")
    found = problems(
        "nowhere.jobs",
        "no_registry",
        "broken",
        "unparsable",
        "needs_more",
        "quits",
        "jobs_a",
        "jobs_b",
        "self_conflict",
    )
    missing = "ModuleNotFoundError: No module named 'not_installed_anywhere'"
    twice = "InvalidInput: job type z is defined twice: by self_conflict.handle and by self_conflict.handle"
    assert [problem.removeprefix("handlers.modules cannot be used: ") for problem in found] == [
        "there is no module nowhere; it is looked for in the current directory and among what is installed",
        "no_registry holds no Registry; make one: registry = ayb_jobs.Registry()",
        f"broken cannot be imported: KeyError: 'secret' ({Path.cwd()}/broken.py, line 2)",
        "unparsable cannot be imported: SyntaxError: invalid syntax (unparsable.py, line 1)",
        f"needs_more cannot be imported: {missing} ({Path.cwd()}/needs_more.py, line 1)",
        f"quits cannot be imported: SystemExit: 3 ({Path.cwd()}/quits.py, line 2)",
        f"self_conflict cannot be imported: {twice} ({Path.cwd()}/self_conflict.py, line 9)",
        "job type a is defined twice: by jobs_a.handle and by jobs_b.handle",
    ]


def config(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(dedent(text))
    return load_config(file, kinds=KINDS)


def test_a_cleanup_of_one_s_own_is_a_few_lines(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        """
        [job_types.old_carts]
        description = "Delete abandoned carts"
        delete_from = "shop.carts"
        where = "touched_at < now() - %(days)s * interval '1 day'"
        payload = { days = 30 }

        [schedules.old_carts_nightly]
        job_type = "old_carts"
        cron = "30 2 * * *"
        """,
    )
    found = build_registry(made).get("old_carts")
    assert found is not None
    assert found.description == "Delete abandoned carts"
    assert "old_carts_nightly" in default_schedules(made)
    assert "session_cleanup_hourly" in default_schedules(made)


def test_a_schedule_of_the_configuration_goes_over_that_of_a_pack(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        """
        [schedules.session_cleanup_hourly]
        job_type = "stale_session_cleanup"
        cron = "*/10 * * * *"
        """,
    )
    assert default_schedules(made)["session_cleanup_hourly"].cron == "*/10 * * * *"


def test_names_that_are_taken_are_told_with_their_keys(app: App, tmp_path: Path) -> None:
    app("jobs_clash", HEADER.format(name="mine"))
    made = config(
        tmp_path,
        """
        [handlers]
        modules = ["jobs_clash"]

        [job_types.stale_session_cleanup]
        delete_from = "sessions"
        where = "true"

        [job_types.mine]
        statements = ["SELECT 1"]
        """,
    )
    with pytest.raises(ConfigError) as refused:
        build_registry(made)
    taken = "job_types.{0} cannot be used: job type {0} is defined twice: by {1} and by [job_types] ({2}, line {3})"
    file = tmp_path / "ayb-jobs.toml"
    assert refused.value.problems == [
        taken.format("stale_session_cleanup", "pack ayb", file, 5),
        taken.format("mine", "jobs_clash.handle", file, 9),
    ]

"""Who imports whom: no circle, also none by an import in a function or by a name in a string; each library one home."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

COMMANDS = "ayb_jobs.cli.commands."


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """What each module of the package imports, anywhere in its code; names of other packages are those of the top."""
    graph = grimp.build_graph(
        "ayb_jobs", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    return {name: frozenset(graph.find_modules_directly_imported_by(name)) for name in ours(graph.modules)}


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "ayb_jobs"}


def named_in_strings(module: str, known: set[str]) -> Iterator[str]:
    """Find the modules that a module names in strings: `package.module`, or a command's `file:function`."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name, colon, _ = node.value.partition(":")
            yield from {name, COMMANDS + name if colon else name} & known - {module, "ayb_jobs"}


def test_nothing_imports_in_a_circle() -> None:
    known = set(imports())
    edges = {name: (imports()[name] & known) | set(named_in_strings(name, known)) for name in known}
    assert edges["ayb_jobs.cli.program"] >= {"ayb_jobs.cli.commands.run"}  # by a string
    assert edges["ayb_jobs"] >= {"ayb_jobs.storage.queue.jobs"}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("croniter", ("ayb_jobs.model.schedules.cron",)),
        ("psycopg", ("ayb_jobs.storage", "ayb_jobs.handlers", "ayb_jobs.lab")),
        ("psycopg_pool", ("ayb_jobs.storage.connections", "ayb_jobs.storage.async_database")),
        ("tomli", ("ayb_jobs.config",)),
        ("fastapi", ("ayb_jobs.http",)),
        ("graphql", ("ayb_jobs.http",)),
        ("uvicorn", ("ayb_jobs.http",)),
        ("jinja2", ("ayb_jobs.http.dashboard",)),
        ("markupsafe", ("ayb_jobs.http.dashboard",)),
        (
            "aiohttp",
            ("ayb_jobs.runtime.http_client", "ayb_jobs.handlers.requests", "ayb_jobs.lab.bench.kinds_requests"),
        ),
        ("standardwebhooks", ("ayb_jobs.handlers.requests.signing",)),
        ("click", ("ayb_jobs.cli",)),
    ],
)
def test_a_library_is_imported_in_its_home_alone(library: str, homes: tuple[str, ...]) -> None:
    users = {name for name, imported in imports().items() if library in imported}
    assert users
    assert {name for name in users if not any(f"{name}.".startswith(f"{home}.") for home in homes)} == set()

"""What `import ayb_jobs` offers."""

import subprocess
import sys

import pytest

import ayb_jobs


@pytest.mark.parametrize("name", ayb_jobs.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(ayb_jobs, name).__name__ == name


def test_importing_the_package_imports_nothing_else() -> None:
    script = (
        "import sys, ayb_jobs; print([m for m in sys.modules if m.startswith(('psycopg', 'structlog', 'pydantic'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


HEAVY = {
    "aiohttp", "click", "croniter", "fastapi", "graphql", "opentelemetry", "prometheus_client", "pydantic", "rich",
    "structlog", "tomli", "uvicorn",
}  # fmt: skip


def imported(code: str) -> tuple[set[str], float]:
    """Run code in a Python of its own; return the libraries that it imported, and the seconds that it took."""
    told = (
        f"import sys, time; began = time.perf_counter(); {code}; taken = time.perf_counter() - began;"
        "print(taken, *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    taken, *names = done.stdout.split()
    return set(names), float(taken)


def test_enqueuing_imports_the_driver_at_most() -> None:
    names, _ = imported("import ayb_jobs; ayb_jobs.enqueue, ayb_jobs.enqueue_many, ayb_jobs.NewJob")
    assert not names & HEAVY
    names, _ = imported("import ayb_jobs; ayb_jobs.cancel_job, ayb_jobs.retry_job, ayb_jobs.get_job")
    assert "psycopg" in names
    assert not names & HEAVY


@pytest.mark.outer
def test_what_enqueues_is_imported_sooner_than_the_driver() -> None:
    ours, drivers = [], []
    for _ in range(5):
        ours.append(imported("import ayb_jobs; ayb_jobs.enqueue")[1])
        drivers.append(imported("import psycopg")[1])
    assert min(ours) < min(drivers), (ours, drivers)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = ayb_jobs.nothing_like_it

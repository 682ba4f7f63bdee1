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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = ayb_jobs.nothing_like_it

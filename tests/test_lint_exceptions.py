"""Exceptions from the lint: few, and each with its reason beside it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXCEPTION = re.compile(r"# (noqa|type: ignore)\b")
WITH_REASON = re.compile(r"# noqa: [A-Z0-9]+(, [A-Z0-9]+)* - \w|# type: ignore\[[a-z,-]+\] +# \w")
MOST = 77


def exceptions() -> list[str]:
    folders = ("ayb_jobs", "tests", "benchmarks", "examples")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(files)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if EXCEPTION.search(line)
    ]


def test_exceptions_from_the_lint_are_few() -> None:
    found = exceptions()
    assert len(found) <= MOST, f"{len(found)} exceptions: restructure the code, or give a whole class one reason"


def test_each_exception_from_the_lint_has_its_reason() -> None:
    assert [line for line in exceptions() if not WITH_REASON.search(line)] == []

"""Handlers that run in their slot's thread."""

import pytest

from ayb_jobs.runtime.executors.threads import exit_code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(-1), 255, ""),
        (SystemExit("no more"), 1, "no more\n"),
        (RuntimeError("broken"), 1, "RuntimeError: broken\n"),
    ],
)
def test_a_child_ends_as_a_script_does(
    error: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) == code
    assert capsys.readouterr().err == said

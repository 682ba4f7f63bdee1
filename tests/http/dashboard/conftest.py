"""Pages that know how things stand this very moment: each test changes that, and looks."""

import pytest

from ayb_jobs.http.dashboard import shell


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "FRESH_S", 0.0)

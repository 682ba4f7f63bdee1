"""Rows that a loop sets aside are told in few lines, and none is forgotten in silence."""

from collections.abc import Mapping
from typing import Any

import pytest

from ayb_jobs.config import Config, Jobs
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import AsideFull, Events, RowsSetAside
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.logs.wording import event_line
from ayb_jobs.runtime import aside
from ayb_jobs.runtime.aside import Aside, Waits
from ayb_jobs.storage.faults import RowUnchanged
from tests.aside import set_aside
from tests.running import silent_logger


def test_many_rows_with_one_kind_of_error_are_told_in_one_line() -> None:
    told: list[Any] = []
    rows = Aside(told.append, part="scheduler", table="_ayb_job_schedules")
    rows.put_all([(str(number), RowUnchanged()) for number in range(1200)] + [("other", ValueError("odd"))])
    assert [type(event) for event in told] == [RowsSetAside, RowsSetAside]
    name, fields = event_line(told[0]) or ("", {})
    assert (name, fields["rows"], fields["ids"]) == ("row.set_aside", 1200, ["0", "1", "2", "3", "4"])
    assert "a trigger" in fields["error"]
    assert event_line(told[1]) == ("row.set_aside", told_of("other"))
    assert len(set(set_aside(told))) == 1201


def told_of(row_id: str) -> Mapping[str, Any]:
    return {"loop": "scheduler", "table": "_ayb_job_schedules", "id": row_id, "retry_s": 15.0, "error": "odd"}


def test_that_a_loop_cannot_remember_all_rows_it_set_aside_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MOST", 3)
    told: list[object] = []
    rows = Aside(told.append, part="scheduler", table="_ayb_job_schedules")
    rows.put_all([(str(number), "no") for number in range(3)])
    assert not [event for event in told if isinstance(event, AsideFull)]
    for number in range(3, 6):
        rows.put(str(number), "no")
    assert [event.most for event in told if isinstance(event, AsideFull)] == [3]
    assert rows.ids() == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("may_pass", "expected"), [(False, [15, 30, 60, 60, 60]), (True, [1, 2, 4, 8, 16, 32, 60, 60])]
)
def test_a_row_is_tried_again_at_growing_intervals_of_a_minute_at_most(may_pass: bool, expected: list[float]) -> None:
    """Whoever has mended what kept the row back sees it handled within a minute."""
    waits = Waits()
    assert [waits.put("a", may_pass=may_pass) for _ in expected] == expected
    assert waits.next_s() <= 60


def test_whichever_part_of_a_daemon_set_a_row_aside_tries_it_again_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Waits] = []
    make = Waits.__init__

    def making(waits: Waits, **given: float) -> None:
        make(waits, **given)
        made.append(waits)

    monkeypatch.setattr(Waits, "__init__", making)
    daemon = Daemon(
        config=Config(jobs=Jobs(enabled=True)),
        url="postgresql:///nowhere",
        registry=Registry(),
        events=Events(),
        logger=silent_logger(),
        worker_id=new_worker_id(),
    )
    daemon.stop()
    daemon._parts.lifeline.close()
    assert len(made) > 10
    for waits in made:
        assert max(waits.put("a") for _ in range(20)) <= 60

"""What the dashboard is drawn from, over the API."""

import httpx
import pytest

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.minutes import Ended, add_ended, keep_level
from tests.factories import make_job
from tests.http.answers import problem


def test_failures_are_grouped(client: httpx.Client, conn: Connection) -> None:
    ids = {make_job(conn, "failed", type="mail", last_error=f"OSError: {number}") for number in range(3)}
    make_job(conn, "failed", type="other", updated_at="2020-01-01T00:00:00Z")
    (group,) = client.get("/api/admin/jobs/failures", params={"hours": 1, "error": "oserror"}).json()["items"]
    assert (group["type"], group["error"], group["count"]) == ("mail", "OSError: <n>", 3)
    assert group["exampleId"] in ids
    bulk = {"action": "retry", "type": "mail", "alike": group["error"], "dryRun": True}
    assert client.post("/api/admin/jobs/bulk", json=bulk).json()["count"] == 3


def test_what_ended_and_waited_is_told_over_time(client: httpx.Client, conn: Connection) -> None:
    add_ended(conn, {"mail": Ended(completed=2, records=7), "other": Ended(failed=1)})
    make_job(conn)
    keep_level(conn)
    (minute,) = client.get("/api/admin/stats/minutes", params={"hours": 2, "stepMin": 60}).json()["items"]
    assert {name: minute[name] for name in ("completed", "failed", "retried", "records")} == {
        "completed": 2, "failed": 1, "retried": 0, "records": 7,
    }  # fmt: skip
    (one,) = client.get("/api/admin/stats/minutes", params={"type": "other"}).json()["items"]
    assert (one["completed"], one["failed"]) == (0, 1)
    (level,) = client.get("/api/admin/stats/levels").json()["items"]
    assert (level["waiting"], level["running"]) == (1, 0)


@pytest.mark.parametrize(
    "path", ["jobs/failures?hours=0", "stats/minutes?stepMin=0", "stats/levels?hours=x", "stats/levels?a=b"]
)
def test_a_wrong_question_is_refused(shared_client: httpx.Client, path: str) -> None:
    assert problem(shared_client.get(f"/api/admin/{path}"), 400)["data"]

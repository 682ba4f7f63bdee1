"""`ayb-jobs batches`."""

import json

import pytest

from ayb_jobs.storage.database import Connection
from tests.cli.conftest import Cli
from tests.storage.queue.test_batches import look
from tests.storage.queue.test_unique import end

GONE = "01890000-0000-7000-8000-0000000000ff"


def test_a_batch_is_made_filled_sealed_and_shown(cli: Cli, conn: Connection) -> None:
    said = cli.ok("batches", "create", "--on-success", "publish", "--on-done", '{"type": "b", "priority": 1}')
    batch_id = said.split()[1]
    assert said == f"batch {batch_id} is open\n"
    job = json.loads(cli.ok("jobs", "enqueue", "a", "--batch", batch_id, "--json"))
    assert job["batchId"] == batch_id
    assert f"{batch_id}, 0 of 1 ended (0 %)" in cli.ok("jobs", "show", job["id"])
    assert job["id"] in cli.ok("jobs", "list", "--batch", batch_id)
    assert job["id"] not in cli.ok("jobs", "list", "--batch", GONE)
    assert cli.ok("batches", "seal", batch_id) == f"batch {batch_id} is sealed\n"
    assert "0 of 1 ended (0 %)" in cli.ok("batches", "show", batch_id)
    end(conn, job["id"])
    look(conn)
    shown = cli.ok("batches", "show", batch_id)
    assert "1 of 1 ended (100 %)" in shown
    assert "succeeded" in shown
    assert "publish, job " in shown
    assert batch_id in cli.ok("batches", "list")
    assert batch_id not in cli.ok("batches", "list", "--state", "failed", "--json")
    assert cli.ok("batches", "list", "--output", "csv").splitlines()[1].startswith(f"{batch_id},succeeded,1,100 %")


def test_the_digits_of_a_callbacks_payload_are_kept(cli: Cli, conn: Connection) -> None:
    payload = '{"long": 0.1234567890123456789012345, "amount": 1.10}'
    batch_id = cli.ok("batches", "create", "--on-done", f'{{"type": "b", "payload": {payload}}}').split()[1]
    stored = "SELECT payload::text FROM _ayb_job_batch_callbacks WHERE batch_id = %s"
    assert conn.execute(stored, (batch_id,)).fetchone() == (payload,)


def test_a_batch_is_canceled_with_its_jobs(cli: Cli, conn: Connection) -> None:
    batch_id = json.loads(cli.ok("batches", "create", "--description", "mails", "--json"))["id"]
    cli.ok("jobs", "enqueue", "a", "--batch", batch_id)
    assert cli.ok("batches", "cancel", batch_id) == f"batch {batch_id} is canceled\n"
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchall() == [("canceled",)]
    look(conn)
    gone = cli("batches", "cancel", batch_id)
    assert (gone.code, gone.err) == (1, f"ayb-jobs: batch {batch_id} is done\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", GONE], 1, f"there is no batch {GONE}"),
        (["show", "x"], 2, "batch_id 'x' is not a UUID"),
        (["create", "--on-done", "{"], 2, "--on-done is not JSON"),
        (["create", "--on-done", '{"type": "a", "delay": 1}'], 2, "--on-done has delay; it takes type, payload"),
        (["create", "--on-done", "{}"], 2, "--on-done has no type"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(cli: Cli, arguments: list[str], code: int, told: str) -> None:
    said = cli("batches", *arguments)
    assert (said.code, said.out) == (code, "")
    assert told in said.err
    assert len(said.err.strip().splitlines()) == 1

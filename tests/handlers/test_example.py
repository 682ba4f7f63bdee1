"""The example in `examples/shop` does what it says, in a real daemon."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.config import load_config
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture
def shop(conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The shop's module, with its tables in the database and a daemon that runs its jobs."""
    conn.execute((SHOP / "schema.sql").read_bytes())
    monkeypatch.chdir(SHOP)
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = load_config(SHOP / "ayb-jobs.toml", kinds=KINDS)
    daemon = Daemon(
        config=config,
        url=database_url,
        registry=build_registry(config),
        events=Events(),
        worker_id=new_worker_id(),
        logger=structlog.wrap_logger(None, processors=[drop]),
    )
    daemon.start()
    yield importlib.import_module("shop.jobs")
    daemon.stop()
    for name in ("shop", "shop.jobs"):
        del sys.modules[name]


def drop(_logger: object, _method: str, _line: Any) -> Any:
    raise structlog.DropEvent


def ends(conn: Connection, job_id: str, outcome: str) -> tuple[int | None, str | None]:
    """Return the records and the error of the job's attempt once it has ended that way."""
    query = "SELECT records_processed, error FROM _ayb_job_executions WHERE job_id = %s AND outcome = %s"
    records, error = eventually(lambda: conn.execute(query, (job_id, outcome)).fetchone() or ())
    return records, error


def test_a_paid_order_gets_one_receipt(shop: ModuleType, conn: Connection) -> None:
    with conn.transaction():
        conn.execute("INSERT INTO orders VALUES (1, 'ann@example.com', now())")
        job_id = shop.enqueue_receipt(conn, 1)
        assert shop.enqueue_receipt(conn, 1) == job_id
    assert ends(conn, job_id, "completed") == (1, None)
    assert conn.execute("SELECT * FROM receipts").fetchall() == [(1, "ann@example.com")]


def test_an_unpaid_order_waits_and_a_canceled_one_is_left(shop: ModuleType, conn: Connection) -> None:
    conn.execute("INSERT INTO orders VALUES (1, 'ann@example.com', NULL, NULL), (2, 'bob@example.com', now(), now())")
    assert ends(conn, shop.enqueue_receipt(conn, 1), "snoozed") == (None, None)
    assert ends(conn, shop.enqueue_receipt(conn, 2), "canceled") == (None, "the order was canceled")


def test_an_order_that_does_not_exist_is_discarded(shop: ModuleType, conn: Connection) -> None:
    assert ends(conn, shop.enqueue_receipt(conn, 7), "discarded") == (None, "there is no order 7")


def test_all_receipts_are_sent_again(shop: ModuleType, conn: Connection) -> None:
    conn.execute("INSERT INTO orders SELECT i, 'ann@example.com', now() FROM generate_series(1, 250) i")
    conn.execute("INSERT INTO receipts SELECT id, email FROM orders")
    assert ends(conn, enqueue(conn, NewJob(type="resend_receipts")).id, "completed") == (250, None)


def test_abandoned_carts_go(shop: ModuleType, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO carts VALUES (1, now() - interval '31 days'), (2, now() - interval '20 days'), (3, now())"
    )
    assert ends(conn, enqueue(conn, NewJob(type="abandoned_carts")).id, "completed") == (1, None)
    shorter = enqueue(conn, NewJob(type="abandoned_carts", payload={"days": 10})).id
    assert ends(conn, shorter, "completed") == (1, None)
    assert conn.execute("SELECT id FROM carts").fetchall() == [(3,)]


def test_a_payload_that_would_delete_every_cart_is_discarded(shop: ModuleType, conn: Connection) -> None:
    conn.execute("INSERT INTO carts VALUES (1, now())")
    hostile = enqueue(conn, NewJob(type="abandoned_carts", payload={"days": -10})).id
    assert ends(conn, hostile, "discarded") == (None, "payload.days is -10; it should be a number of at least 1")
    assert conn.execute("SELECT id FROM carts").fetchall() == [(1,)]

"""ayb-jobs, with what `ayb-jobs run` puts around the daemon: its counting, and its log."""

import asyncio
import os
import time
from contextlib import closing
from typing import Any

from common import LASTS_S, LIMIT, URL, Count, main, paced, parts, tell, timed, until_input_ends

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config import Config, Jobs, Log, Retention
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.logs import configure_logging
from ayb_jobs.metrics import Metrics
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.garbage import collect_rarely
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.migrate import migrate

PRESETS = {"defaults": Retention(), "removed on completion": Retention(completed_h=0)}


class AybJobs:
    async def setup(self) -> None:
        with closing(connect(URL)) as conn:
            migrate(conn)

    async def bulk(self, count: int) -> None:
        with closing(connect(URL)) as conn:
            if LIMIT:
                with conn.transaction():
                    limits.set_limit(conn, NewLimit(name="noop", types=["noop"], max_running=LIMIT), by="benchmark")

            async def send() -> None:
                for numbers in parts(count):
                    enqueue_many(conn, (NewJob(type="noop", payload={"n": number}) for number in numbers))

            await timed(send())

    async def single(self, count: int) -> None:
        with closing(connect(URL)) as conn:

            async def send() -> None:
                for number in range(count):
                    enqueue(conn, NewJob(type="noop", payload={"n": number}))

            await timed(send())

    async def paced(self, count: int) -> None:
        with closing(connect(URL)) as conn:

            async def send(payload: dict[str, Any]) -> None:
                enqueue(conn, NewJob(type="noop", payload=payload))

            await paced(count, send)

    async def work(self, count: Count, preset: str) -> None:
        registry = Registry()

        @registry.handler("noop")
        def noop(context: JobContext) -> None:
            count(context.payload.get("t"))
            if LIMIT:
                began = time.time()
                time.sleep(LASTS_S)
                tell("ran", [began, time.time()])

        events = Events()
        nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        logs = configure_logging(Log(), stream=nowhere)
        events.subscribe(logs.subscriber)
        events.subscribe(Metrics())
        daemon = Daemon(
            config=Config(jobs=Jobs(enabled=True), retention=PRESETS[preset]),
            url=URL,
            registry=registry,
            events=events,
            logger=logs.logger,
            worker_id=new_worker_id(),
        )
        collect_rarely()
        daemon.start()
        await until_input_ends()
        daemon.stop()


main(AybJobs(), asyncio.run)

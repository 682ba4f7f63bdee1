"""What runs in a measured process: `python -m ayb_jobs.lab.bench.measured KIND OPTIONS`, OPTIONS being JSON.

It tells lines of JSON, each an event and its value, and ends when its standard input does. Times are on the monotonic
clock, which all processes of a machine share.
"""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import structlog

from ayb_jobs.config import Api, Config, Database, Handlers, Jobs, JobTypeSettings, Log, Retention
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events, JobsSettled
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.kinds.exec import ExecSettings
from ayb_jobs.handlers.kinds.http import HttpSettings
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.lab.bench import kinds_bare, kinds_children, kinds_pebble
from ayb_jobs.lab.bench.bare import BARE, Stop
from ayb_jobs.lab.bench.kinds_bare import WARM, Turns
from ayb_jobs.logs import configure_logging
from ayb_jobs.metrics import Metrics
from ayb_jobs.runtime.garbage import collect_rarely

_output = threading.Lock()


def tell(event: str, value: Any) -> None:
    """Write one line for the process that measures."""
    with _output:
        sys.stdout.write(json.dumps([event, value]) + "\n")
        sys.stdout.flush()


class Handler:
    """A no-op, or a wait of `work_s`; tells when it first began, and how long ago a payload says it was sent."""

    def __init__(self, work_s: float) -> None:
        self._work_s = work_s
        self._began = False

    def __call__(self, context: JobContext) -> None:
        """Run as a job's handler."""
        if not self._began:
            self._began = True
            tell("began", time.monotonic())
        sent = context.payload.get("sent")
        if sent is not None:
            tell("latency", time.monotonic() - sent)
        if self._work_s:
            time.sleep(self._work_s)


def daemon(
    url: str,
    *,
    completed_h: int = 720,
    concurrency: int | None = None,
    work_s: float = 0.0,
    queues: Sequence[str] = ("default",),
    api_port: int | None = None,
) -> Callable[[], object]:
    """Start a daemon, at its default settings where nothing is said; return what stops it.

    Everything that a daemon reports goes where it does in production: counted, and worded into a log, which goes
    nowhere. With `api_port` it serves its API and its dashboard there.
    """
    jobs = Jobs(enabled=True, queues=list(queues))
    if concurrency is not None:
        jobs = jobs.model_copy(update={"worker_concurrency": concurrency})
    config = Config(
        jobs=jobs,
        retention=Retention(completed_h=completed_h),
        database=Database(url=url),
        log=Log(),
        api=Api() if api_port is None else Api(port=api_port),
    )
    registry = Registry()
    registry.handler("noop")(Handler(work_s))
    return started(config, registry, serve=api_port is not None)


def kinds(
    url: str, *, module: str, job_type: str, address: str | None, settings: Mapping[str, int]
) -> Callable[[], object]:
    """Start a daemon with a module's handlers, and the command or the requests to `address` if these are measured.

    A type that needs another executor would have looks of its own, which now and then walk what waits for the first.
    """
    types: dict[str, JobTypeSettings] = {}
    if job_type == "command":
        types["command"] = ExecSettings(exec=["/bin/true"])
    if job_type == "request" and address:
        types["request"] = HttpSettings(http=address, allow_private=True)
    config = Config(
        jobs=Jobs(enabled=True, poll_interval_ms=100).model_copy(update=settings),
        handlers=Handlers(modules=[module], packs=[]),
        job_types=types,
        database=Database(url=url),
        log=Log(),
    )
    return started(config, build_registry(config))


def started(config: Config, registry: Registry, *, serve: bool = False) -> Callable[[], object]:
    """Start a daemon, with its API if it is to `serve`; return what stops it."""
    events, metrics = Events(), Metrics()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no file of anyone
        logs = configure_logging(config.log, stream=nowhere)
    events.subscribe(logs.subscriber)
    events.subscribe(metrics)
    events.subscribe(tell_settled)
    running = Daemon(
        config=config,
        url=config.database.url,
        registry=registry,
        events=events,
        logger=structlog.get_logger(),
        worker_id=new_worker_id(),
    )
    collect_rarely()
    running.start()
    if not serve:
        return running.stop
    up = threading.Event()
    up.set()
    served = importlib.import_module("ayb_jobs.process.serving").served
    stack = ExitStack()
    stack.callback(running.stop)
    stack.enter_context(served(running, config=config, registry=registry, events=events, metrics=metrics, started=up))
    return stack.close


def tell_settled(event: object) -> None:
    """Tell of each settled batch."""
    if isinstance(event, JobsSettled):
        tell("settled", (time.monotonic(), len(event.settlements)))


NEED_HTTP = frozenset({"requests", "receiving"})
DAEMONS: dict[str, Callable[..., Callable[[], object]]] = {"daemon": daemon, "kinds": kinds}
IN_TURNS: dict[str, Callable[..., Turns]] = {**kinds_bare.KINDS, **kinds_children.KINDS, **kinds_pebble.KINDS}


def bare(kind: str, settings: dict[str, Any]) -> Turns | Stop:
    """Start what does bare what jobs do."""
    if kind in BARE:
        return BARE[kind](tell, **settings)
    del settings["url"]
    if kind in NEED_HTTP:
        requests = importlib.import_module("ayb_jobs.lab.bench.kinds_requests")
        begun: Turns | Stop = requests.receiving(tell) if kind == "receiving" else requests.requests(**settings)
        return begun
    return IN_TURNS[kind](**settings)


def take_turns(turns: Turns) -> None:
    """Do the work so many times as each line of standard input says, and tell when that has ended."""
    turns.work(WARM)
    tell("ready", time.monotonic())
    for line in sys.stdin:
        turns.work(int(line))
        tell("settled", (time.monotonic(), int(line)))
    turns.end()


def main(kind: str, options: str) -> None:
    """Run one kind of process until standard input ends."""
    settings = json.loads(options)
    started = DAEMONS[kind](**settings) if kind in DAEMONS else bare(kind, settings)
    if isinstance(started, Turns):
        take_turns(started)
        return
    tell("ready", time.monotonic())
    sys.stdin.read()
    started()


if __name__ == "__main__":
    main(*sys.argv[1:])

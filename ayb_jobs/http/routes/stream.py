"""A stream of job changes as server-sent events, from one look at the database a second at most, however many watch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ayb_jobs.errors import DatabaseError
from ayb_jobs.events import RequestFailed
from ayb_jobs.http.edge.problems import Refused
from ayb_jobs.http.pacing import apart_s
from ayb_jobs.http.parsing import OURS
from ayb_jobs.http.requests import GUARDED, Given, documented
from ayb_jobs.http.services import Services
from ayb_jobs.storage.queue.changes import Change, Look, look_for_changes
from ayb_jobs.storage.requests import reading
from ayb_jobs.wire.text import object_text

MOST_WATCHERS = 50
# A watcher that lags by more changes than this is told that it missed some.
MOST_WAITING = 1000
LOOK_S = 1.0
KEEP_ALIVE_S = 15.0

HELLO = "retry: 3000\n\n"
KEEP_ALIVE = ": still here\n\n"
MISSED = "event: missed\ndata: {}\n\n"
UNAVAILABLE = "event: unavailable\ndata: {}\n\n"

Watcher = asyncio.Queue[str]
Accepted = Callable[[], bool]


def router() -> APIRouter:
    """Return the route of the stream."""
    routes = APIRouter(prefix="/api/admin/jobs/stream", tags=["jobs"], dependencies=GUARDED)
    described = documented(None, "Server-sent events: `job`, `missed`, `unavailable`")
    described["responses"][200]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    routes.add_api_route("", stream, summary="Watch jobs change", dependencies=OURS, **described)
    return routes


async def stream(request: Request, services: Given) -> Response:
    """Send an event for each job that changes: `job` with its new state.

    `missed` says that there were more changes than are sent one by one, `unavailable` that the database cannot be
    asked; read the list again after either, and after connecting.
    """
    return changes_of(request, services, lambda: True)  # tokens change with a restart, which ends streams


def changes_of(request: Request, services: Services, accepted: Accepted) -> Response:
    """Return the stream for one more watcher, for as long as they are `accepted`.

    Raises `Refused` if all places are taken.
    """
    state = request.app.state
    if not hasattr(state, "changes"):
        state.changes = Changes(services)
    changes: Changes = state.changes
    return WatcherResponse(changes, changes.admit(accepted))


class WatcherResponse(StreamingResponse):
    """The answer to a watcher, whose place is free again however it ends."""

    def __init__(self, changes: "Changes", watcher: Watcher) -> None:
        super().__init__(changes.watch(watcher), media_type="text/event-stream")
        self._end = partial(changes.dismiss, watcher)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until either side has had enough."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


class Changes:
    """Looks for changes while anybody watches, and hands each to every watcher."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watchers: dict[Watcher, Accepted] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._before = Look(changes=[], running=[], bulk_deed=None)
        self._took_s = 0.0

    def admit(self, accepted: Accepted) -> Watcher:
        """Return a watcher with a place until it is dismissed; raises `Refused` if all places are taken."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise Refused(503, f"{MOST_WATCHERS} streams are open already; close one", {"Retry-After": "10"})
        watcher: Watcher = asyncio.Queue(MOST_WAITING)
        self._watchers[watcher] = accepted
        return watcher

    def dismiss(self, watcher: Watcher) -> None:
        """Give a watcher's place to whoever comes next."""
        self._watchers.pop(watcher, None)

    async def watch(self, watcher: Watcher) -> AsyncIterator[str]:
        """Yield events until the daemon stops or the watcher is dismissed; something at least every 15 s."""
        if self._looking is None or self._looking.done():
            self._looked = asyncio.Event()
            self._looking = asyncio.create_task(self._keep_looking())
        await self._looked.wait()
        yield HELLO
        silent_s = 0.0
        while watcher in self._watchers and not self._services.stopping.is_set():
            try:
                yield await asyncio.wait_for(watcher.get(), LOOK_S)
                silent_s = 0.0
            except TimeoutError:
                silent_s += LOOK_S
                if silent_s >= KEEP_ALIVE_S:
                    silent_s = 0.0
                    yield KEEP_ALIVE

    async def _keep_looking(self) -> None:
        await self._look()  # what changed before is no news
        self._looked.set()
        while self._watchers and not self._services.stopping.is_set():
            await asyncio.sleep(apart_s(self._took_s, least_s=LOOK_S))
            self._dismiss_strangers()
            self._tell(await self._look())

    def _dismiss_strangers(self) -> None:
        """Dismiss whoever is accepted no more."""
        for watcher, accepted in list(self._watchers.items()):
            if not accepted():
                self.dismiss(watcher)

    async def _look(self) -> list[str]:
        """Return the events of what changed since the last look."""
        try:
            found = await run_in_threadpool(self._ask)
        except DatabaseError:
            return [UNAVAILABLE]
        except Exception as error:  # noqa: BLE001 - watchers are told, and so is the log
            self._services.events.emit(RequestFailed(request="job changes", error=error))
            return [UNAVAILABLE]
        before, self._before = self._before, found
        seen = {(change.id, change.moment) for change in before.changes}
        events = [event_text(change) for change in found.changes if (change.id, change.moment) not in seen]
        return [*events, MISSED] if found.bulk_deed != before.bulk_deed else events

    def _ask(self) -> Look:
        with reading(self._services.database, self._services.read_timeout_s) as conn:
            began = time.monotonic()
            found = look_for_changes(conn, self._before.running)
            self._took_s = time.monotonic() - began
            return found

    def _tell(self, events: Sequence[str]) -> None:
        for watcher in self._watchers:
            if watcher.qsize() + len(events) >= MOST_WAITING:
                while not watcher.empty():
                    watcher.get_nowait()
                watcher.put_nowait(MISSED)
                continue
            for event in events:
                watcher.put_nowait(event)


def event_text(change: Change) -> str:
    """Return a change as an event; its data is one line of JSON."""
    data = object_text(
        {
            "id": change.id,
            "type": change.type,
            "queue": change.queue,
            "state": change.state,
            "attempts": change.attempts,
            "maxAttempts": change.max_attempts,
            "runAt": change.run_at,
            "updatedAt": change.updated_at,
            "lastError": change.last_error,
        }
    )
    return f"event: job\ndata: {data}\n\n"

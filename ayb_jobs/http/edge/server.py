"""The API's own thread: it listens at once, and builds the application once somebody asks for something."""

import asyncio
import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from ayb_jobs.errors import AybJobsError, ConfigError, PortInUse
from ayb_jobs.forks import keep_from_children

STOP_S = 5.0
# A server that ended by itself is started again after so long, and after twice as long each time.
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


class ApiServer:
    """Serves an application at one address, in a thread of its own.

    `app_factory` is called in that thread once a first client has connected: what it imports takes half a second, and a
    third of the memory of a daemon whose API nobody asks. `stopping` is set when the
    server stops, for streams that would otherwise go on. `on_failure` is told where the application could not be built
    or the server ended by itself; the daemon goes on without it. To health checks it is a loop like the daemon's own.
    """

    name = "http"
    waits_for_database = False
    error: BaseException | None = None  # it is told at once, and of none of the database's kinds

    def __init__(
        self,
        app_factory: Callable[[], Any],
        host: str,
        port: int,
        *,
        stopping: threading.Event | None = None,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        self._app_factory = app_factory
        self._host = host
        self._port = port
        self._stopping = stopping or threading.Event()
        self._on_failure = on_failure
        self._socket: socket.socket | None = None
        self._first: socket.socket | None = None
        self._server: Any = None
        self._down_since = 0.0
        self._has_failed = self._awaits_client = False
        self._told: socket.socket | None = None
        self._tell: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on: the configured one, or the one that the system chose where that is 0."""
        return self._port

    @property
    def url(self) -> str:
        """Where the API is, for people."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def overdue_s(self) -> float:
        """For how many seconds it should have served, and does not."""
        return 0.0 if self._is_up else time.monotonic() - self._down_since

    @property
    def failing(self) -> bool:
        """Whether it does not serve, since something ended it or the application could not be built."""
        return self._has_failed and not self._is_up

    @property
    def _is_up(self) -> bool:
        if self._stopping.is_set() or self._awaits_client:
            return True
        return self._server is not None and self._server.started

    def start(self) -> None:
        """Listen; raises `PortInUse` or `ConfigError`, naming api.host or api.port, if that address cannot be had.

        Requests that come before the application is built wait for it.
        """
        self._socket = self._first = listening_socket(self._host, self._port)
        self._port = self._socket.getsockname()[1]
        self._told, self._tell = socket.socketpair()
        self._down_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ayb-http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, let running requests end for up to 5 s, and wait for the thread. May come twice."""
        self._stopping.set()
        if self._tell is not None:
            with contextlib.suppress(OSError):  # closed by an earlier stop
                self._tell.send(b"!")
        if self._server is not None:
            self._server.stop()
        if self._thread is not None:
            self._thread.join(STOP_S + 2)
        for one in (self._socket, self._told, self._tell):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except BaseException:  # noqa: BLE001 - not even an exception from another thread ends this one
                self._note_down()
                self._stopping.wait(FIRST_RETRY_S)

    def _serve(self) -> None:
        """Serve until told to stop; whatever ends the server, it is told and started again."""
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                # Closed between two tries, so that whoever waits is told at once.
                with closing(self._listening()) as at_work:
                    self._serve_once(at_work)
            except BaseException as error:  # noqa: BLE001 - jobs go on without HTTP; the daemon is told
                self._note_down()
                retry_s = FIRST_RETRY_S if time.monotonic() - began > LONGEST_RETRY_S else retry_s
                self._on_failure(error)
                self._stopping.wait(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _listening(self) -> socket.socket:
        first, self._first = self._first, None
        return first or listening_socket(self._host, self._port)

    def _note_down(self) -> None:
        """Take note that it does not serve; the time counts from when it last did."""
        if self._is_up:
            self._down_since = time.monotonic()
        self._server = None
        self._has_failed = True

    def _serve_once(self, listening: socket.socket) -> None:
        if not self._has_failed:
            self._await_client(listening)
        if self._stopping.is_set():
            return
        app = self._app_factory()
        # uvicorn, like FastAPI, takes time to import, which must not delay the first job.
        from ayb_jobs.http.edge.serving import bounded_server  # noqa: PLC0415 - see above

        self._server = bounded_server(app, STOP_S)
        if self._stopping.is_set():
            return
        asyncio.run(_serve_to_the_end(self._server, listening))
        if not self._stopping.is_set():
            raise RuntimeError("the server ended by itself")

    def _await_client(self, listening: socket.socket) -> None:
        """Wait until somebody connects, or a stop is asked for."""
        waiting = select.poll()  # unlike select, it takes descriptors of any number
        for one in (listening, self._told):
            if one is not None:
                waiting.register(one, select.POLLIN)
        self._awaits_client = True
        try:
            waiting.poll()
        finally:
            self._down_since = time.monotonic()
            self._awaits_client = False


async def _serve_to_the_end(server: Any, listening: socket.socket) -> None:
    """Serve; whatever ends that, nobody waits on a connection that nobody answers."""
    try:
        await server.serve(sockets=[listening])
    finally:
        for connection in list(server.server_state.connections):
            connection.transport.abort()


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises `PortInUse`, or `ConfigError` if the address cannot be had at all; both say which setting to change.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server((str(address[0]), port), family=family, backlog=256)
    except (OSError, UnicodeError, OverflowError) as error:
        raise _why(host, port, error) from error
    # Connections inherit it. asyncio would set it, but not on sockets made without naming TCP; and without it the body
    # of an answer waits 40 ms for the client's delayed acknowledgement of the header.
    keep_from_children(listening)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _why(host: str, port: int, error: Exception) -> AybJobsError:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return PortInUse(
                f"api.port: {port} on {host} is in use by another program, maybe another ayb-jobs daemon; "
                "choose another port by api.port or AYB_JOBS_API_PORT (0 takes any that is free)"
            )
        case errno.EACCES:
            return ConfigError([f"api.port: {port} needs rights that this process lacks; choose a port above 1023"])
        case _:
            return ConfigError([f"api.host: cannot listen on {host}: {error}"])

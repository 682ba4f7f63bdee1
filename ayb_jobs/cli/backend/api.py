"""The commands' way to the API of a running daemon.

By the standard library's client: a handful of plain calls need no more, and others take longer to import than most
commands take in all.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import closing
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from ayb_jobs.cli.exits import ApiBusy, ApiUnavailable, NotPermitted
from ayb_jobs.cli.output import decoded, instant, patience
from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.model.checked import checked_id, checked_name
from ayb_jobs.model.daemons import checked_daemon
from ayb_jobs.model.digits import json_text
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind, checked_pausable
from ayb_jobs.wire.batches import new_batch
from ayb_jobs.wire.jobs import filter_fields
from ayb_jobs.wire.limits import limit_fields
from ayb_jobs.wire.new_jobs import new_job

TIMEOUT_S = 30.0
GOOD = range(200, 300)
SERVICE_UNAVAILABLE = 503


class ApiBackend:
    """A `JobsBackend` and a `SchedulesBackend` that is a daemon's admin API at `url`, such as http://127.0.0.1:8091."""

    def __init__(self, url: str, token: str) -> None:
        self._base = checked_url(url)
        self._headers = {"Accept": "application/json"}
        if token:
            if not token.isascii() or not token.isprintable():
                raise InvalidInput("the admin token holds characters that no token has", field="admin_token")
            self._headers["Authorization"] = f"Bearer {token}"

    def now(self) -> datetime:
        """Return the database's clock."""
        return instant(decoded(self._get("/api/admin/workers"))["now"])

    def list_jobs(self, wanted: Filter, *, state: str | None, due: bool | None, limit: int) -> str:
        """Return a page of jobs, the newest first; of those that are due, or due later, in the order of that."""
        asked = None if due is None else str(due).lower()
        return self._get("/api/admin/jobs", **filter_fields(wanted), state=state, due=asked, limit=limit)

    def paused_names(self) -> frozenset[tuple[PauseKind, str]]:
        """Return which queues, types and keys are paused."""
        listed = {kind: decoded(self.list_pausable(kind))["items"] for kind in PauseKind}
        return frozenset((kind, each["name"]) for kind, all_ in listed.items() for each in all_ if "paused" in each)

    def job_stats(self) -> str:
        """Return the number of jobs in each state."""
        return self._get("/api/admin/jobs/stats")

    def get_job(self, job_id: str) -> str:
        """Return a job."""
        return self._get(f"/api/admin/jobs/{checked_id(job_id)}")

    def why(self, job_id: str | None, queue: str | None) -> str:
        """Return why a job waits, or those of a queue do, or any do."""
        return self._get("/api/admin/why", job=checked_id(job_id) if job_id else None, queue=queue)

    def list_executions(self, job_id: str, *, limit: int) -> str:
        """Return a page of a job's attempts, the newest first."""
        return self._get(f"/api/admin/jobs/{checked_id(job_id)}/executions", limit=limit)

    def get_output(self, job_id: str, *, attempt: int | None) -> str:
        """Return what a job's command wrote, in its newest attempt or in one of that number."""
        return self._get(f"/api/admin/jobs/{checked_id(job_id)}/output", attempt=attempt)

    def known_types(self) -> Collection[str] | None:
        """Return the job types that live daemons know; None where no daemon is alive."""
        return self._of_daemons("types")

    def served_queues(self) -> Collection[str] | None:
        """Return the queues that live daemons serve; None if no daemon is alive."""
        return self._of_daemons("queues")

    def _of_daemons(self, key: str) -> Collection[str] | None:
        """Return what the daemons that take jobs name under a key; None if there is none."""
        alive = [each for each in decoded(self._get("/api/admin/workers"))["items"] if "drainRequestedAt" not in each]
        return {name for daemon in alive for name in daemon[key]} if alive else None

    def enqueue(self, body: Mapping[str, Any]) -> str:
        """Enqueue a job and return it, or the one that has its idempotency key."""
        new_job(body).payload_text  # noqa: B018 - says what is wrong as the database's way does
        return self._send("POST", "/api/admin/jobs", body)

    def change_jobs(self, action: str, wanted: Filter, *, dry_run: bool, cursor: str = "") -> str:
        """Retry or cancel jobs that match, or count them; if it is not `done`, the next call gives its `nextCursor`."""
        asked = {"action": action, "dryRun": dry_run} | ({"cursor": cursor} if cursor else {})
        return self._send("POST", "/api/admin/jobs/bulk", filter_fields(wanted) | asked)

    def retry_job(self, job_id: str) -> str:
        """Queue a failed job again and return it."""
        return self._send("POST", f"/api/admin/jobs/{checked_id(job_id)}/retry")

    def cancel_job(self, job_id: str, *, running: bool, force: bool) -> str:
        """Cancel a queued job and return it; with `running` or `force` also one that runs."""
        asked = [name for name, is_given in (("running", running), ("force", force)) if is_given]
        query = "?" + "&".join(f"{name}=true" for name in asked) if asked else ""
        return self._send("POST", f"/api/admin/jobs/{checked_id(job_id)}/cancel{query}")

    def run_again(self, job_id: str, body: Mapping[str, Any]) -> str:
        """Make a new job of an old one and return it."""
        return self._send("POST", f"/api/admin/jobs/{checked_id(job_id)}/run-again", body)

    def list_pausable(self, kind: PauseKind) -> str:
        """Return the queues, the types or the keys, by name."""
        return self._get(f"/api/admin/{kind}s")

    def get_pausable(self, kind: PauseKind, name: str) -> str:
        """Return a queue, a type or a key."""
        return self._get(f"/api/admin/{kind}s/{quote(checked_pausable(kind, name), safe='')}")

    def pause(self, new: NewPause) -> str:
        """Pause a queue, a type or a key, and return it."""
        body = {"reason": new.reason, "until": None if new.until is None else instant_text(new.until)}
        said = {name: value for name, value in body.items() if value is not None}
        return self._send("POST", f"/api/admin/{new.kind}s/{quote(new.name, safe='')}/pause", said)

    def resume(self, kind: PauseKind, name: str) -> str:
        """Resume a queue, a type or a key, and return it."""
        return self._send("POST", f"/api/admin/{kind}s/{quote(checked_pausable(kind, name), safe='')}/resume")

    def list_batches(self, *, state: str | None, limit: int) -> str:
        """Return a page of batches, the newest first."""
        return self._get("/api/admin/batches", state=state, limit=limit)

    def get_batch(self, batch_id: str) -> str:
        """Return a batch."""
        return self._get(f"/api/admin/batches/{checked_id(batch_id, 'batch_id')}")

    def create_batch(self, body: Mapping[str, Any]) -> str:
        """Make a batch and return it."""
        new_batch(body)
        return self._send("POST", "/api/admin/batches", body)

    def seal_batch(self, batch_id: str) -> str:
        """Let a batch end once its members have, and return it."""
        return self._send("POST", f"/api/admin/batches/{checked_id(batch_id, 'batch_id')}/seal")

    def cancel_batch(self, batch_id: str, *, running: bool) -> str:
        """Cancel the members of a batch, and return it."""
        query = "?running=true" if running else ""
        return self._send("POST", f"/api/admin/batches/{checked_id(batch_id, 'batch_id')}/cancel{query}")

    def list_limits(self) -> str:
        """Return the limits, by name."""
        return self._get("/api/admin/limits")

    def get_limit(self, name: str) -> str:
        """Return a limit."""
        return self._get(f"/api/admin/limits/{quote(checked_name(name, 'name'), safe='')}")

    def set_limit(self, new: NewLimit) -> str:
        """Make a limit, or change it, and return it."""
        return self._send("PUT", f"/api/admin/limits/{quote(new.name, safe='')}", limit_fields(new))

    def remove_limit(self, name: str) -> str:
        """Remove a limit and return it as it was."""
        return self._send("DELETE", f"/api/admin/limits/{quote(checked_name(name, 'name'), safe='')}")

    def list_daemons(self) -> str:
        """Return the daemons that are alive, in the order of their start."""
        return self._get("/api/admin/workers")

    def drain(self, daemon: str) -> str:
        """Ask a daemon, given by its id or a part of it, to drain, and return it."""
        return self._send("POST", f"/api/admin/daemons/{quote(checked_daemon(daemon), safe='')}/drain")

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        return self._get("/api/admin/schedules")

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        return self._send("POST", "/api/admin/schedules", body)

    def update_schedule(self, key: str, changes: Mapping[str, Any]) -> str:
        """Change a schedule, given by id or name, and return it."""
        return self._send("PATCH", f"/api/admin/schedules/{self._schedule(key)}", changes)

    def enable_schedule(self, key: str) -> str:
        """Enable a schedule, given by id or name, and return it."""
        return self._send("POST", f"/api/admin/schedules/{self._schedule(key)}/enable")

    def disable_schedule(self, key: str) -> str:
        """Disable a schedule, given by id or name, and return it."""
        return self._send("POST", f"/api/admin/schedules/{self._schedule(key)}/disable")

    def delete_schedule(self, key: str) -> None:
        """Delete a schedule, given by id or name."""
        self._send("DELETE", f"/api/admin/schedules/{self._schedule(key)}")

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        return self._send("POST", f"/api/admin/schedules/{self._schedule(key)}/trigger")

    def health(self) -> str:
        """Return whether work can be done: `status` is `ok` or `failing`, and `reasons` say why."""
        status, text = self._exchange("GET", "/readyz")
        return text if status == SERVICE_UNAVAILABLE else self._understood(status, text)

    def _schedule(self, key: str) -> str:
        """Return a schedule's id or name as one segment of a path; for a name that cannot be one, return its id."""
        if key and "/" not in key and key not in {".", ".."}:
            return quote(key, safe="")
        for schedule in decoded(self.list_schedules())["items"]:
            if schedule["name"] == key:
                return str(schedule["id"])
        raise NotFound(f"there is no schedule {key}")

    def _get(self, path: str, **query: Any) -> str:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._understood(*self._exchange("GET", f"{path}?{urlencode(asked)}"))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        sent = None if body is None else json_text(body).encode(errors="surrogatepass")  # the API says what is wrong
        return self._understood(*self._exchange(method, path, sent))

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Return the status and the text of an answer. Redirects are not followed: the token is for nobody else."""
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        client = HTTPSConnection if self._base.scheme == "https" else HTTPConnection
        with (
            patience(f"asking {self._base.geturl()} …"),
            closing(client(self._base.netloc, timeout=TIMEOUT_S)) as conn,
        ):
            try:
                conn.request(method, self._base.path + path, body, headers)
                answer = conn.getresponse()
                return answer.status, answer.read().decode()
            except (HTTPException, OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or error or type(error).__name__
                raise ApiUnavailable(f"{self._base.geturl()} cannot be reached: {reason}") from error

    def _understood(self, status: int, text: str) -> str:
        """Return the text of a good answer, or raise what it says."""
        if status in GOOD and (text.startswith("{") or not text):
            return text
        message = error_message(text)
        match status:
            case _ if status in GOOD or message is None:
                raise ApiUnavailable(
                    f"{self._base.geturl()} is not the API of an ayb-jobs daemon; it answers {status} without what is due"
                )
            case 400 | 413:
                raise InvalidInput(message)
            case 401:
                raise NotPermitted(
                    f"{self._base.geturl()} wants a valid token; give one in AYB_JOBS_ADMIN_TOKEN or with --admin-token"
                )
            case 403:
                raise NotPermitted(message)
            case 404:
                raise NotFound(message)
            case 409:
                raise Conflict(message)
            case 503:
                raise ApiBusy(message)
            case _:
                raise ApiUnavailable(f"{self._base.geturl()} answers {status}: {message}")


def checked_url(url: str) -> SplitResult:
    """Return the parts of an API's address, without a slash at its end, or raise `InvalidInput`."""
    try:
        parts = urlsplit(url.rstrip("/"))
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if "://" not in url:
        raise InvalidInput(
            "the URL of the API has no http:// in front; write one like http://127.0.0.1:8091", field="url"
        )
    if not usable or parts.query or parts.fragment or parts.username or not url.isascii() or not url.isprintable():
        raise InvalidInput("the URL of the API cannot be used; write one like http://127.0.0.1:8091", field="url")
    return parts


def error_message(text: str) -> str | None:
    """Return what an error of the API says; None where it is none of the API's."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None

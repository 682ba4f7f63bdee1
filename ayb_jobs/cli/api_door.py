"""The commands' way to the API of a running daemon.

By the standard library's client: a handful of plain calls need no more, and others take longer to import than most
commands take in all.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from ayb_jobs.cli.exits import ApiBusy, ApiUnavailable, NotPermitted
from ayb_jobs.cli.output import decoded, patience
from ayb_jobs.errors import Conflict, InvalidInput, NotFound

TIMEOUT_S = 30.0
LARGEST_ANSWER = 64 * 1024 * 1024


class ApiDoor:
    """A `Door` that is a daemon's admin API at `url`, such as http://127.0.0.1:8091."""

    def __init__(self, url: str, token: str) -> None:
        self._base = checked_url(url)
        self._headers = {"Accept": "application/json"}
        if token:
            if not token.isascii() or not token.isprintable():
                raise InvalidInput("the admin token holds characters that no token has", field="admin_token")
            self._headers["Authorization"] = f"Bearer {token}"
        # An answer from elsewhere is none of ours, and the token is not for others: redirects are not followed.
        self._opener = urllib.request.build_opener(_NoRedirects)

    def list_jobs(self, *, state: str | None, type: str | None, queue: str | None, limit: int) -> str:  # noqa: A002
        """Return a page of jobs, the newest first."""
        return self._get("/api/admin/jobs", state=state, type=type, queue=queue, limit=limit)

    def job_stats(self) -> str:
        """Return the number of jobs in each state."""
        return self._get("/api/admin/jobs/stats")

    def get_job(self, job_id: str) -> str:
        """Return a job."""
        return self._get(f"/api/admin/jobs/{segment(job_id)}")

    def list_executions(self, job_id: str, *, limit: int) -> str:
        """Return a page of a job's attempts, the newest first."""
        return self._get(f"/api/admin/jobs/{segment(job_id)}/executions", limit=limit)

    def enqueue(self, body: Mapping[str, Any]) -> str:
        """Enqueue a job and return it, or the one that has its idempotency key."""
        return self._send("POST", "/api/admin/jobs", body)

    def retry_job(self, job_id: str) -> str:
        """Queue a failed job again and return it."""
        return self._send("POST", f"/api/admin/jobs/{segment(job_id)}/retry")

    def cancel_job(self, job_id: str) -> str:
        """Cancel a queued job and return it."""
        return self._send("POST", f"/api/admin/jobs/{segment(job_id)}/cancel")

    def list_schedules(self) -> str:
        """Return all schedules, by name."""
        return self._get("/api/admin/schedules")

    def create_schedule(self, body: Mapping[str, Any]) -> str:
        """Create a schedule and return it."""
        return self._send("POST", "/api/admin/schedules", body)

    def update_schedule(self, key: str, changes: Mapping[str, Any]) -> str:
        """Change a schedule, given by id or name, and return it."""
        return self._send("PUT", f"/api/admin/schedules/{self._schedule_id(key)}", changes)

    def delete_schedule(self, key: str) -> None:
        """Delete a schedule, given by id or name."""
        self._send("DELETE", f"/api/admin/schedules/{self._schedule_id(key)}")

    def trigger_schedule(self, key: str) -> str:
        """Enqueue a job of a schedule now and return the job."""
        return self._send("POST", f"/api/admin/schedules/{self._schedule_id(key)}/trigger")

    def _schedule_id(self, key: str) -> str:
        """Return the id of a schedule that is given by id or name; the API knows ids alone."""
        schedules = decoded(self.list_schedules())["items"]
        for field in ("id", "name"):
            for schedule in schedules:
                if schedule[field] == key:
                    return segment(schedule["id"])
        raise NotFound(f"there is no schedule {key}")

    def _get(self, path: str, **query: Any) -> str:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._call(urllib.request.Request(f"{self._base}{path}?{urlencode(asked)}", headers=self._headers))  # noqa: S310 - checked

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": "application/json"})
        return self._call(urllib.request.Request(self._base + path, data, headers, method=method))  # noqa: S310 - checked

    def _call(self, request: urllib.request.Request) -> str:
        with patience(f"asking {self._base} …"), self._worded_faults():
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                text: str = answer.read(LARGEST_ANSWER).decode()
            if text and not text.startswith("{"):
                raise ApiUnavailable(f"{self._base} is not the API of an ayb-jobs daemon: it does not answer with JSON")
            return text

    @contextmanager
    def _worded_faults(self) -> Iterator[None]:
        try:
            yield
        except urllib.error.HTTPError as error:
            self._refuse(error.code, error_message(error))
        except urllib.error.URLError as error:
            raise ApiUnavailable(f"{self._base} cannot be reached: {error.reason}") from error
        except (HTTPException, OSError, UnicodeError) as error:
            raise ApiUnavailable(f"{self._base} cannot be reached: {error or type(error).__name__}") from error

    def _refuse(self, status: int, message: str) -> NoReturn:
        match status:
            case 400 | 413:
                raise InvalidInput(message)
            case 401:
                raise NotPermitted(
                    f"{self._base} wants a valid token; give one in AYB_JOBS_ADMIN_TOKEN or with --admin-token"
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
                raise ApiUnavailable(f"{self._base} answers {status}: {message}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Lets a redirect fail as the error that it is here."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def checked_url(url: str) -> str:
    """Return the address of an API without a slash at its end, or raise `InvalidInput`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or not url.isprintable() or " " in url:
        raise InvalidInput("the URL of the API is none such as http://127.0.0.1:8091", field="url")
    return url.rstrip("/")


def segment(text: str) -> str:
    """Return a text as one segment of a path; an empty one could be another call's path."""
    if not text.strip():
        raise InvalidInput("the id is empty", field="id")
    return quote(text, safe="", errors="replace").replace(".", "%2E")


def error_message(error: urllib.error.HTTPError) -> str:
    """Return what an error of the API says."""
    try:
        message = json.loads(error.read(1024 * 1024))["message"]
    except (ValueError, KeyError, TypeError, RecursionError, OSError, HTTPException):
        return str(error.reason)
    return str(message)

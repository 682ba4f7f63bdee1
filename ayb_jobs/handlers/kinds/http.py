"""Job types that post to an address: a request for each attempt, signed by Standard Webhooks."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Literal
from urllib.parse import urlsplit

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.config.section import NEEDS_HTTP, Doubt, Fault, has_http, setting, url_host, webhook_secret_faults
from ayb_jobs.errors import AttemptFailed, InvalidInput
from ayb_jobs.events import AddressGone
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.job_type import AnyHandler
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.payloads import payload_with_defaults
from ayb_jobs.handlers.requests.addresses import is_private, literal
from ayb_jobs.handlers.requests.answers import MOST_LATER_S, SUCCESS, Gone, refused
from ayb_jobs.model.digits import exact
from ayb_jobs.model.instants import instant, instant_text
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.payload import encode_json
from ayb_jobs.model.results import MAX_RESULT_BYTES, Result, Returned
from ayb_jobs.model.web_address import web_fault
from ayb_jobs.storage.queue.executions import put_off_s
from ayb_jobs.tracing import current_traceparent, known_traceparent


class HttpSettings(JobTypeSettings):
    """`[job_types.NAME]`: an address that is posted to."""

    http: str = setting("", "The address; it gets a `POST` with JSON for each attempt.")
    secret: str = setting(
        "", "The secret that signs, by Standard Webhooks (`whsec_…`). Empty: not signed.", secret=True
    )
    secret_file: str = setting("", "A file that holds `secret`.")
    previous_secret: str = setting(
        "", "The secret before, which signs as well while the receiver changes to the new one.", secret=True
    )
    previous_secret_file: str = setting("", "A file that holds `previous_secret`.")
    allow_private: bool = setting(False, "Also post to addresses within private networks, and to this machine.")
    client_errors: Literal["discard", "retry"] = setting(
        "discard", "What an answer of 4xx does that has no meaning of its own."
    )
    timeout_s: float | None = setting(30.0, "How long the whole exchange may take.", gt=0)

    @property
    def secret_texts(self) -> tuple[str, ...]:
        """The secrets that sign: the new one first."""
        return tuple(filter(None, (self.secret, self.previous_secret)))

    def secrets(self) -> set[str]:
        """Return the secrets."""
        return super().secrets() | set(self.secret_texts)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what cannot be posted to, or signs nothing."""
        yield from super().contradictions()
        yield from webhook_secret_faults({"secret": self.secret, "previous_secret": self.previous_secret})
        if not self.http:
            yield ("http",), "is missing; give an address such as https://app.internal/jobs/resize"
            return
        if fault := web_fault(self.http):
            yield ("http",), fault
        elif "@" in urlsplit(self.http).netloc:
            yield ("http",), "holds a user or a password; leave them out, and have the receiver verify the signature"
        if not has_http():
            yield ("http",), NEEDS_HTTP

    def doubts(self) -> Iterator[Doubt]:
        """Tell of an address that no job may be posted to."""
        host = url_host(self.http)
        address = literal(host)
        is_own = host == "localhost" or (address is not None and is_private(address))
        if is_own and not self.allow_private:
            yield (
                f"http leads to {host}, which is in a private network, so that each job fails",
                "set allow_private = true",
            )


@frozen
class Address:
    """The address of a job type: what is the same for all of its jobs."""

    url: str
    secrets: Sequence[str]
    allow_private: bool
    retry_client_errors: bool
    defaults: Mapping[str, Any]

    @property
    def host(self) -> str:
        """Its host, which may be shown."""
        return url_host(self.url)


@cache
def requesting() -> tuple[Any, Any]:
    """Return what posts and what signs; both need an optional extra.

    The import takes some tenths of a second, so it must not come on the event loop.
    """
    from ayb_jobs.handlers.requests import client
    from ayb_jobs.handlers.requests.signing import signed

    return client, signed


async def post(address: Address, ctx: AsyncJobContext) -> Result:
    """Post a job to its address, and return what the answer means."""
    client, signed = requesting()
    key = f"http, private {address.allow_private}"
    clients = ctx.services.clients
    if key not in clients:
        clients[key] = client.Client(allow_private=address.allow_private)
    body = body_of(ctx.job, payload_with_defaults(ctx, address.defaults))
    headers = {**headers_of(ctx.job), **signed(ctx.job.id, body, address.secrets)}
    try:  # the attempt's own deadline cancels it
        answer = await clients[key].post(address.url, body.encode(), headers=headers)
    except client.FAULTS as error:
        raise AttemptFailed(f"{address.host} cannot be reached: {client.fault(error)}") from None
    if answer.status in SUCCESS:
        return result_of(answer.headers, answer.body) if answer.is_whole else None
    try:
        later = refused(
            answer.status,
            answer.reason,
            answer.headers,
            answer.body,
            retry_client_errors=address.retry_client_errors,
        )
    except Gone:
        ctx.services.emit(AddressGone(job_type=ctx.job.type, host=address.host))
        raise
    if await ctx.in_thread(lambda: has_been_put_off(ctx)):
        raise AttemptFailed(
            f"it answered {answer.status} {answer.reason} and has put this job off for a day already",
            retry_after_s=later.seconds,
        )
    return later


def has_been_put_off(ctx: AsyncJobContext) -> bool:
    """Tell whether the receiver has put a job off for so long that its answer counts as a failed attempt."""
    with ctx.services.database.connection() as conn:
        return put_off_s(conn, ctx.job.id) >= MOST_LATER_S


def body_of(job: LeasedJob, payload: str) -> str:
    """Return the JSON that is posted: what a webhook is by the standard, and of which job it is."""
    about = (
        f'"id":"{job.id}","attempt":{job.attempt},"maxAttempts":{job.max_attempts},'
        f'"queue":{quoted(job.queue)},"runAt":"{rfc_3339(job.run_at_text)}"'
    )
    if job.scheduled_for_text is not None:
        about += f',"scheduledFor":"{rfc_3339(job.scheduled_for_text)}"'
    if job.schedule_id is not None:
        about += f',"scheduleId":"{job.schedule_id}"'
    now = instant_text(datetime.now(UTC))
    return f'{{"type":{quoted(job.type)},"timestamp":"{now}","data":{payload},"job":{{{about}}}}}'


@lru_cache(maxsize=256)
def rfc_3339(stored: str) -> str:
    """Return an instant in UTC as RFC 3339, from PostgreSQL's text. Jobs that were enqueued together share theirs."""
    return instant_text(instant(stored))


def headers_of(job: LeasedJob) -> Mapping[str, str]:
    """Return the headers of a job's request, but for its signature."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": job.id}
    traceparent = known_traceparent(current_traceparent() or job.traceparent)
    return headers | {"traceparent": traceparent} if traceparent else headers


def result_of(headers: Mapping[str, str], body: bytes) -> Result:
    """Return the JSON that an answer holds as the job's result. What cannot be kept is none: the work is done."""
    if "json" not in headers.get("content-type", "") or not 0 < len(body) <= MAX_RESULT_BYTES:
        return None
    try:
        value = exact(body)
        return None if value is None else Returned(encode_json(value, "result", MAX_RESULT_BYTES))
    except (ValueError, RecursionError, InvalidInput):
        return None


def http_handler(settings: HttpSettings) -> AnyHandler:
    """Return what posts to this address."""
    requesting()
    address = Address(
        url=settings.http,
        secrets=settings.secret_texts,
        allow_private=settings.allow_private,
        retry_client_errors=settings.client_errors == "retry",
        defaults=settings.payload,
    )

    async def run(ctx: AsyncJobContext) -> Result:
        return await post(address, ctx)

    return run


HTTP = Kind(name="http", settings=HttpSettings, keys="`http`", handler=http_handler, executor="async")

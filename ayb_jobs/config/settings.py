"""Every setting: its name, type, default, bounds and meaning. Units are in the names (`_ms`, `_s`, `_h`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ayb_jobs.config.sources import Origin
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.job import encode_payload
from ayb_jobs.redact import passwords

# Beyond the loopback interface a token is all that stands between a stranger and code that will run.
MIN_TOKEN = 32
DAY_S = 24 * 3600

SECRET: dict[str, JsonValue] = {"secret": True}

# A contradiction: the path of the key it is about, from its section on, and what is wrong with it.
Fault = tuple[tuple[str, ...], str]


def setting(default: Any, meaning: str, *, secret: bool = False, **bounds: Any) -> Any:
    """Declare a setting; a secret is never shown, and may come from a file named by `<key>_file` where that exists."""
    return Field(default, description=meaning, repr=not secret, json_schema_extra=SECRET if secret else None, **bounds)


class Section(BaseModel):
    """A table of the file. Values are of the very type declared; unknown keys are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def contradictions(self) -> Iterator[Fault]:
        """Yield what is wrong although each value by itself is right."""
        yield from ()


class Jobs(Section):
    """`[jobs]`: the daemon's work."""

    enabled: bool = setting(False, "Run jobs. When false: no workers and no scheduler, and the admin API answers 503.")
    worker_concurrency: int = setting(4, "How many handlers run at once.", ge=1, le=1000)
    poll_interval_ms: int = setting(
        1000, "How often an idle daemon looks for due jobs where no notification wakes it.", ge=10, le=3_600_000
    )
    lease_duration_s: int = setting(
        300,
        "How long a job stays with a worker that has stopped answering; extended every third of it.",
        ge=1,
        le=DAY_S,
    )
    max_retries_default: int = setting(
        3, "Attempts of a job whose type and enqueuer name no number.", ge=1, le=1_000_000
    )
    scheduler_enabled: bool = setting(True, "Turn due schedules into jobs.")
    scheduler_tick_s: int = setting(15, "The longest time between two looks at the schedules.", ge=1, le=3600)
    queues: list[str] = setting(["default"], "The queues that this daemon serves.", min_length=1)
    max_crashes: int = setting(
        3, "How often a job may lose its worker before it fails, whatever attempts are left.", ge=1, le=1_000_000
    )
    shutdown_timeout_s: float = setting(
        30.0, "How long a stopping daemon waits for the handlers that run.", ge=0, le=DAY_S
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse queues that no job can be in."""
        for queue in self.queues:
            if not queue.strip() or len(queue) > 100:  # noqa: PLR2004 - the column's width
                yield ("queues",), "has a name that no queue can have; 1 to 100 characters are needed"


class Database(Section):
    """`[database]`: where the queue is."""

    url: str = setting(
        "", "PostgreSQL to use, as a URL or as `key=value` words. Empty: the embedded database.", secret=True
    )
    url_file: str = setting("", "A file that holds `url`.")
    direct_url: str = setting(
        "", "The same database without a pooler between; for notifications and migrations.", secret=True
    )
    direct_url_file: str = setting("", "A file that holds `direct_url`.")
    data_dir: str = setting("", "Where the embedded database keeps its data. Empty: a place of the user's own.")
    work_connections: int = setting(
        0, "Connections for handlers and HTTP. 0: as many as `worker_concurrency`.", ge=0, le=10_000
    )
    connect_timeout_s: int = setting(5, "How long connecting may take.", ge=1, le=300)
    statement_timeout_s: int = setting(30, "How long one statement of the daemon's own may take.", ge=1, le=DAY_S)
    notify: bool = setting(True, "Listen for notifications. Without them, polling alone finds jobs.")

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a direct way to no database."""
        if self.direct_url and not self.url:
            yield ("direct_url",), "is set although `database.url` is empty; set `database.url` to the same database"


class Handlers(Section):
    """`[handlers]`: what the daemon can run."""

    modules: list[str] = setting([], "Python modules that hold a `Registry` of handlers, such as `myapp.jobs`.")
    packs: list[Literal["ayb", "barycenter"]] = setting(["ayb"], "Built-in jobs and their schedules.")

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what is no module's name, such as a path."""
        for module in self.modules:
            name, colon, attribute = module.partition(":")
            if not all(part.isidentifier() for part in [*name.split("."), *[attribute] * bool(colon)]):
                right = (
                    "a dotted module name such as myapp.jobs, or myapp.jobs:emails where it holds several registries"
                )
                yield ("modules",), f"names {module!r}; it should be {right}"


class ApiToken(Section):
    """`[api.tokens.NAME]`: a token beside `admin_token`; the name is what the audit trail shows."""

    token: str = setting("", "The token itself.", secret=True)
    token_file: str = setting("", "A file that holds the token.")
    scope: Literal["read", "operate", "admin"] = setting(
        "read", "What it opens: looking; also enqueue, retry, cancel and trigger; also changing schedules."
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a token that is none."""
        if not self.token:
            yield ("token",), "is missing; set `token` or `token_file`"


class Api(Section):
    """`[api]`: the admin API, health and metrics over HTTP."""

    enabled: bool = setting(True, "Serve HTTP at all.")
    host: str = setting("127.0.0.1", "The address to listen on.", min_length=1)
    port: int = setting(8091, "The port to listen on. 0: any free one.", ge=0, le=65535)
    admin_token: str = setting("", "The token that opens everything. Empty: loopback needs none.", secret=True)
    admin_token_file: str = setting("", "A file that holds `admin_token`.")
    allowed_hosts: list[str] = setting(
        [], "Further `Host` names that requests may use. Empty: `host` and loopback names only."
    )
    allowed_origins: list[str] = setting([], "Further `Origin`s that may write, such as `https://ops.example.com`.")
    tokens: dict[str, ApiToken] = Field(default={}, description="Further tokens, by name.")

    def contradictions(self) -> Iterator[Fault]:
        """Refuse an API that is open to the network."""
        if not self.enabled or is_loopback(self.host):
            return
        tokens: dict[tuple[str, ...], str] = {("admin_token",): self.admin_token}
        tokens |= {("tokens", name, "token"): inner.token for name, inner in self.tokens.items()}
        given = {path: token for path, token in tokens.items() if token}
        for path, token in given.items():
            if len(token) < MIN_TOKEN:
                yield path, f"has {len(token)} characters; {how_to_make_a_token(self.host)}"
        if not given:
            yield ("admin_token",), f"is missing; {how_to_make_a_token(self.host)}"


class Log(Section):
    """`[log]`: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least level that is written.")
    format: Literal["auto", "json", "console"] = setting(
        "auto", "`json`: one object a line. `console`: for people. `auto`: `console` on a terminal, else `json`."
    )
    color: Literal["auto", "always", "never"] = setting(
        "auto", "Colours of `console`. `auto`: on a terminal, unless `NO_COLOR` is set."
    )


class Retention(Section):
    """`[retention]`: how long what has ended is kept, in hours; -1 keeps it for ever."""

    completed_h: int = setting(720, "Completed jobs. 0: removed as they complete.", ge=-1, le=1_000_000)
    canceled_h: int = setting(720, "Canceled jobs.", ge=-1, le=1_000_000)
    failed_h: int = setting(2160, "Failed jobs.", ge=-1, le=1_000_000)
    executions_h: int = setting(2160, "The log of attempts.", ge=-1, le=1_000_000)


class Alerts(Section):
    """`[alerts]`: who is told of overdue and failing schedules."""

    webhooks: list[str] = setting([], "URLs that get each alert as a signed POST.", secret=True)
    webhook_secret: str = setting("", "The key that signs them (HMAC-SHA256). Empty: not signed.", secret=True)
    webhook_secret_file: str = setting("", "A file that holds `webhook_secret`.")
    ping_url: str = setting(
        "", "Healthchecks-style base URL; the schedule's name, then /start or /fail, is added.", secret=True
    )
    timeout_s: int = setting(10, "How long one delivery may take.", ge=1, le=300)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what cannot be called."""
        for url in self.webhooks:
            if not is_http(url):
                yield ("webhooks",), "holds what is no http:// or https:// URL"
        if self.ping_url and not is_http(self.ping_url):
            yield ("ping_url",), "is no http:// or https:// URL"


class DeleteSettings(Section):
    """One table of a cleanup: `delete_from` and `where`."""

    delete_from: str = Field(description="The table.", min_length=1)
    where: str = Field(description="Which rows, as an SQL condition; `%(name)s` is bound to the payload's `name`.")


class JobTypeSettings(Section):
    """`[job_types.NAME]`: a job written as SQL. `%(name)s` is bound to the payload's `name`."""

    description: str = setting("", "What it does, for people.")
    statements: list[str] = setting([], "SQL statements, run in order in one transaction.")
    delete_from: str = setting("", "The table whose rows are deleted, in batches.")
    where: str = setting("", "Which rows, as an SQL condition.")
    deletes: list[DeleteSettings] = setting([], "Several tables, each with `delete_from` and `where`.")
    batch_size: int = setting(100_000, "Rows deleted in one transaction, at most.", ge=1, le=1_000_000)
    payload: dict[str, Any] = setting({}, "The payload's defaults; what a job brings goes over them.")
    timeout_s: float | None = setting(None, "How long a run may take. Not given: any time.", gt=0)
    max_attempts: int | None = setting(None, "Attempts. Not given: `jobs.max_retries_default`.", ge=1, le=1_000_000)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a job that does nothing, or that does not say which rows."""
        ways = [name for name in ("statements", "delete_from", "deletes") if getattr(self, name)]
        if not ways:
            yield (), "does nothing; give `statements`, or `delete_from` and `where`"
        if len(ways) > 1:
            yield (ways[0],), f"and `{ways[1]}` are both set; one job type is one or the other"
        if self.delete_from and not self.where.strip():
            yield ("where",), "is missing; say which rows of `delete_from` go, or `true` for all"
        if self.where and not self.delete_from:
            yield ("where",), "is set without `delete_from`, the table that it is about"
        yield from payload_faults(self.payload)


class ScheduleSettings(Section):
    """`[schedules.NAME]`: jobs made by the clock."""

    job_type: str = Field(description="The type of the jobs it makes.", min_length=1, max_length=100)
    cron: str = Field(
        description="When: five fields, six with seconds first, `@hourly` and the like, `@every 90s`.",
        min_length=1,
        max_length=100,
    )
    timezone: str = setting("UTC", "The IANA time zone in which `cron` is meant.", min_length=1, max_length=50)
    payload: dict[str, Any] = setting({}, "The jobs' payload.")
    enabled: bool = setting(True, "Whether it fires.")
    max_attempts: int | None = setting(
        None, "Attempts. Not given: the job type's, else `jobs.max_retries_default`.", ge=1, le=1_000_000
    )
    queue: str = setting("default", "The jobs' queue.", min_length=1, max_length=100)
    priority: int = setting(2, "The jobs' priority, 1 first.", ge=1, le=4)
    catchup: Literal["latest", "all", "skip"] = setting("latest", "What becomes of fires that were missed.")
    catchup_max: int = setting(100, 'With `catchup = "all"`: the most jobs made at once.', ge=1, le=1000)
    catchup_window_s: float = setting(float(DAY_S), 'With `catchup = "all"`: no fire older than this.', ge=1)
    overlap: Literal["allow", "skip", "queue_one", "cancel_running"] = setting(
        "allow", "What happens when the previous job has not ended."
    )
    dst: Literal["once", "skip", "both"] = setting("once", "What happens to a local time that a clock change doubles.")
    jitter_s: float = setting(0.0, "Spread the fire over so many seconds.", ge=0, le=DAY_S)
    timeout_s: float | None = setting(None, "How long a run may take. Not given: the job type's.", gt=0)
    expect_success_within_s: float | None = setting(None, "Alert when the last success is older than this.", gt=0)
    ping_url: str | None = setting(None, "Its own healthchecks-style URL, in place of `alerts.ping_url`.", secret=True)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what would never fire, or could not be stored."""
        # The parser of cron expressions is slow to import, and most configurations have no schedule.
        from ayb_jobs.model.cron import check_cron  # noqa: PLC0415

        try:
            check_cron(self.cron, self.timezone)
        except InvalidInput as error:
            yield (error.field or "cron",), f"cannot be used: {error}"
        if self.ping_url and not is_http(self.ping_url):
            yield ("ping_url",), "is no http:// or https:// URL"
        yield from payload_faults(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Job types and schedules that belong together, by name."""

    job_types: Mapping[str, JobTypeSettings]
    schedules: Mapping[str, ScheduleSettings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings. `origins` tells where each value that is no default came from, by dotted key."""

    jobs: Jobs = field(default_factory=Jobs)
    database: Database = field(default_factory=Database)
    handlers: Handlers = field(default_factory=Handlers)
    api: Api = field(default_factory=Api)
    log: Log = field(default_factory=Log)
    retention: Retention = field(default_factory=Retention)
    alerts: Alerts = field(default_factory=Alerts)
    job_types: Mapping[str, JobTypeSettings] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleSettings] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def secrets(self) -> set[str]:
        """Return every secret of the settings, for a `Redactor`; of connection strings the passwords alone."""
        found = passwords(self.database.url) | passwords(self.database.direct_url)
        found |= {self.api.admin_token, *(token.token for token in self.api.tokens.values())}
        found |= {*self.alerts.webhooks, self.alerts.webhook_secret, self.alerts.ping_url}
        found |= {schedule.ping_url or "" for schedule in self.schedules.values()}
        return found - {""}


SECTIONS: Mapping[str, type[Section]] = {
    "jobs": Jobs,
    "database": Database,
    "handlers": Handlers,
    "api": Api,
    "log": Log,
    "retention": Retention,
    "alerts": Alerts,
}
NAMED_SECTIONS: Mapping[str, type[Section]] = {
    "api.tokens": ApiToken,
    "job_types": JobTypeSettings,
    "schedules": ScheduleSettings,
}


def is_secret(model: type[Section], key: str) -> bool:
    """Tell whether a setting is never to be shown."""
    info = model.model_fields.get(key)
    return bool(info and info.json_schema_extra)


def payload_faults(payload: dict[str, Any]) -> Iterator[Fault]:
    """Yield why a payload cannot be stored; TOML has dates and infinity, JSON has not."""
    try:
        encode_payload(payload)
    except InvalidInput as error:
        yield ("payload",), f"cannot be used: {error}"


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reachable from this machine alone."""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def is_http(url: str) -> bool:
    """Tell whether a URL can be posted to."""
    scheme, _, rest = url.partition("://")
    return scheme in ("http", "https") and bool(rest)


def how_to_make_a_token(host: str) -> str:
    """Say what a token for an address beyond loopback needs, and how to make one."""
    return (
        f"listening on {host} needs a token of at least {MIN_TOKEN} characters: "
        "make one with `openssl rand -hex 32`, or listen on 127.0.0.1"
    )

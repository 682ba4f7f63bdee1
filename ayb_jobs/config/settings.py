"""Every setting: its name, type, default, bounds and meaning. Units are in the names (`_ms`, `_s`, `_h`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, field_validator

from ayb_jobs.config.section import (
    DAY_S,
    MAKE_ONE,
    MIN_TOKEN,
    NEEDS_HTTP,
    Fault,
    Section,
    can_be_listened_on,
    has_http,
    how_to_make_a_token,
    is_loopback,
    is_showable,
    setting,
    webhook_secret_faults,
)
from ayb_jobs.config.sources import Origin, place_of
from ayb_jobs.config.tables import (
    ApiToken,
    JobTypeSettings,
    LimitSettings,
    QueueSettings,
    ScheduleSettings,
    ScheduleTable,
)
from ayb_jobs.model.address import address_fault
from ayb_jobs.model.checked import MAX_NAME
from ayb_jobs.model.web_address import is_origin, web_fault
from ayb_jobs.redact import passwords


class Jobs(Section):
    """`[jobs]`: the daemon's work."""

    enabled: bool = setting(
        False, "Run jobs. If false: no handlers and no scheduler run, and the admin API answers 503."
    )
    worker_concurrency: int = setting(4, "How many handlers run in threads at once.", ge=1, le=1000)
    async_concurrency: int = setting(
        1000, "How many `async def` handlers run on the event loop at once.", ge=1, le=100_000
    )
    process_concurrency: int = setting(
        0,
        "How many isolated handlers run in child processes at once. 0: as many as there are processors.",
        ge=0,
        le=1000,
    )
    process_memory_mib: int = setting(
        1024,
        "Memory that one isolated handler may have; more is a `MemoryError` in it. A child that holds over half of it"
        " after a job is replaced. 0: no limit.",
        ge=0,
        le=1024 * 1024,
    )
    process_max_jobs: int = setting(1000, "After how many jobs a child process is replaced.", ge=1, le=1_000_000_000)
    poll_interval_ms: int = setting(
        1000, "How often an idle daemon looks for due jobs if no notification wakes it.", ge=10, le=3_600_000
    )
    lease_duration_s: int = setting(
        300,
        "How long a job stays with a daemon that has fallen silent. Running jobs are extended every third of it.",
        ge=1,
        le=DAY_S,
    )
    max_retries_default: int = setting(
        3,
        "Attempts of a job, if neither its type nor whoever enqueues it names a number. 0 means 3, as in AYB.",
        ge=0,
        le=1_000_000,
    )
    scheduler_enabled: bool = setting(True, "Turn due schedules into jobs.")
    scheduler_tick_s: int = setting(15, "The longest time between two checks for due schedules.", ge=1, le=3600)
    queues: list[str] = setting(["default"], "The queues that this daemon serves.", min_length=1)
    max_crashes: int = setting(
        3, "How often a job may lose its daemon before it fails, whatever attempts are left.", ge=1, le=1_000_000
    )
    shutdown_timeout_s: float = setting(30.0, "How long a stopping daemon waits for running handlers.", ge=0, le=DAY_S)

    @field_validator("max_retries_default")
    @classmethod
    def _as_in_ayb(cls, attempts: int) -> int:
        return attempts or 3

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
        "", "The same database past a pooler: for notifications, lifelines and migrations.", secret=True
    )
    direct_url_file: str = setting("", "A file that holds `direct_url`.")
    data_dir: str = setting("", "Where the embedded database keeps its data. Empty: `.ayb-jobs/postgres` here.")
    work_connections: int = setting(0, "Connections for handlers. 0: as many as `worker_concurrency`.", ge=0, le=10_000)
    async_connections: int = setting(
        10, "Connections for `async def` handlers, opened when the first one asks.", ge=1, le=10_000
    )
    connect_timeout_s: int = setting(5, "How long connecting may take.", ge=1, le=300)
    statement_timeout_s: int = setting(30, "How long one statement of the daemon's own may take.", ge=1, le=DAY_S)
    notify: bool = setting(True, "Listen for notifications. If false, polling alone finds jobs.")

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a direct way to no database, and addresses that are none of PostgreSQL's."""
        for key, address in (("url", self.url), ("direct_url", self.direct_url)):
            if fault := address_fault(address):
                yield (key,), fault
        if self.direct_url and not self.url:
            yield ("direct_url",), "is set although `database.url` is empty; set `database.url` to the same database"


class Handlers(Section):
    """`[handlers]`: what the daemon can run."""

    modules: list[str] = setting([], "Python modules that hold a `Registry` of handlers, such as `myapp.jobs`.")
    packs: list[Literal["ayb", "barycenter"]] = setting(
        ["ayb"], "Packs of built-in jobs and their schedules. `[]`: none."
    )

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what is no module's name, such as a path."""
        for module in self.modules:
            name, colon, attribute = module.partition(":")
            if not all(part.isidentifier() for part in [*name.split("."), *[attribute] * bool(colon)]):
                right = (
                    "a dotted module name such as myapp.jobs, or myapp.jobs:emails where it holds several registries"
                )
                yield ("modules",), f"names {module!r}; it should be {right}"


class Api(Section):
    """`[api]`: the admin API, health and metrics over HTTP."""

    enabled: bool = setting(True, "Serve HTTP.")
    host: str = setting("127.0.0.1", "The address to listen on.", min_length=1)
    port: int = setting(8091, "The port to listen on. 0: any free one.", ge=0, le=65535)
    admin_token: str = setting("", "The token that opens everything. Empty: loopback needs none.", secret=True)
    admin_token_file: str = setting("", "A file that holds `admin_token`.")
    allowed_hosts: list[str] = setting(
        [], "Further `Host` names that requests may use. Empty: `host` and loopback names only."
    )
    allowed_origins: list[str] = setting([], "Further `Origin`s that may write, such as `https://ops.example.com`.")
    tokens: dict[str, ApiToken] = Field(default={}, description="Further tokens, by name.")

    @property
    def wants_token(self) -> bool:
        """Whether a request has to show a token: one is configured."""
        return bool(self.admin_token or self.tokens)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse tokens that nobody could show, and an API that is open to the network."""
        if not can_be_listened_on(self.host):
            right = "an address such as 127.0.0.1, 0.0.0.0 or ::1, or the name of a host"
            yield ("host",), f"is {self.host!r}; it should be {right}"
            return
        yield from self._unknown_doors()
        for name in self.tokens:
            if len(name) > MAX_NAME:
                yield ("tokens", name), f"has a name of {len(name)} characters; at most {MAX_NAME} are recorded"
        tokens: dict[tuple[str, ...], str] = {("admin_token",): self.admin_token}
        tokens |= {("tokens", name, "token"): inner.token for name, inner in self.tokens.items()}
        given = {path: token for path, token in tokens.items() if token}
        for path, token in given.items():
            if not is_showable(token):
                yield path, f"can be shown in no header: it has spaces at an end, or bytes that are no text; {MAKE_ONE}"
        if not self.enabled or is_loopback(self.host):
            return
        for path, token in given.items():
            if len(token) < MIN_TOKEN:
                yield path, f"has {len(token)} characters; {how_to_make_a_token(self.host)}"
        if not given:
            yield ("admin_token",), f"is missing; {how_to_make_a_token(self.host)}"

    def _unknown_doors(self) -> Iterator[Fault]:
        """Refuse hosts and origins that no browser sends as such."""
        for name in self.allowed_hosts:
            if not can_be_listened_on(name.strip("[]")):
                right = "a name such as ops.example.com, without scheme, port and path"
                yield ("allowed_hosts",), f"holds {name!r}; it should be {right}"
        for origin in self.allowed_origins:
            if not is_origin(origin):
                right = "a scheme and a host, such as https://ops.example.com"
                yield ("allowed_origins",), f"holds {origin!r}; it should be {right}"


class Dashboard(Section):
    """`[dashboard]`: the pages at `/`, beside the API."""

    enabled: bool = setting(True, "Serve the pages.")
    environment: str = setting(
        "", "The name of this installation, such as `production`, at the head of each page.", max_length=30
    )
    environment_color: Literal["grey", "plum", "teal", "clay"] = setting("grey", "The colour of that name.")


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
    results_h: int = setting(72, "What handlers returned, even if its job is gone.", ge=-1, le=1_000_000)


class Alerts(Section):
    """`[alerts]`: who is told of overdue and failing schedules."""

    webhooks: list[str] = setting([], "URLs that get each alert as a signed `POST`.", secret=True)
    webhook_secret: str = setting(
        "", "The secret that signs them, by Standard Webhooks (`whsec_…`). Empty: not signed.", secret=True
    )
    webhook_secret_file: str = setting("", "A file that holds `webhook_secret`.")
    previous_webhook_secret: str = setting(
        "", "The secret before, which signs them as well while receivers change to the new one.", secret=True
    )
    previous_webhook_secret_file: str = setting("", "A file that holds `previous_webhook_secret`.")
    ping_url: str = setting(
        "", "Healthchecks-style base URL; the schedule's name, then /start or /fail, is added.", secret=True
    )
    timeout_s: int = setting(10, "How long one delivery may take.", ge=1, le=300)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that sign: the new one first."""
        return tuple(filter(None, (self.webhook_secret, self.previous_webhook_secret)))

    def contradictions(self) -> Iterator[Fault]:
        """Refuse what cannot be called, or signs nothing."""
        for url in self.webhooks:
            if fault := web_fault(url):
                yield ("webhooks",), f"holds what {fault}"
        if self.ping_url and (fault := web_fault(self.ping_url)):
            yield ("ping_url",), fault
        yield from webhook_secret_faults(
            {"webhook_secret": self.webhook_secret, "previous_webhook_secret": self.previous_webhook_secret}
        )
        if (self.webhooks or self.ping_url) and not has_http():
            yield ("webhooks" if self.webhooks else "ping_url",), NEEDS_HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings.

    `origins` tells where each value that is no default came from, by dotted key; `notes` are for an operator to read.
    `file` is the one that was read, if any, and `text` is its, from which lines are told.
    """

    jobs: Jobs = field(default_factory=Jobs)
    database: Database = field(default_factory=Database)
    handlers: Handlers = field(default_factory=Handlers)
    api: Api = field(default_factory=Api)
    dashboard: Dashboard = field(default_factory=Dashboard)
    log: Log = field(default_factory=Log)
    retention: Retention = field(default_factory=Retention)
    alerts: Alerts = field(default_factory=Alerts)
    job_types: Mapping[str, JobTypeSettings] = field(default_factory=dict)
    schedules: Mapping[str, ScheduleTable] = field(default_factory=dict)
    limits: Mapping[str, LimitSettings] = field(default_factory=dict)
    queues: Mapping[str, QueueSettings] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    notes: Sequence[str] = ()
    file: str = ""
    text: str = field(default="", repr=False)

    def place(self, key: str) -> str:
        """Say where a setting, given by its dotted key, came from: a file and line, or a variable; empty if unset."""
        origins = {tuple(known.split(".")): origin for known, origin in self.origins.items()}
        return place_of(tuple(key.split(".")), origins, self.text)

    def secrets(self) -> set[str]:
        """Return every secret of the settings, for a `Redactor`; of connection strings the passwords alone."""
        found = passwords(self.database.url) | passwords(self.database.direct_url)
        found |= {self.api.admin_token, *(token.token for token in self.api.tokens.values())}
        found |= {*self.alerts.webhooks, *self.alerts.webhook_secrets, self.alerts.ping_url}
        found |= {secret for job_type in self.job_types.values() for secret in job_type.secrets()}
        found |= {secret for schedule in self.schedules.values() for secret in schedule.secrets()}
        return found - {""}


SECTIONS: Mapping[str, type[Section]] = {
    "jobs": Jobs,
    "database": Database,
    "handlers": Handlers,
    "api": Api,
    "dashboard": Dashboard,
    "log": Log,
    "retention": Retention,
    "alerts": Alerts,
}
NAMED_SECTIONS: Mapping[str, type[Section]] = {
    "api.tokens": ApiToken,
    "job_types": JobTypeSettings,
    "schedules": ScheduleSettings,
    "limits": LimitSettings,
    "queues": QueueSettings,
}

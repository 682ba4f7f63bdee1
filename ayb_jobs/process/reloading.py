"""Reading the settings again while the daemon runs: what changes at once, and what needs a restart."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ayb_jobs.config import Config
from ayb_jobs.config.settings import SECTIONS
from ayb_jobs.config.sources import Source
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.disabled import DisabledDaemon
from ayb_jobs.daemon.identity import most_of
from ayb_jobs.errors import AybJobsError, ConfigError
from ayb_jobs.events import DaemonReloaded, Emit, ReloadRefused, RestartNeeded
from ayb_jobs.logs import Logs

LIVE = frozenset({"jobs.worker_concurrency", "jobs.queues", "log.level"})
LIVE_TABLE = "queues"
TABLES = ("job_types", "schedules", "limits")


class Reloading:
    """Puts changed settings into force in `reload`. `read` returns what the sources say now."""

    def __init__(
        self, config: Config, *, read: Callable[[], Config], daemon: Daemon | DisabledDaemon, logs: Logs, emit: Emit
    ) -> None:
        self._config = config
        self._read = read
        self._daemon = daemon
        self._logs = logs
        self._emit = emit

    def reload(self) -> None:
        """Read the settings, change what can be changed, and tell the rest. If they cannot be read, nothing changes."""
        try:
            read = self._read()
        except ConfigError as error:
            self._emit(ReloadRefused(problems=error.problems))
            return
        except AybJobsError as error:
            self._emit(ReloadRefused(problems=[str(error)]))
            return
        if gone := missing_file(self._config, read) or empty_file(self._config, read):
            self._emit(ReloadRefused(problems=[gone]))
            return
        differences = dict(differing(self._config, read))
        changed = {key: value for key, value in differences.items() if is_live(key)}
        if "log.level" in changed:
            self._daemon.log_to(self._logs.set_level(read.log.level))
        if changed.keys() - {"log.level"}:
            jobs = read.jobs
            self._daemon.serve(concurrency=jobs.worker_concurrency, queues=jobs.queues, most=most_of(read))
        self._config = in_force(self._config, read)
        self._emit(DaemonReloaded(changed=changed))
        if others := sorted(key for key in differences if not is_live(key)):
            self._emit(RestartNeeded(settings=others))


def missing_file(before: Config, read: Config) -> str | None:
    """Say that the file is gone with which the daemon runs: without it, each of its settings would be the default."""
    if before.file in ("", read.file):
        return None
    return f"{before.file} is not there, and the settings came from it; put it back, or restart to do without it"


def empty_file(before: Config, read: Config) -> str | None:
    """Say that the file sets nothing although it did: whoever writes it may have truncated it a moment ago."""
    if not set_by_file(before) or set_by_file(read):
        return None
    return f"{before.file} is empty, and settings came from it; put them back, or restart to do without them"


def set_by_file(config: Config) -> bool:
    """Tell whether the file sets anything."""
    return any(origin.source is Source.FILE for origin in config.origins.values())


def is_live(key: str) -> bool:
    """Tell whether a setting can change while the daemon runs."""
    return key in LIVE or key.startswith(f"{LIVE_TABLE}.")


def differing(before: Config, after: Config) -> Iterator[tuple[str, object]]:
    """Yield the dotted key of each setting that differs, and its value after; of tables of the user's the name."""
    for section in SECTIONS:
        old, new = getattr(before, section), getattr(after, section)
        for key in type(new).model_fields:
            if getattr(old, key) != getattr(new, key):
                yield f"{section}.{key}", getattr(new, key)
    old_most, new_most = most_of(before), most_of(after)
    for name in sorted(old_most.keys() | new_most.keys()):
        if old_most.get(name) != new_most.get(name):
            yield f"{LIVE_TABLE}.{name}.concurrency", new_most.get(name)
    for table in TABLES:
        old_table: Mapping[str, object] = getattr(before, table)
        new_table: Mapping[str, object] = getattr(after, table)
        for name in sorted(old_table.keys() | new_table.keys()):
            if old_table.get(name) != new_table.get(name):
                yield f"{table}.{name}", new_table.get(name)


def in_force(before: Config, read: Config) -> Config:
    """Return the settings with which the daemon runs once those that can change have changed."""
    jobs = before.jobs.model_copy(
        update={"worker_concurrency": read.jobs.worker_concurrency, "queues": read.jobs.queues}
    )
    return replace(before, jobs=jobs, queues=read.queues, log=before.log.model_copy(update={"level": read.log.level}))

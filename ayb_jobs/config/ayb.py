"""AYB's own settings, as far as they are ours too: its file `ayb.toml`, and its variables.

They are taken where nothing of ours says anything, so that a daemon beside AYB finds AYB's database.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DEFAULT_FILE = Path("ayb.toml")
DATABASE_URL = "AYB_DATABASE_URL"

# Sections that only AYB's file has, and sections that only ours has.
THEIRS = frozenset({"server", "admin", "auth", "email", "storage", "logging"})
OURS = frozenset(
    {"handlers", "api", "log", "retention", "alerts", "job_types", "schedules", "limits", "queues", "dashboard"}
)
JOBS = frozenset(
    {
        "enabled",
        "worker_concurrency",
        "poll_interval_ms",
        "lease_duration_s",
        "max_retries_default",
        "scheduler_enabled",
        "scheduler_tick_s",
    }
)
NO_DATABASE = (
    "is not set in AYB's file; AYB then runs a PostgreSQL of its own at 127.0.0.1:15432, while it runs itself."
    " Name a database in AYB_JOBS_DATABASE_URL, or an embedded one of ayb-jobs in AYB_JOBS_DATABASE_DATA_DIR"
)


def is_aybs(name: str, tree: Mapping[str, Any]) -> bool:
    """Tell whether a file is AYB's: by its name or its sections, unless it has a section that only ours has."""
    return OURS.isdisjoint(tree) and (Path(name).name == DEFAULT_FILE.name or not THEIRS.isdisjoint(tree))


def ours_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of AYB's file is a setting of ours: `[jobs]`, and the database's address."""
    taken: dict[str, Any] = {}
    for section, keys in (("jobs", JOBS), ("database", frozenset({"url"}))):
        table = tree.get(section, {})
        if not isinstance(table, Mapping):
            taken[section] = table  # which is told as any wrong value is
        elif found := {key: value for key, value in table.items() if key in keys}:
            taken[section] = found
    return taken


def notes(name: str, tree: Mapping[str, Any], taken: Mapping[str, Any]) -> Iterator[str]:
    """Yield what whoever points us at AYB's file should know."""
    passed_over = ", ".join(_passed_over(tree, taken))
    yield f"{name} is AYB's own file: [jobs] and database.url are taken from it" + (
        f"; ignored: {passed_over}" if passed_over else ""
    )
    jobs = taken.get("jobs")
    if isinstance(jobs, Mapping) and jobs.get("enabled") is True:
        yield (
            f"jobs.enabled = true in {name} switches AYB's own runner on as well, and both must never run jobs at the"
            " same time: set it to false there, and AYB_JOBS_ENABLED=true for ayb-jobs"
        )


def _passed_over(tree: Mapping[str, Any], taken: Mapping[str, Any]) -> Iterator[str]:
    for section, table in tree.items():
        if section not in taken and section not in ("jobs", "database"):
            yield f"[{section}]"
        elif isinstance(table, Mapping):
            yield from (f"{section}.{key}" for key in table if key not in taken.get(section, {}))

"""What was meant by a word that is no command and no flag: by its meaning, then by its letters."""

from collections.abc import Collection, Iterable, Mapping

from ayb_jobs.model.names import nearest

# Flags by what other programs call the same; the first that the command has is meant.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "all": ("limit",),
    "args": ("payload",),
    "attempts": ("max-attempts",),
    "body": ("payload",),
    "conf": ("config",),
    "count": ("limit",),
    "data": ("payload",),
    "database": ("database-url",),
    "db": ("database-url",),
    "db-url": ("database-url",),
    "delay": ("in",),
    "dry-run": ("plan",),
    "dsn": ("database-url",),
    "expression": ("cron",),
    "format": ("output",),
    "host": ("url", "database-url"),
    "interval": ("cron",),
    "job": ("job-type", "type"),
    "key": ("idempotency-key",),
    "kind": ("type", "job-type"),
    "last": ("limit",),
    "max-retries": ("max-attempts",),
    "n": ("limit", "count"),
    "number": ("limit", "count"),
    "postgres": ("database-url",),
    "retries": ("max-attempts",),
    "run-at": ("at",),
    "schedule": ("cron",),
    "server": ("url", "database-url"),
    "since": ("from",),
    "status": ("state",),
    "task": ("type", "job-type"),
    "threads": ("concurrency",),
    "token": ("admin-token",),
    "trace": ("debug",),
    "tz": ("timezone",),
    "uri": ("database-url",),
    "verbose": ("debug",),
    "wait": ("in",),
    "when": ("at",),
    "workers": ("concurrency",),
    "zone": ("timezone",),
}


def command_that_was_meant(word: str, commands: Mapping[str, Iterable[str]]) -> str:
    """Return ` Did you mean …?` for the command that a word means, else for the one nearest in letters; else "".

    `commands` has each command's name with other words for the same; a command of a group is named with its group.
    If two are called the same, the first is meant.
    """
    by_last_word = {name.rsplit(" ", 1)[-1]: name for name in reversed(list(commands))}
    meant = next((name for name, also in commands.items() if word.lower() in also), None)
    return _question(by_last_word.get(word) or meant or _nearest(word, by_last_word))


def flag_that_was_meant(flag: str, flags: Collection[str]) -> str:
    """Return ` Did you mean …?` for the flag of a command that `flag` means, else for the nearest; else ""."""
    word = flag.lstrip("-").lower()
    meant = next((f"--{other}" for other in FLAGS.get(word, ()) if f"--{other}" in flags), None)
    return _question(meant or _nearest(word, {known.lstrip("-"): known for known in flags}))


def _nearest(word: str, known: Mapping[str, str]) -> str | None:
    near = nearest(word, known)
    return None if near is None else known[near]


def _question(meant: str | None) -> str:
    return f" Did you mean {meant!r}?" if meant else ""

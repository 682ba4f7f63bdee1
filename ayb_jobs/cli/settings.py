"""The configuration, for the commands that need it; importing this takes longer than most commands do."""

import os
from typing import Any, NamedTuple

from ayb_jobs.cli.options import Options
from ayb_jobs.config import Config, load_config, read_pack


def settings(options: Options) -> Config:
    """Return the effective settings; raises `ConfigError`."""
    return load_config(options.config, os.environ, {"database.url": options.database_url})


class JobDefaults(NamedTuple):
    """What a job of some type is given where its enqueuer says nothing."""

    payload: dict[str, Any]
    max_attempts: int


def job_defaults(options: Options, job_type: str) -> JobDefaults:
    """Return the defaults that packs and `[job_types]` name. Handlers in Python name theirs to the daemon alone."""
    config = settings(options)
    known = {name: found for pack in config.handlers.packs for name, found in read_pack(pack).job_types.items()}
    found = (known | dict(config.job_types)).get(job_type)
    attempts = found.max_attempts if found and found.max_attempts else config.jobs.max_retries_default
    return JobDefaults(payload=dict(found.payload) if found else {}, max_attempts=attempts)

"""The configuration, for the commands that need it; importing this takes longer than most commands do."""

import os
from pathlib import Path

from ayb_jobs.cli.options import Options
from ayb_jobs.config import Config, load_config
from ayb_jobs.config.sources import config_file
from ayb_jobs.embedded import DEFAULT_HOME
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import pack
from ayb_jobs.model.bounds import NO_BOUNDS
from ayb_jobs.operations.defaults import Defaults


def settings(options: Options, **jobs: str | None) -> Config:
    """Return the effective settings; raises `ConfigError`. `jobs` are flags for settings of `[jobs]`, by their keys."""
    flags = {"database.url": options.database_url, **{f"jobs.{key}": value for key, value in jobs.items()}}
    return load_config(options.config, os.environ, flags, KINDS, options.project)


def job_defaults(options: Options, job_type: str) -> Defaults:
    """Return the defaults that packs and `[job_types]` name. Handlers in Python name theirs to the daemon alone."""
    config = settings(options)
    known = {name: found for each in config.handlers.packs for name, found in pack(each).job_types.items()}
    found = (known | dict(config.job_types)).get(job_type)
    attempts = found.max_attempts if found and found.max_attempts else config.jobs.max_retries_default
    return Defaults(dict(found.payload) if found else {}, attempts, found.bounds if found else NO_BOUNDS)


def place_words(options: Options, config: Config) -> str:
    """Say which database was looked at, who named it, and where a file was looked for, without any secret."""
    file = config_file(options.config, os.environ)
    if os.environ.get("AYB_JOBS_DATABASE_URL"):
        return "the database of AYB_JOBS_DATABASE_URL"
    if config.database.url:
        return f"the database of {config.origins['database.url'].label()}"
    none = f" ({Path.cwd()} holds no ayb-jobs.toml, and no --config was given)" if file is None else f" ({file})"
    return f"the embedded database in {Path(config.database.data_dir or DEFAULT_HOME).absolute()}{none}"

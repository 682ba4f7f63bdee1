"""Puts the sources together and checks them, reporting all faults at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ayb_jobs.config import sources
from ayb_jobs.config.checking import checked
from ayb_jobs.config.gathering import Gathered
from ayb_jobs.config.kinds import Kind
from ayb_jobs.config.settings import Config
from ayb_jobs.config.sources import Unreadable
from ayb_jobs.config.tables import Pack
from ayb_jobs.errors import ConfigError
from ayb_jobs.model.project import Project

PACKS = Path(__file__).parent.parent / "packs"


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    kinds: Sequence[Kind] = (),
    project: Project | None = None,
) -> Config:
    """Return the effective settings; raises `ConfigError` naming every fault.

    `path` is the file asked for, if any. `overrides` are the flags of the command line by dotted key, such as
    `{"jobs.worker_concurrency": 8}`; a value of None means that the flag was not given. `kinds` are those that a table
    `[job_types.NAME]` may be of. `project` stands beneath the file.
    """
    found = Gathered(environ or {}, kinds)
    try:
        found.read_file(sources.config_file(path, found.environ))
    except Unreadable as error:
        raise ConfigError([str(error)]) from None
    found.read_project(project)
    found.read_credentials()
    found.read_environment()
    found.read_flags(overrides or {})
    found.read_secret_files()
    found.read_last_resorts()
    return checked(found, kinds)


def read_pack(name: str, kinds: Sequence[Kind]) -> Pack:
    """Return the job types and schedules of a built-in pack; its job types are of these kinds."""
    text = (PACKS / f"{name}.toml").read_text("utf-8")
    found = Gathered({})
    found.put_toml(text, f"pack {name}")
    config = checked(found, kinds)
    return Pack(job_types=config.job_types, schedules=config.schedules)

"""Settings: flags over environment over a TOML file over defaults, checked once, then frozen.

`settings` and `tables` name every setting with its default, its bounds and its meaning; the documentation and the
environment names are made from them. `kinds` finds out of which kind a job type is. `sources` is the only reader of
files and of the environment. `gathering` puts the sources together and keeps where each value came from; `checking`
reports all faults at once, each with its key and that place; `loading` does the one after the other. `faults` words
them. `display` shows the effective settings with secrets masked, and
`reference` writes `docs/configuration.md`.
"""

from ayb_jobs.config.kinds import Kind
from ayb_jobs.config.loading import load_config, read_pack
from ayb_jobs.config.settings import Alerts, Api, Config, Dashboard, Database, Handlers, Jobs, Log, Retention
from ayb_jobs.config.sources import Origin
from ayb_jobs.config.tables import ApiToken, JobTypeSettings, Pack, ScheduleSettings, ScheduleTable

__all__ = [
    "Alerts",
    "Api",
    "ApiToken",
    "Config",
    "Dashboard",
    "Database",
    "Handlers",
    "JobTypeSettings",
    "Jobs",
    "Kind",
    "Log",
    "Origin",
    "Pack",
    "Retention",
    "ScheduleSettings",
    "ScheduleTable",
    "load_config",
    "read_pack",
]

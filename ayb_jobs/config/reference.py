"""Makes `docs/configuration.md` and `config.example.toml` of the settings; `handlers.kinds.reference` writes them."""

from collections.abc import Collection, Iterator, Sequence

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ayb_jobs.config.display import toml_value
from ayb_jobs.config.faults import wanted
from ayb_jobs.config.gathering import environment_names
from ayb_jobs.config.kinds import Kind, own_keys
from ayb_jobs.config.section import Section
from ayb_jobs.config.settings import NAMED_SECTIONS, SECTIONS
from ayb_jobs.config.tables import JobTypeSettings

EXAMPLE_HEAD = """\
# Every setting of ayb-jobs with its default; only jobs.enabled differs, so that this file runs jobs as it is.
# Read from the file that --config or AYB_JOBS_CONFIG names, else from ./ayb-jobs.toml.
# Environment variables override it, such as AYB_JOBS_WORKER_CONCURRENCY for [jobs] and AYB_JOBS_LOG_LEVEL for [log].
"""

# Valid once uncommented, which a test does.
EXAMPLE_TAIL = """\

# Further tokens for the admin API, each with a name of its own.
# [api.tokens.dashboard]
# token_file = "/run/secrets/dashboard-token"
# scope = "read"

# A cleanup of your own table: batches of rows, each batch a short transaction.
# [job_types.prune_audit_log]
# description = "Remove old audit entries"
# delete_from = "audit_log"
# where = "created_at < now() - make_interval(days => %(days)s)"
# payload = { days = 90 }
# payload_min = { days = 1 }
# timeout_s = 600

# Or any SQL, in one transaction; with transaction = false, for what none may hold, each statement by itself.
# [job_types.refresh_reports]
# description = "Refresh the daily report"
# statements = ["REFRESH MATERIALIZED VIEW daily_report"]
# transaction = true
# max_attempts = 1

# Or a command, without a shell: the payload is on its standard input.
# [job_types.backup]
# description = "Back up the shop"
# exec = ["/usr/local/bin/backup", "--all"]
# env = { BACKUP_DIR = "/backup" }
# max_memory_mb = 2048
# grace_s = 30
# timeout_s = 3600

# Or an address that gets a POST for each attempt, signed by Standard Webhooks.
# [job_types.resize]
# http = "https://app.example.com/jobs/resize"
# client_errors = "retry"

# No more than so many at once and in a minute, over all daemons, and for each customer.
# [limits.resizing]
# types = ["resize"]
# key_field = "customer"
# key_max_running = 3
# rate = "100/min"
# burst = 10

# Slow reports in a queue of their own, which fills two slots of this daemon at most; [jobs] queues has to name it.
# [queues.reports]
# concurrency = 2

# When to run it: five cron fields, six with seconds first, @hourly and the like, or @every 90s.
# [schedules.prune_audit_log_nightly]
# job_type = "prune_audit_log"
# cron = "30 2 * * *"
# timezone = "Europe/Vienna"
# payload = { days = 30 }
# overlap = "skip"
# expect_success_within_s = 90000
"""

MARKDOWN_HEAD = """\
# Configuration

All settings, with their defaults, bounds and environment variables.

```console
$ ayb-jobs check-config
$ ayb-jobs check-config --example > ayb-jobs.toml
```

The first prints the effective settings and where each came from. The second writes a file to start from.

## Where settings come from

| the first that is set counts | |
| --- | --- |
| 1. flags | `--database-url`; `run --queues` and `--concurrency` |
| 2. environment variables | the names are in the tables below |
| 3. credentials of systemd | files in its credentials directory, named by key: `database.url`, `api.tokens.dashboard.token` |
| 4. the file | the one of `--config` or `AYB_JOBS_CONFIG`, else `ayb-jobs.toml` in the working directory, if there is one |
| 5. defaults | |

Unknown keys and variables are errors. All faults are reported at once, each with its key and where it came from (exit
code 78). The handlers' modules are imported if the settings are right.

**In the environment** a list is written with commas. A yes is `true` or `1`, a no is `false` or `0`, and anything else
is an error. An empty variable counts as not set. The daemon ignores the variables that Kubernetes sets for a service
called `ayb-jobs`.

**AYB's own settings** are read, too. If there is no `ayb-jobs.toml`, the file may be AYB's `ayb.toml`. `[jobs]` and
`database.url` are taken from it; the daemon's log and `check-config` name what was ignored. If nothing of ours
names a database, `AYB_DATABASE_URL` does; beside `database.data_dir` it is an error. So is an `ayb.toml` without a
database, so that no embedded database starts in place of AYB's.

**`AYB_JOBS_ADMIN_TOKEN`** is the token that commands send to an API. If neither `api.admin_token` nor
`[api.tokens.NAME]` is set, the API wants that token.

**Secrets** are never printed. Each may stand in a file of its own, named by the key that ends in `_file`, or in a
credential of systemd (`LoadCredential=database.url:/etc/ayb-jobs/url`).
"""


def example() -> str:
    """Return a configuration file with every setting at its default, and examples of the named tables."""
    return EXAMPLE_HEAD + "".join(_example_section(name, model) for name, model in SECTIONS.items()) + EXAMPLE_TAIL


def _example_section(name: str, model: type[Section]) -> str:
    lines = ["", f"[{name}]"]
    for key, info in _plain_fields(model):
        value = True if (name, key) == ("jobs", "enabled") else info.default
        lines += [f"# {_sentence(info)}", f"{key} = {toml_value(value)}"]
    return "\n".join(lines) + "\n"


def markdown(kinds: Sequence[Kind]) -> str:
    """Return the reference of all settings, with those of each of these kinds of job types."""
    sections = [_markdown_section(f"[{name}]", model, name) for name, model in SECTIONS.items()]
    for name, model in NAMED_SECTIONS.items():
        sections.append(_markdown_section(f"[{name}.NAME]", model, None))
        if model is JobTypeSettings:
            sections += [_markdown_kind(kind, kinds) for kind in kinds if own_keys(kind, kinds)]
    return MARKDOWN_HEAD + "".join(sections)


def _markdown_kind(kind: Kind, kinds: Sequence[Kind]) -> str:
    """Return the settings that a kind of job types has beside those of all, or whose meaning is another for it."""
    title = f"[job_types.NAME]` of kind `{kind.name}"
    common = JobTypeSettings.model_fields
    other = [
        key
        for key, info in kind.settings.model_fields.items()
        if key in common and info.description != common[key].description
    ]
    return _markdown_section(title, kind.settings, None, [*own_keys(kind, kinds), *other])


def _markdown_section(
    title: str, model: type[Section], section: str | None, keys: Collection[str] | None = None
) -> str:
    about = (model.__doc__ or "").partition(": ")[2].splitlines()[0]
    variables = {path: name for name, path in environment_names().items()}
    head = ["key", "default", "takes", *(["environment"] if section else []), "meaning"]
    rows = [head, ["---"] * len(head)]
    for key, info in _plain_fields(model):
        if keys is not None and key not in keys:
            continue
        variable = [f"`{variables[section, key]}`"] if section else []
        rows.append([f"`{key}`", _default(info), wanted(info), *variable, _sentence(info).replace("|", "\\|")])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"\n## `{title}`\n{about[:1].upper()}{about[1:]}\n\n{table}\n"


def _plain_fields(model: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the settings of a section, without the named tables within it."""
    return ((key, info) for key, info in model.model_fields.items() if key != "tokens")


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    return "" if info.default is None else f"`{toml_value(info.default)}`"


def _sentence(info: FieldInfo) -> str:
    return info.description or ""

"""A kind is a thing in one table: its settings, the faults of its settings, how a job of it runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ayb_jobs.config import Config, JobTypeSettings, load_config
from ayb_jobs.config.kinds import own_keys
from ayb_jobs.config.section import Fault, setting
from ayb_jobs.errors import ConfigError, Discard, InvalidInput
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import Handler, JobType
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry, changed_type, new_type
from tests.handlers.conftest import Lease


class CountSettings(JobTypeSettings):
    """`[job_types.NAME]`: counting."""

    count_to: int = setting(0, "How far.", ge=1)

    def contradictions(self) -> Iterator[Fault]:
        """Refuse thirteen."""
        yield from super().contradictions()
        if self.count_to == 13:
            yield ("count_to",), "brings bad luck; give 12 or 14"


def counting(settings: CountSettings) -> Handler:
    def count(_: JobContext) -> int:
        return settings.count_to

    return count


# What a new kind takes: one file like these lines, and one line in the table.
WITH_COUNTING = (*KINDS, Kind(name="count", settings=CountSettings, keys="`count_to`", handler=counting))


def load(tmp_path: Path, text: str, kinds: Any = WITH_COUNTING) -> Config:
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(dedent(text))
    return load_config(file, kinds=kinds)


def test_a_new_kind_is_one_file_and_one_line(tmp_path: Path, lease: Lease) -> None:
    config = load(tmp_path, "[job_types.up]\ncount_to = 7\nmax_attempts = 2")
    job_type = build_registry(config, WITH_COUNTING).get("up")
    assert job_type is not None
    assert (job_type.max_attempts, job_type.source) == (2, "[job_types]")
    assert job_type.run(lease("up")) == 7


def test_the_faults_of_a_kind_are_told_with_the_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "[job_types.up]\ncount_to = 13\n[job_types.down]\ncount_to = 0")
    assert [problem.replace(f"{tmp_path}/", "") for problem in refused.value.problems] == [
        "job_types.up.count_to brings bad luck; give 12 or 14 (ayb-jobs.toml, line 2)",
        "job_types.down.count_to is 0; it should be a whole number of at least 1 (ayb-jobs.toml, line 4)",
    ]


def test_a_job_type_is_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"job_types\.up\.statements and `count_to` are both set"):
        load(tmp_path, "[job_types.up]\ncount_to = 7\nstatements = ['SELECT 1']")


def test_without_its_kind_a_key_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"job_types\.up\.count_to is not a setting"):
        load(tmp_path, "[job_types.up]\ncount_to = 7", KINDS)


def test_kinds_have_names_and_keys_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert bool(kind.handler) == bool(own_keys(kind, KINDS)) == bool(kind.keys)


HANDLER = """
from ayb_jobs import Registry
registry = Registry()

@registry.handler("send_mail", max_attempts=5, timeout_s=30, payload={"days": 7})
def send(ctx):
    'Send one mail.'
    return ctx.payload["days"]
"""


def test_settings_without_a_kind_go_over_what_a_module_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: Lease
) -> None:
    (tmp_path / "mails_with_settings.py").write_text(HANDLER)
    monkeypatch.syspath_prepend(tmp_path)
    config = load(
        tmp_path,
        """
        [handlers]
        modules = ["mails_with_settings"]
        packs = []

        [job_types.send_mail]
        timeout_s = 60
        payload_max = { days = 30 }
        """,
    )
    job_type = build_registry(config).get("send_mail")
    assert job_type is not None
    assert (job_type.timeout_s, job_type.max_attempts, job_type.payload) == (60, 5, {"days": 7})
    assert job_type.description == "Send one mail."
    assert job_type.run(lease("send_mail", {"days": 30})) == 30
    with pytest.raises(Discard, match=r"payload.days is 31; it should be a number of at most 30"):
        job_type.run(lease("send_mail", {"days": 31}))


def test_settings_of_a_type_that_nothing_runs_are_told_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        build_registry(load(tmp_path, "[job_types.x]\ndescription = 'x'", KINDS))
    told = "job_types.x does nothing: no handler of handlers.modules has this name; give "
    told += " or ".join(kind.keys for kind in KINDS if kind.keys)
    assert told.startswith("`statements` or `delete_from` and `where` or ", told.index("`"))
    assert refused.value.problems == [f"{told} ({tmp_path}/ayb-jobs.toml, line 1)"]


def test_a_plain_handler_runs_as_it_is() -> None:
    def run(_: JobContext) -> None:
        pass

    registered = JobType(name="plain", run=run)
    assert changed_type(registered, JobTypeSettings(timeout_s=3.0)).run is run
    assert new_type("plain", JobTypeSettings(), run, "a test").run is run


BOUNDED = """
    [handlers]
    packs = []

    [job_types.prune]
    delete_from = "things"
    where = "age > %(days)s"
    payload = { days = 30 }
    payload_min = { days = 1 }
    payload_max = { days = 365.5 }
"""


@pytest.mark.parametrize("days", [0, -10, 366, 0.99, "30", None, True, [30], {"days": 30}])
def test_a_value_beyond_its_bounds_is_refused_at_the_door_and_before_the_run(
    tmp_path: Path, days: object, lease: Lease
) -> None:
    registry = build_registry(load(tmp_path, BOUNDED))
    with pytest.raises(InvalidInput, match=r"^payload\.days is .*; it should be a number from 1 to 365.5$") as refused:
        registry.new_job("prune", {"days": days})
    assert refused.value.field == "payload.days"
    job_type = registry.get("prune")
    assert job_type is not None
    with pytest.raises(Discard, match=r"^payload\.days is .*; it should be a number from 1 to 365.5$"):
        job_type.run(lease("prune", {"days": days}))


@pytest.mark.parametrize("payload", [{"days": 1}, {"days": 365.5}, {"days": 2, "other": -1}, {}, None])
def test_a_value_within_its_bounds_is_taken(tmp_path: Path, payload: object, lease: Lease) -> None:
    registry = build_registry(load(tmp_path, BOUNDED))
    assert registry.new_job("prune", payload).type == "prune"
    job_type = registry.get("prune")
    assert job_type is not None
    assert job_type.run(lease("prune", payload)) == 0


def test_a_payload_that_is_no_object_is_beyond_all_bounds(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="payload is a list; an object is needed"):
        build_registry(load(tmp_path, BOUNDED)).new_job("prune", [1])


def test_a_schedule_whose_payload_is_beyond_the_bounds_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    schedule = """
        [schedules.nightly]
        job_type = "prune"
        cron = "@daily"
        payload = { days = -1 }
    """
    with pytest.raises(ConfigError) as refused:
        build_registry(load(tmp_path, dedent(BOUNDED) + dedent(schedule)))
    (problem,) = refused.value.problems
    assert problem.startswith("schedules.nightly.payload.days is -1; it should be a number from 1 to 365.5 (")
    assert problem.endswith("/ayb-jobs.toml, line 15)")


def test_every_kind_has_its_row_in_the_table_of_kinds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sql-jobs.md").read_text()
    table = page.partition("| kind | keys | what runs |\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {kind.name for kind in KINDS}

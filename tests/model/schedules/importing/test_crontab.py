"""Crontabs: each entry is imported as it means, or named with the reason."""

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ayb_jobs.model.schedules.importing.crontab import read_crontab
from ayb_jobs.model.schedules.importing.imported import Imported
from tests.model.schedules.importing.reading_back import settings_of


def only(text: str, **options: Any) -> Imported:
    [entry] = read_crontab(text, timezone="UTC", **options)
    return entry


def payload_of(text: str, **options: Any) -> Any:
    schedule = only(text, **options).schedule
    assert schedule is not None
    return schedule.payload


def cron_of(line: str) -> str:
    schedule = only(line).schedule
    assert schedule is not None
    return schedule.cron


def test_variables_go_with_the_commands_below_them() -> None:
    text = 'A=1\n0 * * * * first $A\nB = "two words"\n0 * * * * second\n'
    first, second = read_crontab(text, timezone="UTC")
    assert first.schedule is not None
    assert second.schedule is not None
    assert first.schedule.payload == {"command": "first $A", "env": {"A": "1"}}
    assert second.schedule.payload["env"] == {"A": "1", "B": "two words"}


def test_a_percent_sign_is_a_line_break_and_input_unless_it_has_a_backslash() -> None:
    assert payload_of("0 2 * * * date +\\%Y-\\%m") == {"command": "date +%Y-%m"}
    assert payload_of("0 2 * * * mail me%Hello%50\\% done") == {"command": "mail me", "stdin": "Hello\n50% done\n"}
    assert payload_of("0 2 * * * a \\\\% b\\c\\") == {"command": "a \\\\", "stdin": " b\\c\\\n"}
    assert payload_of("0 2 * * * a \\\\\\% b\\") == {"command": "a \\\\% b\\"}


@pytest.mark.parametrize(
    ("line", "cron", "command"),
    [
        ("0 30 2 * * * * /srv/backup 7d", "0 30 2 * * * *", "/srv/backup 7d"),
        ("* * * * * * * /srv/tick", "* * * * * * *", "/srv/tick"),
        ("30 0 3 * * * /srv/tick", "30 0 3 * * *", "/srv/tick"),
        ("0 3 1 1 * 2035 /srv/once", "0 3 1 1 * 2035", "/srv/once"),
        ("0 3 * * MON-FRI 7z a /b", "0 3 * * MON-FRI", "7z a /b"),
        ("*/5\t*  * * mon,Fri\ta  b", "*/5 * * * mon,Fri", "a  b"),
        ("@daily\tx # not a comment", "@daily", "x # not a comment"),
        ("@every 5m x", "@every 5m", "x"),
        ("@every_minute x", "* * * * *", "x"),
        ("-0 3 * * * x", "0 3 * * *", "x"),
        ("0 0 13 * 0-6 x", "0 0 * * *", "x"),
        ("0 0 */2 * 1 x", "0 0 */2 * 1", "x"),
        ("\ufeff0 3 * * * x\r", "0 3 * * *", "x"),
    ],
)
def test_a_line_is_split_where_its_command_begins(line: str, cron: str, command: str) -> None:
    assert (cron_of(line), payload_of(line)["command"]) == (cron, command)


def test_a_minute_that_cron_chooses_is_spread() -> None:
    schedule = only("0~29 3 * * * x").schedule
    assert schedule is not None
    assert (schedule.cron, schedule.jitter_s) == ("0 3 * * *", 29 * 60)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("@reboot x", "boot"),
        ("0 * * * * root /srv/app/dedupe", "--system"),
        ("0 * * * *  www-data\t/srv/app/dedupe", "--system"),
        ("0 * * * * -q /srv/app/dedupe", "flags"),
        ("0 25 * * * x", "0 to 23"),
        ("0 * * * *", "no command"),
        ("0 3~5 * * * x", "hour"),
        ("nonsense", "no command"),
        ("* * * * * 1 2 9 foo", "year"),
    ],
)
def test_what_cannot_be_had_is_named_with_the_reason(line: str, reason: str) -> None:
    entry = only(line)
    assert entry.schedule is None or reason == "year"
    assert entry.schedule is not None or any(reason in note for note in entry.notes)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("0 3 1 1 * 2035 /srv/once", "the year last, so that its command is what follows"),
        ("0 3 * * * 2030-2032 7z a", "the year last, so that its command is what follows"),
        ("30 0 3 * * * /srv/tick", "seconds first"),
        ("0 30 2 * * * 2035 /srv/once", "seconds first and the year last"),
        ("0 3 * * * SAT x", "seconds first"),
    ],
)
def test_a_line_with_more_than_five_fields_says_how_it_is_read(line: str, note: str) -> None:
    assert any(each.endswith(note) for each in only(line).notes)


def test_a_number_that_is_the_whole_command_is_no_field() -> None:
    assert (cron_of("0 3 * * * 2035"), payload_of("0 3 * * * 2035")) == ("0 3 * * *", {"command": "2035"})


def test_a_systems_crontab_names_its_user() -> None:
    entry = only("17 * * * * www-data cd / && run", system=True)
    assert entry.schedule is not None
    assert entry.schedule.payload == {"command": "cd / && run"}
    assert any("www-data" in note for note in entry.notes)


def test_its_own_zone_holds_for_the_entries_below_it() -> None:
    entries = list(read_crontab("0 1 * * * a\nCRON_TZ=Asia/Tokyo\n0 1 * * * b\n"))
    assert [each.schedule.timezone for each in entries if each.schedule] == ["UTC", "Asia/Tokyo"]
    assert any("no time zone" in note for note in entries[0].notes)


def test_its_own_zone_goes_over_its_machines_until_it_is_empty_and_that_is_said() -> None:
    text = "CRON_TZ=Asia/Tokyo\n0 1 * * * a\nCRON_TZ=\n0 1 * * * b\n"
    own, machines = read_crontab(text, timezone="Europe/Berlin")
    assert own.schedule is not None
    assert machines.schedule is not None
    assert (own.schedule.timezone, machines.schedule.timezone) == ("Asia/Tokyo", "Europe/Berlin")
    assert any("CRON_TZ goes over Europe/Berlin" in note for note in own.notes)
    assert not any("CRON_TZ" in note for note in machines.notes)


words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)
crons = st.sampled_from(["0 3 * * *", "*/5 1-4 * jan-mar mon", "@daily", "5 4 1 * 0", "0 0 */3 * 2", "0 30 2 * * * *"])


@pytest.mark.outer
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(crons, st.lists(words, min_size=1, max_size=4), st.dictionaries(
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), words, max_size=2)), min_size=1, max_size=4))  # fmt: skip
def test_what_is_printed_loads_and_means_what_was_read(entries: list[tuple[str, list[str], dict[str, str]]]) -> None:
    lines: list[str] = []
    expected: list[tuple[str, str, dict[str, str]]] = []
    variables: dict[str, str] = {}
    for cron, arguments, new in entries:
        command = f"/bin/run {shlex.join(arguments)}"
        variables = variables | {f"X{name}": value for name, value in new.items()}
        lines += [f'X{name}="{value}"' for name, value in new.items()]
        lines.append(f"{cron}   {command.replace('%', chr(92) + '%')}")
        expected.append((cron, command, variables))
    found = list(read_crontab("\n".join(lines), timezone="Europe/Berlin"))
    loaded = settings_of(found)
    for (cron, command, environment), entry in zip(expected, found, strict=True):
        assert entry.schedule is not None
        stored = loaded.schedules[entry.schedule.name]
        assert (stored.cron, stored.timezone, stored.job_type) == (cron, "Europe/Berlin", "run_command")
        assert stored.payload["command"] == command
        assert stored.payload.get("env", {}) == environment


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("5/15 * * * *", "write 5-59/15 if all from 5 on is meant, or 5"),
        ("3,5/15 * * * *", "write 5-59/15 if all from 5 on is meant, or 5"),
        ("0 5/2 * * *", "write 5-23/2"),
        ("0 0 1/5 * *", "write 1-31/5"),
        ("0 0 * 3/2 *", "write 3-12/2"),
        ("0 0 * * mon/2", "write mon-6/2"),
        ("50-10 * * * *", "50-10 runs backwards"),
        ("0 22-6/2 * * *", "22-6/2 runs backwards"),
        ("0 0 * * fri-mon", "fri-mon runs backwards"),
        ("0 0 * * 1,sat-sun", "sat-sun runs backwards"),
        ("0 0 * nov-feb *", "nov-feb runs backwards"),
    ],
)
def test_what_crons_of_this_kind_do_not_read_is_named_with_what_to_write(cron: str, words: str) -> None:
    entry = only(f"{cron} backup")
    assert entry.schedule is None
    assert words in entry.notes[-1]


@pytest.mark.parametrize(
    "cron", ["5-59/15 * * * *", "*/15,7 * * * *", "0 0 * * 5-7/2", "0 0 * jan-mar/2 *", "0 0 5/15 * * *", "0 0 * * 0-7"]
)
def test_steps_and_ranges_that_they_read_are_imported(cron: str) -> None:
    assert only(f"{cron} backup").schedule is not None


def test_a_day_of_one_week_is_imported_with_a_word_on_what_cron_makes_of_it() -> None:
    entry = only("0 0 * * mon#1 backup")
    assert entry.schedule is not None
    assert "cronie refuses it" in entry.notes[0]

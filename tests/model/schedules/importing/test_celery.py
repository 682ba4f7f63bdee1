"""Celery's settings: each entry is imported as it means, or named with the reason; nothing is run."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry, read_beat
from ayb_jobs.model.schedules.importing.celery_settings import beat_settings
from ayb_jobs.model.schedules.importing.imported import Imported, as_toml, writable
from tests.model.schedules.importing.reading_back import settings_of

ONE = '{"task": "t.%s", "schedule": 60}'


def read(text: str, **options: Any) -> dict[str, Imported]:
    entries = read_beat(beat_settings(text, **options), **options)
    found = list(entries)
    by_name = {each.source.split()[2]: each for each in found}
    assert len(by_name) == len(found)
    return by_name


def crons(text: str) -> dict[str, str]:
    return {name: each.schedule.cron for name, each in read(text).items() if each.schedule is not None}


def reasons(text: str) -> dict[str, str]:
    return {name: each.notes[-1] for name, each in read(text).items() if each.schedule is None}


@pytest.mark.parametrize(
    "text",
    [
        f"CELERY_BEAT_SCHEDULE: dict[str, Any] = {{'a': {ONE}, 'b': {ONE}}}",
        f"app.conf.beat_schedule = {{'a': {ONE}}}\napp.conf.beat_schedule['b'] = {ONE}",
        f"app.conf.beat_schedule = {{'a': {ONE}}}\napp.conf.beat_schedule.update({{'b': {ONE}}})",
        f"app.conf.beat_schedule = {{'a': {ONE}}}\napp.conf.beat_schedule.update(b={ONE})",
        f"app.conf.beat_schedule = {{'a': {ONE}}}\napp.conf['beat_schedule']['b'] = {ONE}",
        f"app.conf.update(beat_schedule={{'a': {ONE}, 'b': {ONE}}})",
        f"app.conf.update({{'beat_schedule': {{'a': {ONE}, 'b': {ONE}}}}})",
        f"app = Celery('x', beat_schedule=dict(a={ONE}, b={ONE}))",
        f"CELERY = {{'beat_schedule': {{'a': {ONE}, 'b': {ONE}}}}}",
        f"CELERY = dict(beat_schedule={{'a': {ONE}, 'b': {ONE}}})",
        f"app.config.from_mapping(CELERY=dict(broker_url='x', beat_schedule={{'a': {ONE}, 'b': {ONE}}}))",
        f"MINE_BEAT_SCHEDULE = {{'a': {ONE}}}\nMINE_BEAT_SCHEDULE |= {{'b': {ONE}}}",
        f"A = {{'a': {ONE}}}\nCELERYBEAT_SCHEDULE = {{**A, 'b': {ONE}}}",
        f"class Config:\n    beat_schedule = {{'a': {ONE}, 'b': {ONE}}}",
        f"def make(app):\n    app.conf.beat_schedule = {{'a': {ONE}, 'b': {ONE}}}",
        f"first.conf.beat_schedule = {{'a': {ONE}}}\nsecond.conf.beat_schedule = {{'b': {ONE}}}",
        f"X = {{'a': {ONE}}}\nX.setdefault('b', {ONE})\nbeat_schedule = X | {{}}",
        f"beat_schedule = {{'a': {ONE}}}\nbeat_schedule.setdefault('b', {ONE})\nbeat_schedule.setdefault('a', 1)",
        f"KEY = 'b'\nbeat_schedule = {{'a': {ONE}, 'x': {ONE}, KEY: {ONE}}}\ndel beat_schedule['x']",
        f"x = app.conf.beat_schedule = {{'a': {ONE}, 'b': {ONE}}}",
        f"setattr(app.conf, 'beat_schedule', {{'a': {ONE}}})\ngetattr(app.conf, 'beat_schedule')['b'] = {ONE}",
        f"globals()['CELERY_BEAT_SCHEDULE'] = {{'a': {ONE}}}\nCELERY_BEAT_SCHEDULE.update(b={ONE})",
        f"def make():\n    return wrap(Celery('x', beat_schedule={{'a': {ONE}, 'b': {ONE}}}))",
        f"app.config.update(CELERY={{'beat_schedule': {{'a': {ONE}, 'b': {ONE}}}}})",
        f"if (beat_schedule := {{'a': {ONE}, 'b': {ONE}}}):\n    pass",
        f"A = {{}}\nbeat_schedule = A\nA |= {{'a': {ONE}}}\nA['b'] = {ONE}",
        f"beat_schedule = {{'x': {ONE}}}\nbeat_schedule.clear()\nbeat_schedule.update(a={ONE}, b={ONE})",
        f"beat_schedule = {{'a': {ONE}, 'b': {ONE}, 'x': {ONE}}}\nremoved = beat_schedule.pop('x')",
        f"class A:\n    beat_schedule = {{'a': {ONE}}}\nclass B:\n    beat_schedule = {{'b': {ONE}}}",
        f"class A:\n    X = {{'a': {ONE}}}\nclass B(A):\n    beat_schedule = {{**A.X, 'b': {ONE}}}",
        f"T = 60\ndef other(T):\n    H = T\nbeat_schedule = dict(a={{'task': 't.x', 'schedule': T}}, b={ONE})",
        f"\ufeff# -*- coding: utf-8 -*-\nbeat_schedule = {{'a': {ONE}, 'b': {ONE}}}",
    ],
)
def test_each_way_to_set_the_schedule_is_read(text: str) -> None:
    assert crons(text.replace("%s", "x")) == {"a": "@every 60s", "b": "@every 60s"}
    assert reasons(text) == {}


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (f"beat_schedule = {{'a': {ONE}}}\nif DEBUG:\n    beat_schedule['b'] = {ONE}", "b", "only if DEBUG"),
        (f"beat_schedule = {{'b': {ONE}}}\nif DEBUG:\n    beat_schedule['b']['schedule'] = 5", "b", "if DEBUG"),
        (f"if DEBUG:\n    beat_schedule = {{'b': {ONE}}}\nelse:\n    beat_schedule = {{}}", "b", "anew if not (DEBUG)"),
        (f"for n in N:\n    beat_schedule[n] = {ONE}", "[n]", "`n` is not a plain value"),
        (f"beat_schedule = {{'b': {ONE}}}\nbeat_schedule = {{'a': {ONE}}}", "b", "overwrites"),
        (f"beat_schedule = {{'b': {ONE}}}\nif X:\n    del beat_schedule['b']", "b", "removed if X"),
        (f"beat_schedule = {{'a': {ONE}}}\nbeat_schedule.update(more())", "**more()", "`more()`"),
        ("from .other import S\nbeat_schedule = S", "beat_schedule=S", "imported (.other.S)"),
        ("beat_schedule = load()", "beat_schedule=load()", "`load()` is not a plain value"),
        ("sender.add_periodic_task(10.0, t.s('x'), name='b')", "b", "add_periodic_task"),
        ("from mine import crontab\nbeat_schedule = {'b': {'schedule': crontab(1)}}", "b", "crontab(1)"),
        ("beat_schedule = {'b': {'schedule': 60, 'args': (b'x',)}}", "b", "cannot be stored"),
        ("beat_schedule = {'b': {'schedule': 60, 'args': ({1},)}}", "b", "cannot be stored"),
        ("beat_schedule = {'b': {'schedule': 60, 'args': (1,), 'kwargs': {'args': 2}}}", "b", "key args"),
        ("beat_schedule = {'b': {'schedule': 60, 'options': {'queue': Q}}}", "b", "its options: `Q`"),
        ("beat_schedule = {'b': {'schedule': 0.5}}", "b", "whole number of seconds"),
        ("beat_schedule = {'b': {'schedule': crontab(day_of_month=13, day_of_week=5)}}", "b", "both must match"),
        ("beat_schedule = {'b': {'schedule': crontab(0, 0, 1)}}", "b", "by position"),
        ("beat_schedule = {'b': {'schedule': crontab(nowfun=now)}}", "b", "nowfun"),
        ("beat_schedule = {'b': {'schedule': solar('sunset', 1, 2)}}", "b", "solar"),
        ("timezone = env('TZ')\nbeat_schedule = {'b': {'schedule': crontab()}}", "b", "--timezone"),
        ("if X:\n    timezone = 'Asia/Tokyo'\nbeat_schedule = {'b': {'schedule': crontab()}}", "b", "only if X"),
        ("if X:\n    EVERY = 5\nbeat_schedule = {'b': {'schedule': EVERY}}", "b", "only if X"),
        (f"beat_schedule = {{'b': {ONE}}}\nif DEBUG:\n    beat_schedule.clear()", "b", "removed if DEBUG"),
        (f"beat_schedule = {{'b': {ONE}}}\nbeat_schedule.pop(KEY)", "b", "may be removed: `KEY`"),
        (f"beat_schedule = {{'b': {ONE}}}\nX and beat_schedule.clear()", "b", "a part of an expression"),
        (f"beat_schedule = {{'b': {ONE}}}\nfrom .local import beat_schedule", "b", "overwrites"),
        (f"beat_schedule = {{'b': {ONE}}}\nfor e in beat_schedule.values():\n    e['args'] = [1]", "b", "in a loop"),
        (
            f"beat_schedule = {{'b': {ONE}}}\nfor k in beat_schedule:\n    beat_schedule[k]['args'] = [1]",
            "b",
            "may be set",
        ),
        (f"beat_schedule = {{'a': {ONE}}}\nmore(beat_schedule)", "more(beat_schedule)", "this call"),
        (f"beat_schedule = {{'a': {ONE}}}\nx = s.add_periodic_task(5, t.s(), name='b')", "b", "add_periodic_task"),
        (f"beat_schedule = {{'a': {ONE}}}\n@periodic_task(run_every=5)\ndef b(): ...", "b", "is a periodic_task"),
        (f"beat_schedule = {{'a': {ONE}}}\nclass b(PeriodicTask):\n    run_every = 5", "b", "class of periodic tasks"),
        ("beat_schedule = {'b': {'schedule': 60, 'args': (timedelta(1),)}}", "b", "cannot be stored"),
        ("beat_schedule = {'b': {'schedule': 60, 'kwargs': {'x': [crontab()]}}}", "b", "cannot be stored"),
        (
            "first.conf.timezone = 'Asia/Tokyo'\nsecond.conf.timezone = 'UTC'\nbeat_schedule = {'b': {'schedule': crontab()}}",
            "b",
            "several",
        ),
        ("enable_utc = False\nbeat_schedule = {'b': {'schedule': crontab()}}", "b", "--timezone"),
    ],
)
def test_what_cannot_be_known_is_named_with_the_reason(text: str, name: str, reason: str) -> None:
    assert reason in reasons(text)[name]


@pytest.mark.parametrize(
    "change",
    [
        "for H in (5, 6):\n    pass",
        "with open() as H:\n    pass",
        "try:\n    pass\nexcept OSError as H:\n    pass",
        "match x:\n    case [H]:\n        pass",
        "a, *H = z",
        "del H",
        "def H(): ...",
        "def f():\n    global H\n    H = 4",
        "from x import H",
        "H.append(4)",
        "H += [4]",
        "for each in [H]:\n    each.append(4)",
        "shuffled = [H.remove(4)]",
        "S = H\nS.extend([4])",
    ],
)
def test_a_value_that_is_changed_in_a_way_that_is_not_followed_is_not_known(change: str) -> None:
    text = f"H = [3]\n{change}\nbeat_schedule = {{'a': {{'task': 't', 'schedule': crontab(hour=H)}}}}"
    assert crons("H = [3]\nbeat_schedule = {'a': {'task': 't', 'schedule': crontab(hour=H)}}") == {"a": "* 3 * * *"}
    assert list(reasons(text)) == ["a"]


def test_a_key_that_is_not_known_takes_no_entry_of_its_spelling_away() -> None:
    text = f"beat_schedule = {{'n': {ONE % 'n'}}}\nfor n in names:\n    beat_schedule[n] = {ONE % 'x'}"
    assert set(crons(text)) == {"n"}
    assert set(reasons(text)) == {"[n]"}


def test_what_is_lost_is_named_in_the_order_of_the_file() -> None:
    names = [f"task{number}" for number in range(20)]
    first = ", ".join(f"'{name}': {ONE % name}" for name in names)
    found = read(f"beat_schedule = {{{first}}}\nbeat_schedule = {{'z': {ONE % 'z'}}}")
    assert [name for name in found if name != "z"] == names


def test_an_argument_hides_the_name_of_the_module() -> None:
    text = "H = 3\ndef make(app, H):\n    app.conf.beat_schedule = {'a': {'schedule': crontab(hour=H)}}"
    assert "argument of make()" in reasons(text)["a"]


def test_tasks_of_one_name_in_two_classes_are_both_imported_and_noted() -> None:
    text = f"class A:\n    beat_schedule = {{'a': {ONE}}}\nclass B:\n    beat_schedule = {{'a': {ONE}}}"
    first, second = read_beat(beat_settings(text))
    assert [each.schedule.name for each in (first, second) if each.schedule] == ["a", "a_2"]
    assert any("same name" in note for note in second.notes)


@pytest.mark.parametrize("later", ["from .local import *", "exec(open('local.py').read())"])
def test_what_comes_later_and_may_set_the_schedule_anew_is_noted(later: str) -> None:
    entry = read(f"beat_schedule = {{'a': {ONE}}}\n{later}")["a"]
    assert entry.schedule is not None
    assert any("may set it anew" in note for note in entry.notes)


@pytest.mark.parametrize(
    ("schedule", "cron"),
    [
        ("ct(hour=2, minute=0)", "0 2 * * *"),
        ("cs.crontab(minute=[0, 30], hour=range(8, 10))", "0,30 8,9 * * *"),
        ("cs.crontab(minute={5})", "5 * * * *"),
        ("celery.schedules.crontab(HOUR, '*/3')", "3 */3 * * *"),
        ("ct.from_string('0 1 2 3 *')", "0 1 2 3 *"),
        ("ct(0, 4, day_of_week='monday', day_of_month='1-7')", "0 4 * * 1#1"),
        ("ct(0, 4, day_of_week='mon', day_of_month='*/2')", "0 4 */2 * mon"),
        ("td(hours=1, minutes=30)", "@every 5400s"),
        ("dt.timedelta(1)", "@every 86400s"),
        ("cs.schedule(run_every=td(seconds=90))", "@every 90s"),
        ("60 * HOUR", "@every 180s"),
        ("DAILY", "0 5 * * *"),
    ],
)
def test_a_time_is_what_celery_means(schedule: str, cron: str) -> None:
    head = (
        "from celery.schedules import crontab as ct\nimport celery.schedules as cs\nimport celery\nimport datetime as dt\n"
        "from datetime import timedelta as td\nHOUR = 3\nDAILY = ct(hour=5, minute=0)\ntimezone = 'UTC'\n"
    )
    assert crons(f"{head}beat_schedule = {{'a': {{'task': 't', 'schedule': {schedule}}}}}") == {"a": cron}


@pytest.mark.parametrize(
    "text",
    [
        "TIME_ZONE = 'Asia/Seoul'\nCELERY_TIMEZONE = TIME_ZONE",
        "TIME_ZONE = 'Asia/Seoul'",
        "TIME_ZONE = 'UTC'\nCELERY_TIMEZONE = 'Asia/Seoul'",
        "app.conf.timezone = 'Europe/Paris'\napp.conf.timezone = 'Asia/Seoul'",
        "app.conf.update(timezone='Asia/Seoul')",
        "app.conf['timezone'] = 'Asia/Seoul'",
        "class Base:\n    TIME_ZONE = 'Asia/Seoul'",
    ],
)
def test_the_zone_is_the_one_that_the_settings_mean(text: str) -> None:
    entry = read(f"{text}\nCELERY_BEAT_SCHEDULE = {{'a': {{'task': 't', 'schedule': crontab(hour=9, minute=0)}}}}")["a"]
    assert entry.schedule is not None
    assert entry.schedule.timezone == "Asia/Seoul"


def test_what_options_say_is_taken_or_named() -> None:
    options = "{'queue': 'q', 'expires': 60, 'priority': 3, 'time_limit': 30, 'routing_key': 'k', 'headers': {'h': 1}}"
    entry = read(f"beat_schedule = {{'a': {{'task': 't', 'schedule': 60, 'options': {options}}}}}")["a"]
    assert entry.schedule is not None
    assert (entry.schedule.queue, entry.schedule.timeout_s) == ("q", 30)
    for name in ("expires (60)", "priority (3)", "routing_key (k)", "headers ({'h': 1})"):
        assert any(name in note for note in entry.notes), name


def test_what_is_unknown_in_options_is_named_in_words() -> None:
    options = "{'time_limit': LIMIT, 'expires': timedelta(hours=1), **MORE}"
    entry = read(f"beat_schedule = {{'a': {{'task': 't', 'schedule': 60, 'options': {options}}}}}")["a"]
    assert entry.schedule is not None
    assert any("`LIMIT` is not a plain value" in note for note in entry.notes)
    assert any("`MORE` is not a plain value" in note for note in entry.notes)
    assert any("expires (3600 s)" in note for note in entry.notes)


def test_null_keeps_its_place_and_is_named_if_settings_cannot_say_it() -> None:
    entry = read("beat_schedule = {'a': {'task': 't', 'schedule': 60, 'args': (None, 1)}}")["a"]
    assert entry.schedule is not None
    assert entry.schedule.payload == {"args": [None, 1]}
    assert writable(entry).schedule is None
    assert "null" in as_toml([entry])


def test_comments_show_what_is_not_printable_as_escapes() -> None:
    entry = read("beat_schedule = {'a': {'task': 't\u202e\u2066\x9b31m\\udc80', 'schedule': 60}}")["a"]
    comments = [line for line in as_toml([entry]).splitlines() if line.startswith("#")]
    assert all(line.isprintable() for line in comments)
    assert r"t\u202e\u2066\x9b31m\udc80" in comments[0]


@pytest.mark.parametrize("text", ["", "x = 1", "def f(:", "\x00", "(" * 10_000, "beat_scheduler = {}"])
def test_what_holds_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        list(beat_settings(text))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.outer
@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10),
        st.tuples(st.lists(plain, max_size=3), st.dictionaries(st.text(max_size=6), plain, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_printed_loads_and_means_what_was_read(tasks: dict[str, tuple[list[Any], dict[str, Any]]]) -> None:
    source = {
        name: {"task": "t", "schedule": 60, "args": args, "kwargs": kwargs} for name, (args, kwargs) in tasks.items()
    }
    found = list(read_beat(beat_settings(f"timezone = 'UTC'\nbeat_schedule = {source!r}")))
    loaded = settings_of(found)
    assert len(found) == len(tasks)
    for (args, kwargs), entry in zip(tasks.values(), found, strict=True):
        expected = kwargs | ({"args": args} if args else {})
        if writable(entry).schedule is None:
            assert entry.notes or "null" in json.dumps(expected)
            continue
        assert entry.schedule is not None
        assert loaded.schedules[entry.schedule.name].payload == expected


def test_a_problem_of_the_table_is_the_reason() -> None:
    [entry] = read_beat([BeatEntry(name="a", task="t", problem="it is solar")])
    assert (entry.schedule, entry.notes) == (None, ("not imported: it is solar",))


DOUBLINGS = 22  # ten more make it a matter of hours


@pytest.mark.parametrize(
    ("first", "doubled"),
    [
        ("[1]", "[{0}, {0}]"),
        ("(1,)", "({0}, {0})"),
        ("'x'", "{0} + {0}"),
        ("7", "{0} * {0}"),
        ("{'k': 1}", "{{'a': {0}, 'b': {0}}}"),
        ("{'k': 1}", "dict(a={0}, b={0})"),
        ("(1,)", "list(({0}, {0}))"),
    ],
)
@pytest.mark.parametrize("place", ["'args': [{}]", "'kwargs': {{'k': {}}}", "'options': {{'headers': {}}}"])
def test_a_value_that_each_line_doubles_is_named_as_too_large(first: str, doubled: str, place: str) -> None:
    lines = [f"v0 = {first}", *(f"v{number + 1} = {doubled.format(f'v{number}')}" for number in range(DOUBLINGS))]
    entry = f"{{'task': 't', 'schedule': 60, {place.format(f'v{DOUBLINGS}')}}}"
    text = "\n".join([*lines, f"beat_schedule = {{'a': {entry}, 'b': {ONE}}}"])
    found = read(text)
    assert found["b"].schedule is not None
    notes = " ".join(found["a"].notes)
    assert "is too large" in notes or "is not a plain value" in notes
    assert len(notes) < 500


@pytest.mark.parametrize("deeper", ["v = [v]", "v = (v,)", "v = {'k': v}", "v = dict(k=v)", "v = {'k': [v]}"])
@pytest.mark.parametrize("place", ["'args': [v]", "'kwargs': {'k': v}", "'options': {'headers': v}"])
def test_a_value_that_each_line_nests_deeper_is_named(deeper: str, place: str) -> None:
    entry = f"{{'task': 't', 'schedule': 60, {place}}}"
    text = "\n".join(["v = 1", *[deeper] * 3000, f"beat_schedule = {{'a': {entry}, 'b': {ONE}}}"])
    found = read(text)
    assert found["b"].schedule is not None
    assert "is too large" in found["a"].notes[-1] or "is not a plain value" in found["a"].notes[-1]


@pytest.mark.parametrize("filled_in", ["v0['x'] = v0", "v0['x'] = list(range(9000))"])
def test_a_value_that_grows_in_another_is_named_as_too_large(filled_in: str) -> None:
    lines = ["v0 = {}", *(f"v{number + 1} = {{'a': v{number}, 'b': v{number}}}" for number in range(12)), filled_in]
    entry = "{'task': 't', 'schedule': 60, 'kwargs': v12}"
    found = read("\n".join([*lines, f"beat_schedule = {{'b': {ONE}}}", f"beat_schedule['a'] = {entry}"]))
    assert found["b"].schedule is not None
    assert found["a"].schedule is None
    assert "too large" in found["a"].notes[-1]

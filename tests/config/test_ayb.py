"""AYB's own file and variables, which are settings of ours too where nothing of ours says anything."""

from pathlib import Path

import pytest

from ayb_jobs.config import Config, load_config
from ayb_jobs.config.ayb import OURS
from ayb_jobs.config.checking import MAPPINGS
from ayb_jobs.config.gathering import environment_names
from ayb_jobs.config.settings import SECTIONS
from ayb_jobs.errors import ConfigError

URL = "postgresql://ayb@db.example.com/ayb"
AYB_TOML = f"""
[server]
host = "0.0.0.0"
port = 8090
[database]
url = "{URL}"
max_conns = 25
[admin]
enabled = true
[auth]
enabled = false
[email]
backend = "log"
[storage]
enabled = false
[logging]
level = "info"
[jobs]
enabled = false
worker_concurrency = 8
poll_interval_ms = 500
"""


def loaded(folder: Path, text: str, *, name: str = "ayb.toml", **environ: str) -> Config:
    file = folder / name
    file.write_text(text)
    return load_config(file, environ)


def problems(folder: Path, text: str, *, name: str = "ayb.toml", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, name=name, **environ)
    return caught.value.problems


@pytest.mark.parametrize("name", ["ayb.toml", "production.toml"])
def test_of_aybs_own_file_jobs_and_the_database_are_taken_and_the_rest_is_told(tmp_path: Path, name: str) -> None:
    config = loaded(tmp_path, AYB_TOML, name=name)
    assert (config.jobs.worker_concurrency, config.jobs.poll_interval_ms, config.jobs.enabled) == (8, 500, False)
    assert config.database.url == URL
    (note,) = config.notes
    assert note == (
        f"{tmp_path / name} is AYB's own file: [jobs] and database.url are taken from it; ignored:"
        " [server], database.max_conns, [admin], [auth], [email], [storage], [logging]"
    )


def test_aybs_file_in_the_working_directory_is_found_unless_there_is_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ayb.toml").write_text(AYB_TOML)
    assert load_config(None, {}).database.url == URL
    Path("ayb-jobs.toml").write_text("[jobs]\nworker_concurrency = 3\n")
    assert load_config(None, {}).database.url == ""


def test_no_default_for_attempts_means_three_as_in_ayb(tmp_path: Path) -> None:
    none = AYB_TOML + "max_retries_default = 0\n"
    assert loaded(tmp_path, none).jobs.max_retries_default == 3
    assert load_config(None, {"AYB_JOBS_MAX_RETRIES_DEFAULT": "0"}).jobs.max_retries_default == 3
    assert loaded(tmp_path, AYB_TOML + "max_retries_default = 1\n").jobs.max_retries_default == 1
    (problem,) = problems(tmp_path, AYB_TOML + "max_retries_default = -1\n")
    assert problem.startswith("jobs.max_retries_default is -1; it should be a whole number from 0 to 1000000")


def test_both_runners_by_one_file_are_warned_of(tmp_path: Path) -> None:
    config = loaded(tmp_path, AYB_TOML.replace("[jobs]\nenabled = false", "[jobs]\nenabled = true"))
    assert config.jobs.enabled
    assert "never run jobs at the same time" in config.notes[1]


@pytest.mark.parametrize("text", [AYB_TOML.replace(f'url = "{URL}"', ""), AYB_TOML.replace(URL, "")])
def test_no_embedded_database_starts_where_one_of_aybs_was_meant(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("database.url is not set in AYB's file; AYB then runs a PostgreSQL of its own")
    assert loaded(tmp_path, text, AYB_JOBS_DATABASE_URL=URL).database.url == URL
    assert loaded(tmp_path, text, AYB_DATABASE_URL=URL).database.url == URL
    assert loaded(tmp_path, text, AYB_JOBS_DATABASE_DATA_DIR="here").database.url == ""


def test_aybs_variable_names_the_database_if_nothing_of_ours_does(tmp_path: Path) -> None:
    config = load_config(None, {"AYB_DATABASE_URL": URL})
    assert config.database.url == URL
    assert config.origins["database.url"].label() == "environment AYB_DATABASE_URL"
    assert load_config(None, {"AYB_DATABASE_URL": URL, "AYB_JOBS_DATABASE_URL": "ours"}).database.url == "ours"
    assert load_config(None, {"AYB_DATABASE_URL": URL}, {"database.url": "flag"}).database.url == "flag"
    ours = loaded(tmp_path, '[database]\nurl = "ours"\n', name="ayb-jobs.toml", AYB_DATABASE_URL=URL)
    assert ours.database.url == "ours"


def test_an_embedded_database_beside_aybs_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^database.data_dir and AYB_DATABASE_URL name two databases") as refused:
        load_config(None, {"AYB_DATABASE_URL": URL, "AYB_JOBS_DATABASE_DATA_DIR": "here"})
    assert URL not in str(refused.value)


def test_a_file_of_ours_with_a_wrong_section_is_not_taken_for_aybs(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[server]\n[api]\nport = 1\n", name="ayb-jobs.toml")
    assert problem.startswith("server is not a section; known are alerts, api, ")


def test_every_section_that_only_we_have_tells_our_file_from_aybs(tmp_path: Path) -> None:
    assert {"jobs", "database"} | OURS == {*SECTIONS, *MAPPINGS}
    config = loaded(tmp_path, '[jobs]\nenabled = true\n[limits.mails]\nmax_running = 2\ntypes = ["mail"]\n')
    assert (list(config.limits), config.notes) == (["mails"], ())


def test_faults_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "".join(f"[wrong_{number}]\n" for number in (3, 1, 4, 2, 9, 7))
    found = problems(tmp_path, text, name="ayb-jobs.toml")
    assert [problem.partition(" ")[0] for problem in found] == [f"wrong_{number}" for number in (3, 1, 4, 2, 9, 7)]


def test_a_wrong_value_of_aybs_file_is_told_as_any(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, AYB_TOML.replace("= 8\n", '= "many"\n'))
    assert problem.startswith('jobs.worker_concurrency is "many"; it should be a whole number from 1 to 1000')
    assert "ayb.toml, line" in problem


BOOLEANS = [
    name
    for name, (section, key) in environment_names().items()
    if SECTIONS[section].model_fields[key].annotation is bool
]


@pytest.mark.parametrize("name", BOOLEANS)
def test_yes_is_true_or_1_and_no_is_false_or_0_and_anything_else_is_an_error(name: str) -> None:
    section, key = environment_names()[name]
    for text, meant in (("true", True), ("1", True), ("false", False), ("0", False)):
        assert getattr(getattr(load_config(None, {name: text}), section), key) is meant
    for text in ("yes", "on", "True", "TRUE", "t", "2", "enabled", "no", "off", " true"):
        with pytest.raises(ConfigError, match=f"{section}.{key} is .* it should be true or false"):
            load_config(None, {name: text})


def test_the_commands_token_protects_a_daemon_that_has_no_other() -> None:
    alone = load_config(None, {"AYB_JOBS_ADMIN_TOKEN": "secret-of-the-commands"})
    assert alone.api.wants_token
    assert alone.api.admin_token == "secret-of-the-commands"
    assert "secret-of-the-commands" in alone.secrets()
    both = load_config(None, {"AYB_JOBS_ADMIN_TOKEN": "theirs", "AYB_JOBS_API_ADMIN_TOKEN": "ours"})
    assert both.api.admin_token == "ours"


def test_the_commands_token_opens_no_more_than_a_token_of_the_file_does(tmp_path: Path) -> None:
    text = '[api.tokens.reader]\ntoken = "read-only"\nscope = "read"\n'
    config = loaded(tmp_path, text, name="ayb-jobs.toml", AYB_JOBS_ADMIN_TOKEN="read-only")
    assert config.api.admin_token == ""

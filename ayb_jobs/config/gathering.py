"""Gathers the settings from their sources: file, credentials, environment, flags, files of secrets."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_origin

from ayb_jobs.config import ayb, faults, sources
from ayb_jobs.config.kinds import Kind, settings_of
from ayb_jobs.config.section import Section, is_secret
from ayb_jobs.config.settings import NAMED_SECTIONS, SECTIONS
from ayb_jobs.config.sources import Origin, Source, Unreadable
from ayb_jobs.model.project import Project

Path_ = tuple[str, ...]
# The one list that is not empty by default and may be unwanted.
PACKS_KEY = ("handlers", "packs")
# Flags that are not called as their setting.
FLAGS = {("jobs", "worker_concurrency"): "concurrency"}
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
ADMIN_TOKEN = "AYB_JOBS_ADMIN_TOKEN"  # noqa: S105 - the variable's name


def environment_names() -> dict[str, Path_]:
    """Return the environment variable of each setting that has one: all but the named tables."""
    return {
        "_".join(["AYB_JOBS", *([] if section == "jobs" else [section.upper()]), key.upper()]): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
        if (section, key) != ("api", "tokens")
    }


def from_text(annotation: Any, text: str) -> Any:
    """Return what a text from the environment or a flag means for a setting; itself where it means nothing there."""
    if get_origin(annotation) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    if annotation is bool:
        return BOOLEANS.get(text, text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            return text
    return text


class Problem(NamedTuple):
    """A fault of one key; `about` is what is wrong and what would be right."""

    path: Path_
    about: str


class Gathered:
    """What the sources say: a tree of values, where each came from, and what is wrong with them so far."""

    def __init__(self, environ: Mapping[str, str], kinds: Sequence[Kind] = ()) -> None:
        self.environ = environ
        self.kinds = kinds
        self.tree: dict[str, Any] = {}
        self.origins: dict[Path_, Origin] = {}
        self.problems: list[Problem] = []
        self.file = ""
        self.text = ""
        self.notes: list[str] = []
        self.aybs_file: str | None = None

    def read_file(self, file: Path | None) -> None:
        """Take everything from the file; from AYB's own what is ours too."""
        if file is None:
            return
        self.file = str(file)
        self.put_toml(sources.read_text(file), self.file)
        if ayb.is_aybs(str(file), self.tree):
            self.aybs_file = str(file)
            theirs, self.tree = self.tree, ayb.ours_of(self.tree)
            self.notes += ayb.notes(str(file), theirs, self.tree)

    def put_toml(self, text: str, name: str) -> None:
        """Take everything from a text; raises `Unreadable` if it is not TOML."""
        self.text = text
        self.tree = sources.parse_toml(text, name)
        origin = Origin(Source.FILE, name)
        self.origins = dict.fromkeys(_paths(self.tree), origin)

    def read_project(self, project: Project | None) -> None:
        """Take what an application's framework sets if the file does not."""
        for dotted, value in project.values.items() if project else ():
            path = tuple(dotted.split("."))
            if project and self.value(path) is None:
                self._put(path, value, Origin(Source.PROJECT, project.name))

    def read_credentials(self) -> None:
        """Take secrets from systemd's credentials directory: a file called as the key."""
        folder = self.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return
        for path in environment_names().values():
            file = Path(folder, ".".join(path))
            if is_secret(SECTIONS[path[0]], path[1]) and file.exists():
                self._put_secret(path, file, Source.CREDENTIAL)
        for place, model in self._named_places():
            for key in filter(partial(is_secret, model), model.model_fields):
                file = Path(folder, ".".join((*place, key)))
                if f"{key}_file" in model.model_fields and file.exists():
                    self._put_secret((*place, key), file, Source.CREDENTIAL)

    def read_environment(self) -> None:
        """Take every `AYB_JOBS_*` variable. An empty one counts as not set, but for the packs: it asks for none."""
        names = environment_names()
        if self.environ.get("NO_COLOR"):
            self._put(("log", "color"), "never", Origin(Source.ENVIRONMENT, "NO_COLOR"))
        for name, text in sources.our_variables(self.environ).items():
            if name not in names:
                self.problems.append(
                    Problem((name,), f"is not a variable of ayb-jobs; {faults.suggestion(name, names)} (environment)")
                )
            elif text or names[name] == PACKS_KEY:
                section, key = names[name]
                annotation = SECTIONS[section].model_fields[key].annotation
                self._put((section, key), from_text(annotation, text), Origin(Source.ENVIRONMENT, name))

    def read_flags(self, overrides: Mapping[str, Any]) -> None:
        """Take the flags that were given."""
        for dotted, value in overrides.items():
            section, _, key = dotted.partition(".")
            info = SECTIONS[section].model_fields[key]
            if value is not None:
                given = from_text(info.annotation, value) if isinstance(value, str) else value
                usual = key if section == "jobs" else f"{section}_{key}"
                flag = FLAGS.get((section, key), usual).replace("_", "-")
                self._put(
                    (section, key), list(given) if isinstance(given, tuple) else given, Origin(Source.FLAG, f"--{flag}")
                )

    def read_secret_files(self) -> None:
        """Take each secret whose `<key>_file` names a file, unless a higher source gave the secret itself."""
        places: list[tuple[Path_, type[Section]]] = [((section,), model) for section, model in SECTIONS.items()]
        places += self._named_places()
        for place, model in places:
            for file_key in model.model_fields:
                key = file_key.removesuffix("_file")
                if key != file_key and is_secret(model, key):
                    self._read_secret_file((*place, key), (*place, file_key))

    def _read_secret_file(self, path: Path_, file_path: Path_) -> None:
        file = self.value(file_path)
        if not isinstance(file, str) or not file:
            return
        secret, named = self.origins.get(path), self.origins[file_path]
        if not self.value(path) or secret is None or secret.source < named.source:
            self._put_secret(path, Path(file), named.source, file_path)
        elif secret.source == named.source:
            self.fault(file_path, f"and `{path[-1]}` are both set; keep one")

    def read_last_resorts(self) -> None:
        """Take AYB's database and the commands' token if nothing of ours names a database, or any token."""
        url, folder = self.value(("database", "url")), self.value(("database", "data_dir"))
        theirs = self.environ.get(ayb.DATABASE_URL)
        if theirs and folder and not url:
            self.fault(("database", "data_dir"), f"and {ayb.DATABASE_URL} name two databases; keep one")
        elif theirs and not url:
            self._put(("database", "url"), theirs, Origin(Source.ENVIRONMENT, ayb.DATABASE_URL))
        elif not url and not folder and self.aybs_file:
            self.problems.append(Problem(("database", "url"), f"{ayb.NO_DATABASE} ({self.aybs_file})"))
        token = self.environ.get(ADMIN_TOKEN)
        if token and not self.value(("api", "admin_token")) and not self._token_names():
            self._put(("api", "admin_token"), token, Origin(Source.ENVIRONMENT, ADMIN_TOKEN))

    def _named_places(self) -> list[tuple[Path_, type[Section]]]:
        """Return the tables with names of their own that may hold secrets, each with its settings."""
        places: list[tuple[Path_, type[Section]]] = [
            (("api", "tokens", name), NAMED_SECTIONS["api.tokens"]) for name in self._token_names()
        ]
        job_types = self.value(("job_types",))
        for name, table in job_types.items() if isinstance(job_types, dict) else ():
            places.append((("job_types", name), settings_of(table, self.kinds)))
        return places

    def _token_names(self) -> list[str]:
        tokens = self.value(("api", "tokens"))
        return list(tokens) if isinstance(tokens, dict) else []

    def _put_secret(self, path: Path_, file: Path, source: Source, named_by: Path_ | None = None) -> None:
        try:
            text = sources.read_secret(str(file))
        except Unreadable as error:
            self.fault(named_by or path, f"cannot be used: {error}")
            return
        section = SECTIONS.get(path[0])
        annotation = section.model_fields[path[1]].annotation if section else str
        self._put(path, from_text(annotation, text), Origin(source, str(file)))

    def _put(self, path: Path_, value: Any, origin: Origin) -> None:
        table = self.tree
        for key in path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                return  # the file has no table there, and will be told so
        table[path[-1]] = value
        self.origins[path] = origin

    def value(self, path: Path_) -> Any:
        """Return the value at a path; None if there is none."""
        found: Any = self.tree
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def fault(self, path: Path_, about: str) -> None:
        """Note a fault once, with where the value came from."""
        place = sources.place_of(path, self.origins, self.text)
        problem = Problem(path, f"{about} ({place})" if place else about)
        if problem not in self.problems:
            self.problems.append(problem)


def _paths(tree: Mapping[str, Any], prefix: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every table and value."""
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))

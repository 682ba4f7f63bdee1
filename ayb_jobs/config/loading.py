"""Puts the sources together and checks them, reporting all faults at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ayb_jobs.config import ayb, faults, sources
from ayb_jobs.config.kinds import Kind, known_keys, mixed, settings_of
from ayb_jobs.config.section import Section, is_secret
from ayb_jobs.config.settings import NAMED_SECTIONS, SECTIONS, Config
from ayb_jobs.config.sources import Origin, Source, Unreadable
from ayb_jobs.config.tables import JobTypeSettings, Pack, ScheduleSettings
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.model.job import checked_name

Path_ = tuple[str, ...]
MAPPINGS = ("job_types", "schedules")
PACKS = Path(__file__).parent.parent / "packs"
# The one list that is not empty by default and may be unwanted.
PACKS_KEY = ("handlers", "packs")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
ADMIN_TOKEN = "AYB_JOBS_ADMIN_TOKEN"  # noqa: S105 - the variable's name


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    kinds: Sequence[Kind] = (),
) -> Config:
    """Return the effective settings; raises `ConfigError` naming every fault.

    `path` is the file asked for, if any. `overrides` are the flags of the command line by dotted key, such as
    `{"jobs.worker_concurrency": 8}`; a value of None means that the flag was not given. `kinds` are those that a table
    `[job_types.NAME]` may be of.
    """
    loading = _Loading(environ or {}, kinds)
    try:
        loading.read_file(sources.config_file(path, loading.environ))
    except Unreadable as error:
        raise ConfigError([str(error)]) from None
    loading.read_credentials()
    loading.read_environment()
    loading.read_flags(overrides or {})
    loading.read_secret_files()
    loading.read_last_resorts()
    return loading.finish()


def read_pack(name: str, kinds: Sequence[Kind]) -> Pack:
    """Return the job types and schedules of a built-in pack; its job types are of these kinds."""
    text = (PACKS / f"{name}.toml").read_text("utf-8")
    loading = _Loading({}, kinds)
    loading.put_toml(text, f"pack {name}")
    config = loading.finish()
    return Pack(job_types=config.job_types, schedules=config.schedules)


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


class _Problem(NamedTuple):
    """A fault of one key; `about` is what is wrong and what would be right."""

    path: Path_
    about: str


class _Loading:
    """The settings on their way: a tree of values, and where each came from."""

    def __init__(self, environ: Mapping[str, str], kinds: Sequence[Kind]) -> None:
        self.environ = environ
        self.kinds = kinds
        self.tree: dict[str, Any] = {}
        self.origins: dict[Path_, Origin] = {}
        self.problems: list[_Problem] = []
        self.text = ""
        self.notes: list[str] = []
        self.aybs_file: str | None = None

    def read_file(self, file: Path | None) -> None:
        """Take everything from the file; from AYB's own what is ours too."""
        if file is None:
            return
        self.put_toml(sources.read_text(file), str(file))
        if ayb.is_aybs(str(file), self.tree):
            self.aybs_file = str(file)
            theirs, self.tree = self.tree, ayb.ours_of(self.tree)
            self.notes += ayb.notes(str(file), theirs, self.tree)

    def put_toml(self, text: str, name: str) -> None:
        self.text = text
        self.tree = sources.parse_toml(text, name)
        origin = Origin(Source.FILE, name)
        self.origins = dict.fromkeys(_paths(self.tree), origin)

    def read_credentials(self) -> None:
        """Take secrets from systemd's credentials directory: a file called as the key."""
        folder = self.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return
        for path in environment_names().values():
            file = Path(folder, ".".join(path))
            if is_secret(SECTIONS[path[0]], path[1]) and file.exists():
                self.put_secret(path, file, Source.CREDENTIAL)
        for name in self.token_names():
            file = Path(folder, f"api.tokens.{name}.token")
            if file.exists():
                self.put_secret(("api", "tokens", name, "token"), file, Source.CREDENTIAL)

    def read_environment(self) -> None:
        """Take every `AYB_JOBS_*` variable. An empty one counts as not set, but for the packs: it asks for none."""
        names = environment_names()
        if self.environ.get("NO_COLOR"):
            self.put(("log", "color"), "never", Origin(Source.ENVIRONMENT, "NO_COLOR"))
        for name, text in sources.our_variables(self.environ).items():
            if name not in names:
                self.problems.append(
                    _Problem((name,), f"is not a variable of ayb-jobs; {faults.suggestion(name, names)} (environment)")
                )
            elif text or names[name] == PACKS_KEY:
                section, key = names[name]
                annotation = SECTIONS[section].model_fields[key].annotation
                self.put((section, key), from_text(annotation, text), Origin(Source.ENVIRONMENT, name))

    def read_flags(self, overrides: Mapping[str, Any]) -> None:
        """Take the flags that were given."""
        for dotted, value in overrides.items():
            section, _, key = dotted.partition(".")
            info = SECTIONS[section].model_fields[key]
            if value is not None:
                given = from_text(info.annotation, value) if isinstance(value, str) else value
                flag = (key if section == "jobs" else f"{section}_{key}").replace("_", "-")
                self.put(
                    (section, key), list(given) if isinstance(given, tuple) else given, Origin(Source.FLAG, f"--{flag}")
                )

    def read_secret_files(self) -> None:
        """Take each secret whose `<key>_file` names a file, unless a higher source gave the secret itself."""
        places: list[tuple[Path_, type[Section]]] = [((section,), model) for section, model in SECTIONS.items()]
        places += [(("api", "tokens", name), NAMED_SECTIONS["api.tokens"]) for name in self.token_names()]
        for place, model in places:
            for file_key in model.model_fields:
                key = file_key.removesuffix("_file")
                if key != file_key and is_secret(model, key):
                    self.read_secret_file((*place, key), (*place, file_key))

    def read_secret_file(self, path: Path_, file_path: Path_) -> None:
        file = self.value(file_path)
        if not isinstance(file, str) or not file:
            return
        secret, named = self.origins.get(path), self.origins[file_path]
        if not self.value(path) or secret is None or secret.source < named.source:
            self.put_secret(path, Path(file), named.source, file_path)
        elif secret.source == named.source:
            self.fault(file_path, f"and `{path[-1]}` are both set; keep one")

    def read_last_resorts(self) -> None:
        """Take AYB's database and the commands' token if nothing of ours names a database, or any token."""
        url, folder = self.value(("database", "url")), self.value(("database", "data_dir"))
        if not url and not folder and (theirs := self.environ.get(ayb.DATABASE_URL)):
            self.put(("database", "url"), theirs, Origin(Source.ENVIRONMENT, ayb.DATABASE_URL))
        elif not url and not folder and self.aybs_file:
            self.problems.append(_Problem(("database", "url"), f"{ayb.NO_DATABASE} ({self.aybs_file})"))
        token = self.environ.get(ADMIN_TOKEN)
        if token and not self.value(("api", "admin_token")) and not self.token_names():
            self.put(("api", "admin_token"), token, Origin(Source.ENVIRONMENT, ADMIN_TOKEN))

    def token_names(self) -> list[str]:
        tokens = self.value(("api", "tokens"))
        return list(tokens) if isinstance(tokens, dict) else []

    def put_secret(self, path: Path_, file: Path, source: Source, named_by: Path_ | None = None) -> None:
        try:
            text = sources.read_secret(str(file))
        except Unreadable as error:
            self.fault(named_by or path, f"cannot be used: {error}")
            return
        annotation = SECTIONS[path[0]].model_fields[path[1]].annotation
        self.put(path, from_text(annotation, text), Origin(source, str(file)))

    def put(self, path: Path_, value: Any, origin: Origin) -> None:
        table = self.tree
        for key in path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                return  # the file has no table there, and will be told so
        table[path[-1]] = value
        self.origins[path] = origin

    def value(self, path: Path_) -> Any:
        found: Any = self.tree
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def fault(self, path: Path_, about: str) -> None:
        """Note a fault once, with where the value came from."""
        place = self.place(path)
        problem = _Problem(path, f"{about} ({place})" if place else about)
        if problem not in self.problems:
            self.problems.append(problem)

    def place(self, path: Path_) -> str:
        """Say where a value, or the nearest table around it, came from."""
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None and origin.source is Source.FILE:
                line = sources.line_of(self.text, path[:length])
                return f"{origin.name}, line {line}" if line else origin.name
            if origin is not None:
                return origin.label()
        return ""

    def finish(self) -> Config:
        """Return the settings, or raise all that was found wrong."""
        sections = {name: self.section((name,), model) for name, model in SECTIONS.items()}
        mappings = {
            "job_types": self.mapping("job_types", self.job_type),
            "schedules": self.mapping("schedules", lambda path: self.section(path, ScheduleSettings)),
        }
        known = [*SECTIONS, *MAPPINGS]
        for name in self.tree:  # in the file's order
            if name not in known:
                self.fault((name,), f"is not a section; {faults.suggestion(name, known)}")
        self.check_database()
        if self.problems:
            raise ConfigError([f"{'.'.join(path)} {about}" for path, about in self.problems])
        origins = {".".join(path): origin for path, origin in self.origins.items()}
        notes = tuple(self.notes)
        return Config(**sections, **mappings, origins=origins, notes=notes)  # type: ignore[arg-type]  # none is None without a problem

    def check_database(self) -> None:
        """Refuse a data directory beside a URL where one and the same source names both."""
        url, folder = self.origins.get(("database", "url")), self.origins.get(("database", "data_dir"))
        both = self.value(("database", "url")) and self.value(("database", "data_dir"))
        if both and url and folder and url.source == folder.source:
            self.fault(("database", "data_dir"), "is set although `database.url` is, so that nothing would use it")

    def job_type(self, path: Path_) -> Section | None:
        """Return the checked settings of a job type, by the keys of its kind."""
        table = self.value(path)
        if fault := mixed(table, self.kinds):
            self.fault((*path, *fault[0]), fault[1])
            return None
        return self.section(path, settings_of(table, self.kinds))

    def mapping(self, name: str, checked: Callable[[Path_], Section | None]) -> dict[str, Any]:
        """Return the checked tables of a named section."""
        tables = self.tree.get(name, {})
        if not isinstance(tables, dict):
            self.fault((name,), f"is {faults.shown(tables)}; it should hold tables such as [{name}.NAME]")
            return {}
        for key in tables:
            try:
                checked_name(key, "the name")
            except InvalidInput as error:
                self.fault((name, key), f"cannot be used: {error}")
        return {key: checked((name, key)) for key in tables}

    def section(self, prefix: Path_, model: type[Section]) -> Section | None:
        """Return a checked section; notes its faults."""
        try:
            section = model.model_validate(self.value(prefix) if prefix[0] in self.tree else {})
        except ValidationError as error:
            for details in error.errors(include_url=False, include_context=False):
                self.invalid(prefix, model, details["loc"], details["type"], details["input"])
            return None
        for path, about in _contradictions(section, prefix):
            self.fault(path, about)
        return section

    def invalid(self, prefix: Path_, model: type[Section], loc: tuple[int | str, ...], what: str, value: Any) -> None:
        """Note a value that is not what its setting takes."""
        owner, info, depth = _field_at(model, loc)
        path = (*prefix, *map(str, loc[:depth]))
        if what == "extra_forbidden":
            known = known_keys(self.kinds) if owner is JobTypeSettings else owner.model_fields
            self.fault(path, f"is not a setting; {faults.suggestion(path[-1], known)}")
        elif what == "missing" and info:
            self.fault(path, f"is missing; it should be {faults.wanted(info)}")
        elif info is None:
            self.fault(path, f"is {faults.shown(value)}; it should be a table [{'.'.join(path)}]")
        else:
            whole = self.value(path)
            is_what = "has a value of another kind" if is_secret(owner, path[-1]) else f"is {faults.shown(whole)}"
            self.fault(path, f"{is_what}; it should be {faults.wanted(info)}")


def _contradictions(section: Section, prefix: Path_) -> Iterator[tuple[Path_, str]]:
    """Yield the contradictions of a section and of the named tables within it."""
    for path, about in section.contradictions():
        yield (*prefix, *path), about
    for key in type(section).model_fields:
        inner = getattr(section, key)
        if isinstance(inner, dict):
            for name, table in inner.items():
                if isinstance(table, Section):
                    yield from _contradictions(table, (*prefix, key, name))


def _field_at(model: type[Section], loc: tuple[int | str, ...]) -> tuple[type[Section], FieldInfo | None, int]:
    """Return the model and setting that an error is about, and how much of its location names them."""
    if not loc:
        return model, None, 0
    info = model.model_fields.get(str(loc[0]))
    arguments = get_args(info.annotation) if info else ()
    inner = next((part for part in arguments if isinstance(part, type) and issubclass(part, Section)), None)
    if inner is None or len(loc) == 1:
        return model, info, 1
    owner, found, depth = _field_at(inner, loc[2:])
    return owner, found, depth + 2


def _paths(tree: Mapping[str, Any], prefix: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every table and value."""
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))

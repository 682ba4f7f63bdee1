"""Checks what was gathered, and makes the settings of it, or reports all faults at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ayb_jobs.config import faults
from ayb_jobs.config.gathering import Gathered, Path_
from ayb_jobs.config.kinds import Kind, kind_meant, known_keys, mixed, settings_of
from ayb_jobs.config.section import Section, is_secret
from ayb_jobs.config.settings import SECTIONS, Config
from ayb_jobs.config.tables import JobTypeSettings, LimitSettings, QueueSettings, ScheduleSettings
from ayb_jobs.errors import ConfigError, InvalidInput
from ayb_jobs.model.checked import checked_name

MAPPINGS = ("job_types", "schedules", "limits", "queues")


def checked(found: Gathered, kinds: Sequence[Kind]) -> Config:
    """Return the settings; raises `ConfigError` with all that was found wrong, in gathering and here."""
    return _Checking(found, kinds).config()


class _Checking:
    """The checks, which note their faults where those of gathering are."""

    def __init__(self, found: Gathered, kinds: Sequence[Kind]) -> None:
        self._found = found
        self._kinds = kinds

    def config(self) -> Config:
        """Return the settings, or raise all that was found wrong."""
        sections = {name: self._section((name,), model) for name, model in SECTIONS.items()}
        mappings = {
            "job_types": self._mapping("job_types", self._job_type),
            "schedules": self._mapping("schedules", lambda path: self._section(path, ScheduleSettings)),
            "limits": self._mapping("limits", lambda path: self._section(path, LimitSettings)),
            "queues": self._mapping("queues", lambda path: self._section(path, QueueSettings)),
        }
        known = [*SECTIONS, *MAPPINGS]
        for name in self._found.tree:  # in the file's order
            if name not in known:
                self._found.fault((name,), f"is not a section; {faults.suggestion(name, known)}")
        self._check_database()
        self._check_limits(mappings["limits"])
        if self._found.problems:
            raise ConfigError([f"{'.'.join(path)} {about}" for path, about in self._found.problems])
        origins = {".".join(path): origin for path, origin in self._found.origins.items()}
        notes = tuple(self._found.notes)
        made: dict[str, Any] = {**sections, **mappings}  # none is None without a problem
        return Config(**made, origins=origins, notes=notes, file=self._found.file, text=self._found.text)

    def _check_limits(self, limits: dict[str, LimitSettings | None]) -> None:
        """Refuse two limits on one job type."""
        limited: dict[str, str] = {}
        for name, limit in limits.items():
            for job_type in limit.types if limit else ():
                first = limited.setdefault(job_type, name)
                if first != name:
                    told = f"names {job_type}, which `limits.{first}` limits already; a type has one limit at most"
                    self._found.fault(("limits", name, "types"), told)

    def _check_database(self) -> None:
        """Refuse a data directory beside a URL where one and the same source names both."""
        url, folder = self._found.origins.get(("database", "url")), self._found.origins.get(("database", "data_dir"))
        both = self._found.value(("database", "url")) and self._found.value(("database", "data_dir"))
        if both and url and folder and url.source == folder.source:
            self._found.fault(
                ("database", "data_dir"), "is set although `database.url` is, so that nothing would use it"
            )

    def _job_type(self, path: Path_) -> Section | None:
        """Return the checked settings of a job type, by the keys of its kind."""
        table = self._found.value(path)
        if fault := mixed(table, self._kinds):
            self._found.fault((*path, *fault[0]), fault[1])
            return None
        return self._section(path, settings_of(table, self._kinds))

    def _mapping(self, name: str, checked: Callable[[Path_], Section | None]) -> dict[str, Any]:
        """Return the checked tables of a named section."""
        tables = self._found.tree.get(name, {})
        if not isinstance(tables, dict):
            self._found.fault((name,), f"is {faults.shown(tables)}; it should hold tables such as [{name}.NAME]")
            return {}
        for key in tables:
            try:
                checked_name(key, "the name")
            except InvalidInput as error:
                self._found.fault((name, key), f"cannot be used: {error}")
        return {key: checked((name, key)) for key in tables}

    def _section(self, prefix: Path_, model: type[Section]) -> Section | None:
        """Return a checked section; notes its faults."""
        try:
            section = model.model_validate(self._found.value(prefix) if prefix[0] in self._found.tree else {})
        except ValidationError as error:
            for details in error.errors(include_url=False, include_context=False):
                self._invalid(prefix, model, details["loc"], details["type"], details["input"])
            return None
        for path, about in _contradictions(section, prefix):
            self._found.fault(path, about)
        return section

    def _invalid(self, prefix: Path_, model: type[Section], loc: tuple[int | str, ...], what: str, value: Any) -> None:
        """Note a value that is not what its setting takes."""
        owner, info, depth = _field_at(model, loc)
        path = (*prefix, *map(str, loc[:depth]))
        if what == "extra_forbidden":
            known = known_keys(self._kinds) if owner is JobTypeSettings else owner.model_fields
            right = kind_meant(path[-1], self._kinds) if issubclass(owner, JobTypeSettings) else None
            self._found.fault(path, f"is not a setting; {right or faults.suggestion(path[-1], known)}")
        elif what == "missing" and info:
            self._found.fault(path, f"is missing; it should be {faults.wanted(info)}")
        elif info is None:
            self._found.fault(path, f"is {faults.shown(value)}; it should be a table [{'.'.join(path)}]")
        else:
            whole = self._found.value(path)
            is_what = "has a value of another kind" if is_secret(owner, path[-1]) else f"is {faults.shown(whole)}"
            self._found.fault(path, f"{is_what}; it should be {faults.wanted(info)}")


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

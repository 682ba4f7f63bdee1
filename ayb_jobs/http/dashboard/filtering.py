"""The filter of a list of jobs, as a visitor typed it and as it is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.shell import Blank
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.words import as_sentence

FILTERS = ("type", "queue", "key", "batch_id", "since", "until", "error", "alike")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A filter as it was typed, as it is meant, and what is wrong with it."""

    typed: Blank
    wanted: Filter
    wrong: Blank

    @property
    def is_filtered(self) -> bool:
        """Whether anything was typed."""
        return any(self.typed.values())

    @property
    def said(self) -> Mapping[str, str]:
        """What was typed, with each time as an instant, which means the same tomorrow and in any zone."""
        instants = {"since": self.wanted.since, "until": self.wanted.until}
        return {
            name: value if (at := instants.get(name)) is None else instant_text(at)
            for name, value in self.typed.items()
            if value
        }


def read_filter(typed: Mapping[str, str], clock: Clock) -> Asked:
    """Return the filter that a visitor typed; a field that is wrong is told, and left out."""
    kept = Blank({name: typed.get(name, "").strip() for name in FILTERS})
    values: dict[str, Any] = {}
    wrong = Blank()
    for name in FILTERS:
        try:
            values[name] = clock.read(kept[name], name) if name in {"since", "until"} else kept[name] or None
            Filter(**{name: values[name]})
        except InvalidInput as error:
            values.pop(name, None)
            wrong[name] = as_sentence(str(error))
    try:
        return Asked(typed=kept, wanted=Filter(**values), wrong=wrong)
    except InvalidInput as error:  # two that do not go together
        values.pop(error.field or "")
        wrong[error.field or ""] = as_sentence(str(error))
    return Asked(typed=kept, wanted=Filter(**values), wrong=wrong)

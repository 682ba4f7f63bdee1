"""Payloads and progress as they are shown, and a job as the command or the call that enqueues such a one again."""

import json
import shlex
from dataclasses import dataclass
from typing import Any, NamedTuple

from ayb_jobs.errors import PayloadUndecodable
from ayb_jobs.model.job import Job
from ayb_jobs.model.payload import decode_payload

DEEPEST = 20
WHOLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a handler last said of its progress: a share in percent, if it told one, and words."""

    percent: float | None
    words: str


def pretty(text: str) -> str:
    """Return JSON on lines of its own, changed in nothing but its white space: digits stay as they are stored."""
    parts, depth, in_text, is_escaped = [], 0, False, False
    for place, letter in enumerate(text):
        if in_text:
            parts.append(letter)
            in_text, is_escaped = is_escaped or letter != '"', not is_escaped and letter == "\\"
        elif letter in "{[":
            depth += 1
            is_empty = text[place + 1 : place + 2] in ("}", "]")
            parts.append(letter if is_empty else letter + _line(depth))
        elif letter in "}]":
            depth -= 1
            parts.append(letter if text[place - 1] in "{[" else _line(depth) + letter)
        elif letter == ",":
            parts.append("," + _line(depth))
        elif letter == '"':
            in_text = True
            parts.append(letter)
        elif letter == ":":
            parts.append(": ")
        elif not letter.isspace():
            parts.append(letter)
    return "".join(parts)


def _line(depth: int) -> str:
    return "\n" + "  " * min(depth, DEEPEST)


class Step(NamedTuple):
    """A step that a job has done, with the JSON that it returned."""

    name: str
    result: str


def steps_of(text: str | None) -> list[Step]:
    """Return stored steps as they are shown."""
    found = progress_value(text)
    if not isinstance(found, list):
        return []
    return [Step(str(each["name"]), json.dumps(each["result"], ensure_ascii=False, default=str)) for each in found]


def progress_value(text: str | None) -> Any:
    """Return stored progress as a value; as its text where Python cannot decode it."""
    try:
        return None if text is None else decode_payload(text)
    except PayloadUndecodable:
        return text


def progress_of(value: Any) -> Progress | None:
    """Return progress as it is shown: a number of percent where there is one, and the rest in words."""
    if value is None:
        return None
    if isinstance(value, bool | str):
        return Progress(percent=None, words=str(value))
    if isinstance(value, int | float):
        share = _percent(value)
        return Progress(percent=share, words="" if share is not None else str(value))
    if isinstance(value, dict):
        share = _percent(value.get("percent"))
        rest = {name: each for name, each in value.items() if name != "percent" or share is None}
        return Progress(percent=share, words=", ".join(f"{name}: {each}" for name, each in rest.items())[:500])
    return Progress(percent=None, words=json.dumps(value)[:500])


def _percent(value: Any) -> float | None:
    is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= WHOLE
    return float(value) if is_share else None


def as_command(job: Job) -> str:
    """Return the command that enqueues such a job again."""
    words = ["ayb-jobs", "jobs", "enqueue", job.type, "--payload", job.payload_text]
    words += ["--queue", job.queue] if job.queue != "default" else []
    words += ["--priority", str(job.priority), "--max-attempts", str(job.max_attempts)]
    return shlex.join(words)


def as_curl(job: Job) -> str:
    """Return the call that enqueues such a job again."""
    fields = {"type": job.type, "queue": job.queue, "priority": job.priority, "maxAttempts": job.max_attempts}
    body = f'{json.dumps(fields, ensure_ascii=False)[:-1]}, "payload": {job.payload_text}}}'
    return (
        'curl -sS --fail-with-body -X POST "$URL/api/admin/jobs" -H "Authorization: Bearer $TOKEN" '
        f"-d {shlex.quote(body)}"
    )

"""What a check returns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """Whether a finding keeps work from being done, or is for somebody to look at."""

    FAILING = "failing"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong, in sentences that hold for any door.

    `name` tells findings apart, such as `schema.outdated`. `fact` is what was found, `evidence` the figures behind it.
    `meaning` says what follows from it, and `remedy` what to do. None of the sentences names a host or a user, since
    probes show them to strangers. `named` says what was found with the names of job types, queues and schedules.
    """

    name: str
    severity: Severity
    fact: str
    meaning: str
    remedy: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""

    @property
    def told(self) -> str:
        """What was found, with names, for those who may read them."""
        return self.named or self.fact


def facts(findings: Iterable[Finding]) -> list[str]:
    """Return the facts that keep work from being done."""
    return [finding.fact for finding in findings if finding.severity is Severity.FAILING]


def shown(finding: Finding) -> dict[str, Any]:
    """Return a finding as a probe shows it to anyone who asks.

    Evidence by name is left out: names of job types and queues are the application's own affair.
    """
    evidence = {name: value for name, value in finding.evidence.items() if not isinstance(value, Mapping)}
    return {
        "name": finding.name,
        "severity": str(finding.severity),
        "fact": finding.fact,
        "evidence": evidence,
        "meaning": finding.meaning,
        "remedy": finding.remedy,
    }


def warning(name: str, fact: str, meaning: str, remedy: str, evidence: Mapping[str, object]) -> Finding:
    """Return a finding that is for somebody to look at."""
    return Finding(
        name=name, severity=Severity.WARNING, fact=fact, meaning=meaning, remedy=remedy, evidence=dict(evidence)
    )

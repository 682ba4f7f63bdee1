"""Runs a fleet under faults on a database, and judges it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.checker import Evidence, Figures, Violation, check, figures
from ayb_jobs.lab.torture.elsewhere import receiving
from ayb_jobs.lab.torture.fork_server import ForkServer
from ayb_jobs.lab.torture.grounds import prepared
from ayb_jobs.lab.torture.network import is_own
from ayb_jobs.lab.torture.phases import Progress, Run
from ayb_jobs.lab.torture.plan import KINDS, missing

# A database that crashes must keep what it has acknowledged; only power cuts are left out.
SERVER_SETTINGS = {"synchronous_commit": "on", "full_page_writes": "on", "max_connections": "120"}
PORT = 54329


@dataclass(frozen=True, slots=True, kw_only=True)
class Torture:
    """What came of a torture run. `folder` holds the three logs and the daemons' own."""

    seed: int
    figures: Figures
    violations: list[Violation]
    evidence: Evidence
    folder: Path
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost and no invariant broken."""
        return not self.violations


def torture(
    *,
    seconds: float,
    seed: int,
    faults: Mapping[str, int | None],
    database_url: str | None = None,
    daemons: int = 4,
    jobs: int = 0,
    drain_s: float = 180.0,
    folder: Path | None = None,
    isolated: bool = False,
    progress: Progress = lambda _phase, _numbers: None,
) -> Torture:
    """Run a fleet of `daemons` under `faults` (see `parse_faults`) for `seconds`, until at least `jobs` were enqueued.

    Without `database_url` an embedded database is made and removed. A database of the caller's has to be one that
    nobody uses, and is left as it was; faults are left out that are not ours to inject there. What has not ended
    `drain_s` after the last fault is lost. With `isolated`, some jobs have a process of their own. `progress` is told
    the phase, and numbers, every second. Raises `DatabaseError` and `Conflict`.
    """
    home = folder or Path(tempfile.mkdtemp(prefix="ayb-jobs-torture-"))
    home.mkdir(parents=True, exist_ok=True)
    with _database(database_url) as (url, server), closing(ForkServer()) as fork_server:
        left_out = {
            name: reason
            for name in faults
            if (reason := missing(KINDS[name], own_server=server is not None, own_network=is_own()))
        }
        with prepared(url), receiving(home) as port:
            evidence = Run(
                url=url,
                server=server,
                fork_server=fork_server,
                seconds=seconds,
                seed=seed,
                faults={name: count for name, count in faults.items() if name not in left_out},
                daemons=daemons,
                jobs=jobs,
                drain_s=drain_s,
                folder=home,
                port=port,
                isolated=isolated,
                progress=progress,
            )()
    violations = check(evidence)
    return Torture(
        seed=seed,
        figures=figures(evidence, violations),
        violations=violations,
        evidence=evidence,
        folder=home,
        left_out=left_out,
    )


@contextmanager
def _database(url: str | None) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    if url:
        yield url, None
        return
    port = PORT if is_own() else None
    with EmbeddedPostgres.throwaway(settings=SERVER_SETTINGS, tcp_port=port) as server:
        yield server.url(tcp=port is not None), server

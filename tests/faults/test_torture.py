"""A fleet of real daemons under fire: nothing is lost, and no invariant broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ayb_jobs.torture import network, parse_faults, report, torture
from ayb_jobs.torture.phases import Torture
from ayb_jobs.torture.plan import KINDS, missing

# Counted faults are all injected, however long that takes.
IN_EACH_CHANGE = "kill=30,term=15,pause=3,log_pipe=1,terminate=45,restart_immediate=5,restart_fast=1,exhaust=1"
THOROUGH = "kill=200,term=100,pause=20,log_pipe=5,terminate=300,restart_immediate=30,restart_fast=10,exhaust=5"
RELEASE = "kill=2000,term=2000,pause=500,log_pipe=20,terminate=5000,restart_immediate=300,restart_fast=50,exhaust=20"


def tormented(folder: Path, seconds: float, faults: str, *, daemons: int = 4, jobs: int = 0) -> Torture:
    wanted = parse_faults(faults)
    for name in list(wanted):
        if reason := missing(KINDS[name], own_server=True, own_network=network.is_own()):
            pytest.skip(f"{name}: {reason}")
    result = torture(seconds=seconds, seed=20_261_121, faults=wanted, folder=folder, daemons=daemons, jobs=jobs)
    print(report.as_line(result))  # noqa: T201 - the figures of the run
    assert result.passed, "\n".join([report.as_line(result), *report.failure(result)])
    assert result.figures.jobs > 100
    for name, count in wanted.items():
        assert count is None or result.figures.faults.get(name, 0) >= count, f"{name} did not come {count} times"
    return result


@pytest.mark.timeout(600)
def test_nothing_is_lost_under_fire(tmp_path: Path) -> None:
    tormented(tmp_path, 30, IN_EACH_CHANGE)


@pytest.mark.timeout(300)
def test_without_faults_no_job_runs_twice(tmp_path: Path) -> None:
    result = tormented(tmp_path, 8, "none", daemons=2)
    assert result.figures.extra_runs == 0


@pytest.mark.timeout(300)
def test_clocks_that_disagree_change_nothing(tmp_path: Path) -> None:
    tormented(tmp_path, 6, "clock=2,term=2", daemons=2)


@pytest.mark.timeout(300)
def test_dropped_packets_cost_no_job(tmp_path: Path) -> None:
    if not network.can_have_own():
        pytest.skip("dropping packets needs root, unshare, ip and iptables: apt-get install iproute2 iptables")
    cut = [sys.executable, "-m", "ayb_jobs", "torture", "--seconds", "12", "--faults", "cut=2", "--daemons", "3"]
    done = subprocess.run(
        [*cut, "--seed", "20261121", "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    assert '"cut": 2' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_under_two_hundred_kills(tmp_path: Path) -> None:
    tormented(tmp_path, 150, THOROUGH)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif("RELEASE" not in os.environ, reason="takes an hour or more: RELEASE=1 make test-slow")
def test_nothing_is_lost_before_a_release(tmp_path: Path) -> None:
    tormented(tmp_path, 3000, RELEASE, jobs=500_000)
    shutil.rmtree(tmp_path)

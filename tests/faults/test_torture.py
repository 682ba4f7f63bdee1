"""A fleet of real daemons under fire: nothing is lost, and no invariant broken."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ayb_jobs.lab.torture import network, parse_faults, report, torture
from ayb_jobs.lab.torture.isolated import ISOLATED
from ayb_jobs.lab.torture.plan import KINDS, missing
from ayb_jobs.lab.torture.running import Torture

# Counted faults are all injected, however long that takes.
IN_EACH_CHANGE = "kill=60,term=30,pause=6,log_pipe=1,terminate=30,restart_immediate=8,restart_fast=2,exhaust=1"
IN_THE_SLOW_SUITE = "kill=200,term=100,pause=20,log_pipe=2,terminate=100,restart_immediate=30,restart_fast=4,exhaust=3"
# Ten of these make the figures of a release: 2,000 kills and 2,000 stops, 500 pauses, 300 crashes, 500,000 jobs.
TENTH_OF_A_RELEASE = "kill=200,term=200,pause=50,log_pipe=2,terminate=150,restart_immediate=30,restart_fast=5,exhaust=2"
# Most faults strike daemons that have jobs in hand, and each stroke terminates several connections.
AMID_JOBS = 0.6
BACKENDS_PER_STROKE = 3
SEED = 20_261_121

release = pytest.mark.skipif("RELEASE" not in os.environ, reason="takes an hour or more: RELEASE=1 make test-slow")


def tormented(
    folder: Path,
    seconds: float,
    faults: str,
    *,
    seed: int = SEED,
    daemons: int = 4,
    jobs: int = 0,
    isolated: bool = False,
) -> Torture:
    wanted = parse_faults(faults)
    for name in list(wanted):
        if reason := missing(KINDS[name], own_server=True, own_network=network.is_own()):
            pytest.skip(f"{name}: {reason}")
    result = torture(
        seconds=seconds, seed=seed, faults=wanted, folder=folder, daemons=daemons, jobs=jobs, isolated=isolated
    )
    print(report.as_line(result))
    if not result.passed:
        report.write_logs(result)
    assert result.passed, "\n".join([report.as_line(result), *report.failure(result)])
    assert result.figures.jobs > 100
    for name, count in wanted.items():
        assert count is None or result.figures.faults.get(name, 0) >= count, f"{name} did not come {count} times"
    return result


def under_load(result: Torture) -> None:
    """Hold that the faults struck a fleet that was at work."""
    figures = result.figures
    kinds = ("kill", "term", "pause")
    assert all(figures.hit_running[kind] for kind in kinds), report.as_line(result)
    # Of all together: some come a few times only.
    hit, all_of_them = (sum(counts[kind] for kind in kinds) for counts in (figures.hit_running, figures.faults))
    assert hit >= AMID_JOBS * all_of_them, report.as_line(result)
    assert figures.backends >= BACKENDS_PER_STROKE * figures.faults["terminate"], report.as_line(result)


@pytest.mark.timeout(900)
def test_nothing_is_lost_under_sixty_kills(tmp_path: Path) -> None:
    under_load(tormented(tmp_path, 40, IN_EACH_CHANGE))


@pytest.mark.timeout(300)
def test_without_faults_no_job_runs_twice_and_the_counters_tell_what_happened(tmp_path: Path) -> None:
    result = tormented(tmp_path, 5, "none", daemons=2)
    assert result.figures.extra_runs == 0
    assert any(snapshot.metrics for snapshot in result.evidence.snapshots)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clocks_that_disagree_change_nothing(tmp_path: Path) -> None:
    tormented(tmp_path, 6, "clock=2,term=2", daemons=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_isolated_handlers_lose_nothing_either(tmp_path: Path) -> None:
    result = tormented(tmp_path, 8, "kill=4,term=3,pause=1,terminate=2", daemons=2, isolated=True)
    ran = {event.job_id for event in result.evidence.events if event.job_type == ISOLATED}
    assert ran & {run.job_id for run in result.evidence.runs if run.ending == "ok"}


def cut_off(folder: Path, cuts: int, *, daemons: int) -> None:
    """Cut daemons' connections so many times, in a network of their own; each has to notice it within ten seconds."""
    if not network.can_have_own():
        pytest.skip("dropping packets needs root, unshare, ip and iptables: apt-get install iproute2 iptables")
    command = [sys.executable, "-m", "ayb_jobs", "torture", "--seconds", "6", "--faults", f"cut={cuts}"]
    done = subprocess.run(
        [*command, "--daemons", str(daemons), "--seed", str(SEED), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    print(done.stdout)
    assert json.loads(done.stdout)["faults"]["cut"] == cuts


@pytest.mark.timeout(300)
def test_dropped_packets_are_noticed_and_cost_no_job(tmp_path: Path) -> None:
    cut_off(tmp_path, 2, daemons=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_under_two_hundred_kills_whatever_the_seed(tmp_path: Path, seed: int) -> None:
    under_load(tormented(tmp_path, 110, IN_THE_SLOW_SUITE, seed=seed))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@release
def test_a_hundred_cuts_are_noticed_and_cost_no_job(tmp_path: Path) -> None:
    cut_off(tmp_path, 100, daemons=8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@release
@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_before_a_release(tmp_path: Path, seed: int) -> None:
    under_load(tormented(tmp_path, 250, TENTH_OF_A_RELEASE, seed=seed, daemons=6, jobs=50_000))
    shutil.rmtree(tmp_path)

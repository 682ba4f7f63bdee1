"""The systemd unit that is shipped, as systemd itself sees it."""

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from ayb_jobs.config import load_config

UNIT = Path(__file__).parents[2] / "deploy" / "ayb-jobs.service"
WORST_EXPOSURE = 1.5  # of 10, which is a service with no protection at all

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=/opt/ayb-jobs/bin/ayb-jobs", "ExecStart=/bin/true"))
    checked = analyze("verify", "--man=no", unit)
    assert unit.name not in checked.stderr
    assert checked.returncode == 0, checked.stderr


@needs_systemd
def test_the_unit_is_hardly_exposed() -> None:
    checked = analyze("security", "--offline=true", f"--threshold={WORST_EXPOSURE * 10:.0f}", "--no-pager", UNIT)
    assert checked.returncode == 0, checked.stdout.splitlines()[-1]


def test_systemd_waits_longer_for_the_end_than_the_daemon_waits_for_its_handlers() -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # configparser's own way
    unit.read(UNIT)
    assert unit.getfloat("Service", "TimeoutStopSec") > load_config(environ={}).jobs.shutdown_timeout_s + 10

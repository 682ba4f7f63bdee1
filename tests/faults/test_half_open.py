"""Packets that are dropped without a word are noticed within ten seconds, whatever is being waited for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ayb_jobs.lab.torture.network import can_have_own
from tests.faults.half_open import EACH

ROOT = Path(__file__).parents[2]
IN_OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@pytest.mark.skipif(
    not can_have_own(), reason="needs root, unshare, ip and iptables: apt-get install iproute2 iptables"
)
def test_a_half_open_connection_is_noticed() -> None:
    done = subprocess.run(
        [*IN_OWN_NETWORK, sys.executable, "-m", "tests.faults.half_open"],
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    taken = json.loads(done.stdout)
    kinds = ("idle", "waiting", "sending", "server's listener")
    assert set(taken) == {f"{kind} {number}" for kind in kinds for number in range(EACH)}
    assert max(taken.values()) <= 10, taken

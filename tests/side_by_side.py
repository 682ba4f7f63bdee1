"""Runs the test suite in several pytest processes at the same time, since most tests wait more than they compute.

What a process prints is shown in one piece when it ends; until then a line every 30 seconds tells how far each is.
A few tests that fail are run once more, with nothing beside them. A test that passes only then is named at the end:
it has a race, which is to be mended, but it stops nobody else's change.
"""

import compileall
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

ROOT = Path(__file__).parent.parent
# The longest first, so that short ones fill the places that are free at the end. Tests that are not named here run in a
# process of their own.
GROUPS = {
    "faults": ["tests/faults", "--ignore=tests/faults/test_torture.py", "--ignore=tests/faults/test_fault_free.py"],
    "http": ["tests/http"],
    "commands": ["tests/cli"],
    "torture": ["tests/faults/test_torture.py", "tests/faults/test_fault_free.py"],
    "runtime": ["tests/client", "tests/operations", "tests/runtime"],
    "storage": ["tests/storage"],
    "programs": ["tests/acceptance", "tests/models", "tests/daemon/test_daemon.py", "tests/test_embedded.py"],
    # The oracle computes for long, and what it runs is run by `test_cron.py` as well, so it need not be measured.
    "documents": ["tests/docs", "tests/model/schedules/test_cron_oracle.py"],
}
NAMED = [path for paths in GROUPS.values() for path in paths if not path.startswith("--")]
ALL = GROUPS | {"others": ["tests", *(f"--ignore={path}" for path in NAMED)]}

# Databases are made several times faster in memory.
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made in it is private
ROOM_BYTES = 8 * 2**30

# Groups that mostly run in their own process, so that a figure of coverage means something. Measuring costs half as
# much again, so only CI does, which sets TEST_COVERAGE.
MEASURED: set[str] = {"others"} if os.environ.get("TEST_COVERAGE") else set()
COVERAGE = ["--cov=ayb_jobs", "--cov-branch", "--cov-report="]
# Of what is not covered, the files with the most lines of it are listed.
WORST = 20
# What takes longest is listed.
SLOWEST = "--durations=25"

# More failures than these are no races.
RUN_AGAIN_MAX = 5

# So many run at the same time; more would have each other's time limits run out.
AT_ONCE = 4

TELL_S = 30.0
STOP_S = 30.0
LOOK_S = 0.1


PYTEST = [sys.executable, "-m", "pytest", "-m", "not slow"]


class Group:
    """A group of tests, which runs as a process of its own."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._output = folder / name
        arguments = [*arguments, *(COVERAGE if name in MEASURED else [])]
        self._began = time.monotonic()
        colours = "yes" if sys.stdout.isatty() else "no"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*PYTEST, *self._notes(), f"--color={colours}", SLOWEST, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | temporary_files(),
                process_group=0,  # Ctrl-C comes from here, once
            )

    def so_far(self) -> str:
        """Tell how much of it has run."""
        percents = re.findall(r"\[ *(\d+)%\]", self._said())
        return f"{self.name} {percents[-1] if percents else 0} %"

    def show(self) -> None:
        """Print all that it said, and how it ended."""
        code = self.process.returncode
        how = "passed" if code == 0 else f"FAILED with exit code {code}"
        say(f"{self._said()}==> {self.name}: {how} after {time.monotonic() - self._began:.0f} s")

    def await_end(self) -> None:
        """Wait until it ends, and end it by force where that takes too long."""
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def failures(self) -> list[str]:
        """Return the names of the tests that failed."""
        noted = self._folder / f"{self.name}.cache/v/cache/lastfailed"
        return list(json.loads(noted.read_text())) if noted.exists() else []

    def passes_again(self) -> bool:
        """Run what failed once more, and show what it said."""
        again = [*PYTEST, *self._notes(), "--last-failed", "--last-failed-no-failures=none", *self.failures()]
        return subprocess.run(again, cwd=ROOT, env=os.environ | temporary_files(), check=False).returncode == 0

    def _notes(self) -> list[str]:
        return ["-o", f"cache_dir={self._folder / self.name}.cache"]

    def _said(self) -> str:
        return self._output.read_text(errors="replace")


def main() -> int:
    """Run all groups to their end; return 0 where all passed, and 1 where not."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a job in the background inherits that the first is ignored
        signal.signal(number, signal.default_int_handler)
    # Once, where a program may not keep what it compiles: else each program of a test compiles all of it anew.
    compileall.compile_dir(ROOT / "ayb_jobs", quiet=1)
    with TemporaryDirectory() as folder:
        groups: list[Group] = []
        try:
            run_side_by_side(groups, Path(folder))
        except KeyboardInterrupt:
            say("Stopping …")
            stop(groups)
            return 130
        if MEASURED:
            say(uncovered())
        return int(not all_pass([group for group in groups if group.process.returncode]))


def all_pass(failed: list[Group]) -> bool:
    """Tell whether all that failed passes by itself, and name it; many failures are not run again."""
    failures = [name for group in failed for name in group.failures()]
    if not failed:
        return True
    if not all(group.failures() for group in failed) or len(failures) > RUN_AGAIN_MAX:
        return False
    say(f"Running again, with nothing beside them: {', '.join(failures)}")
    if not all(group.passes_again() for group in failed):
        return False
    say("Each passes by itself. They have races, which are to be mended:\n" + "\n".join(failures))
    return True


def temporary_files() -> dict[str, str]:
    """Return the variable that puts servers' files into memory, if there is room and nobody chose another place."""
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    if not roomy or "TMPDIR" in os.environ:
        return {}
    return {"TMPDIR": str(MEMORY), "PYTEST_DEBUG_TEMPROOT": gettempdir()}  # tests' own folders stay on the disk


def run_side_by_side(groups: list[Group], folder: Path) -> None:
    """Run all groups, a few at a time; print each when it has ended, and now and then how far the others are."""
    began = told = time.monotonic()
    say(f"Running {', '.join(ALL)}, {AT_ONCE} at a time; each is shown when it ends.")
    waiting = list(ALL.items())
    running: list[Group] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            running.append(Group(*waiting.pop(0), folder))
            groups.append(running[-1])
        for group in [group for group in running if group.process.poll() is not None]:
            running.remove(group)
            group.show()
        now = time.monotonic()
        if running and now - told >= TELL_S:
            told = now
            say(f"After {now - began:.0f} s: {', '.join(group.so_far() for group in running)}")
        time.sleep(LOOK_S)


def stop(groups: list[Group]) -> None:
    """Interrupt all, and show what they said."""
    running = [group for group in groups if group.process.poll() is None]
    for group in running:
        group.process.send_signal(signal.SIGINT)
    for group in running:
        group.await_end()
        group.show()


def uncovered() -> str:
    """Return the figure of coverage, and the files with the most lines that no measured test runs."""
    command = [sys.executable, "-m", "coverage", "report", "--skip-covered", "--sort=-Miss"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    total = [line for line in lines if line.startswith("TOTAL")]
    heads = f"Coverage by the tests of {', '.join(sorted(MEASURED))}; the {WORST} files with most lines that none runs:"
    return "\n".join([heads, *lines[: WORST + 2], *total]) if total else f"no coverage: {done.stdout}{done.stderr}"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

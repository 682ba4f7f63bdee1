"""Prints the newest Python of this machine that is newer than this one. If there is none, says so and exits with 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEWER = [f"python3.{minor}" for minor in range(20, sys.version_info.minor, -1)]
ROOTS = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]


def candidates() -> list[str]:
    """Name programs that may be a newer Python, the newest first."""
    found = []
    for name in NEWER:
        found += [str(path) for root in ROOTS for path in sorted(root.glob(f"versions/*/bin/{name}"), reverse=True)]
        found += [path for path in [shutil.which(name)] if path]
    return found


def works(python: str) -> bool:
    """Whether it starts: a shim of pyenv does not without a version that is set."""
    done = subprocess.run([python, "-c", "import ssl, venv"], capture_output=True, check=False)
    return done.returncode == 0


newest = next((python for python in candidates() if works(python)), None)
if newest is None:
    sys.exit(f"left out: no Python newer than {sys.version_info.major}.{sys.version_info.minor} on this machine")
sys.stdout.write(newest)

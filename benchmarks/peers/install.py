"""Installs the queues from their registries into folders of their own below `installed/`, which git ignores."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from contenders import Queue, Runtime

HERE = Path(__file__).parent
WORKERS = HERE / "workers"
INSTALLED = HERE / "installed"
# pg-boss 12 asks for it; npm has Node itself as a package.
NODE = "node@22"


def install(queue: Queue) -> None:
    """Install a queue where it is not yet. Raises CalledProcessError where that fails."""
    match queue.runtime:
        case Runtime.OURS:
            return
        case Runtime.PYTHON:
            install_python(queue)
        case Runtime.NODE:
            install_node(queue)


def install_python(queue: Queue) -> None:
    """Give a queue a virtual environment with its packages."""
    folder = folder_of(queue)
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([find_python(queue.python), "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", *queue.packages], check=True)
    (folder / "done").touch()


def install_node(queue: Queue) -> None:
    """Give a queue a folder of npm packages, and its worker script in it, since Node looks beside the script."""
    folder = folder_of(queue)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("common.mjs", queue.script):
        shutil.copy(WORKERS / name, folder / name)
    if not (folder / "done").exists():
        (folder / "package.json").write_text(json.dumps({"private": True}))
        subprocess.run(["npm", "install", "--silent", NODE, *queue.packages], cwd=folder, check=True)
        (folder / "done").touch()


def command(queue: Queue) -> list[str]:
    """Return how its worker script is started."""
    match queue.runtime:
        case Runtime.OURS:
            return [sys.executable, str(WORKERS / queue.script)]
        case Runtime.PYTHON:
            return [str(folder_of(queue) / "bin/python"), str(WORKERS / queue.script)]
        case Runtime.NODE:
            folder = folder_of(queue)
            return [str(folder / "node_modules/.bin/node"), str(folder / queue.script)]


def version(queue: Queue) -> str:
    """Return the version that is installed."""
    match queue.runtime:
        case Runtime.OURS:
            return output([sys.executable, "-m", "ayb_jobs", "--version"]).split()[-1]
        case Runtime.PYTHON:
            code = f"import importlib.metadata as m; print(m.version({queue.packages[0]!r}))"
            return output([str(folder_of(queue) / "bin/python"), "-c", code])
        case Runtime.NODE:
            name = queue.packages[0].partition("@")[0]
            manifest = folder_of(queue) / "node_modules" / name / "package.json"
            return str(json.loads(manifest.read_text())["version"])


def find_python(least: tuple[int, int]) -> str:
    """Return a Python that is new enough."""
    if sys.version_info[:2] >= least:
        return sys.executable
    for minor in range(least[1], 20):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    raise SystemExit(f"a Python from {least[0]}.{least[1]} on is needed on the path")


def folder_of(queue: Queue) -> Path:
    """Return where a queue is installed."""
    return INSTALLED / queue.name.lower().replace(" ", "-")


def output(arguments: list[str]) -> str:
    """Return what a program prints."""
    return subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=HERE.parent.parent).stdout.strip()

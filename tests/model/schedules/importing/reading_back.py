"""Loading what an import printed, as a daemon loads it."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from ayb_jobs.config import Config, load_config
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.model.schedules.importing.imported import Imported, as_toml


def settings_of(entries: Iterable[Imported]) -> Config:
    """Return the settings that entries are printed as."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.toml"
        path.write_text(f"[handlers]\npacks = []\n{as_toml(entries)}\n", encoding="utf-8")
        return load_config(path, {}, {}, kinds=KINDS)

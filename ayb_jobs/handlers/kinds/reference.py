"""Writes `docs/configuration.md` and `config.example.toml`: `python -m ayb_jobs.handlers.kinds.reference`.

It stands here, where all kinds of job types with their settings are known.
"""

from pathlib import Path

from ayb_jobs.config.reference import example, markdown
from ayb_jobs.handlers.kinds.table import KINDS


def main() -> None:
    """Write both files into the working directory."""
    Path("docs/configuration.md").write_text(markdown(KINDS), "utf-8")
    Path("config.example.toml").write_text(example(), "utf-8")


if __name__ == "__main__":
    main()

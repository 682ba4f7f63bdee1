"""Writes the table of lines in `docs/logs.md`: `python -m ayb_jobs.logs.reference`."""

from pathlib import Path

from ayb_jobs.logs.lines import LINES

HEAD = "| event | level | meaning |\n| --- | --- | --- |\n"


def main() -> None:
    """Write the table anew; what stands above it stays."""
    file = Path("docs/logs.md")
    above, _, _ = file.read_text("utf-8").partition(HEAD)
    file.write_text(above + HEAD + table(), "utf-8")


def table() -> str:
    """Return a row for each line that may be written."""
    return "".join(f"| `{name}` | {line.level} | {line.meaning} |\n" for name, line in LINES.items())


if __name__ == "__main__":
    main()

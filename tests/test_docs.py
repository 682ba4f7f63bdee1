"""What the documents say is so: links, commands, settings, code, and the tests that hold the promises."""

import ast
import re
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path

import click
import pytest

import ayb_jobs
from ayb_jobs.cli.lazy import NoCommand
from ayb_jobs.cli.options import Options
from ayb_jobs.cli.program import program
from ayb_jobs.config import load_config
from ayb_jobs.config.gathering import environment_names
from ayb_jobs.config.settings import SECTIONS
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.logs.lines import LINES
from ayb_jobs.metrics import CATALOGUE
from ayb_jobs.storage.database import Connection
from ayb_jobs.testing import fixtures
from tests.ayb_database import OTHER_TABLES
from tests.docs import layout
from tests.docs.reading import (
    ROOT,
    Block,
    anchors,
    blocks,
    documents,
    inline_code,
    links,
    our_commands,
    prose,
    shell_lines,
)

SHELLS = ("console", "bash", "sh", "shell")
COMMAND_LINES = [
    pytest.param(arguments, id=f"{block.where} {' '.join(arguments)}"[:100])
    for document in documents()
    for block in blocks(document, *SHELLS, "")
    for line in shell_lines(block)
    for arguments in our_commands(line)
]
MENTIONED_COMMANDS = sorted(
    {code for document in documents() for code in inline_code(document) if code.startswith(("ayb-jobs ", "ayb "))}
)
each_document = pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))


def blocks_of(*languages: str) -> list[Block]:
    return [block for document in documents() for block in blocks(document, *languages)]


def where(block: Block) -> str:
    return block.where


@cache
def source() -> str:
    """All code of the package."""
    return "\n".join(path.read_text() for path in sorted((ROOT / "ayb_jobs").rglob("*.py")))


@cache
def sql_functions() -> set[str]:
    """The functions in SQL that applications call."""
    texts = [path.read_text() for path in (ROOT / "migrations").glob("*.sql")]
    return {name for text in texts for name in re.findall(r"FUNCTION PLACE\.(ayb_jobs_\w+)\(", text)}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in links(document):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


@each_document
def test_every_row_stands_in_a_table(document: Path) -> None:
    """A blank line ends a table, and what follows without a head of its own is shown as it is written."""
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", prose(document))]
    rows = [[line.strip() for line in block if line.strip().startswith("|")] for block in blocks]
    headless = [lines[0] for lines in rows if lines and not (len(lines) > 1 and re.fullmatch(r"[|: -]+", lines[1]))]
    assert headless == []


@each_document
def test_no_line_of_prose_is_wider_than_120_columns(document: Path) -> None:
    long = [line for line in prose(document).splitlines() if len(line) > 120 and not line.startswith(("|", "!["))]
    assert long == []


@each_document
def test_named_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    code = [*inline_code(document), *(line for block in blocks(document, *SHELLS) for line in shell_lines(block))]
    named = {match for line in code for match in re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", line)}
    assert named <= targets


def parse(arguments: list[str], command: click.Command = program, parent: click.Context | None = None) -> None:
    """Read arguments as the command line does, without running anything; raises click's errors."""
    ctx = command.make_context("ayb-jobs", list(arguments), parent=parent, obj=Options())
    if isinstance(command, click.Group):
        rest = [*ctx._protected_args, *ctx.args]
        _, chosen, left = command.resolve_command(ctx, rest)
        assert chosen is not None
        parse(left, chosen, ctx)


@pytest.mark.parametrize("arguments", COMMAND_LINES)
def test_a_command_line_is_one_that_the_program_takes(arguments: list[str]) -> None:
    with suppress(click.exceptions.Exit):  # --help and --version end at once
        parse(arguments)


@pytest.mark.parametrize("code", MENTIONED_COMMANDS)
def test_a_mentioned_command_exists(code: str) -> None:
    for arguments in our_commands(code.replace("…", "")):
        with suppress(click.MissingParameter, NoCommand, click.exceptions.Exit):
            parse(arguments)  # what is missing is left to the reader


def test_a_command_that_the_program_does_not_take_is_noticed() -> None:
    (arguments,) = our_commands("AYB_JOBS_URL=x ayb-jobs jobs list --colour red | head")
    with pytest.raises(click.UsageError, match="--colour"):
        parse(arguments)


@pytest.mark.parametrize("block", blocks_of("toml"), ids=where)
def test_settings_in_a_document_are_valid(block: Block, tmp_path: Path) -> None:
    text = block.text
    for secret_file in re.findall(r'_file = "([^"]+)"', text):
        (tmp_path / "secret").write_text("s" * 40)
        text = text.replace(secret_file, str(tmp_path / "secret"))
    file = tmp_path / "ayb-jobs.toml"
    file.write_text(text)
    assert tomllib.loads(text)
    load_config(file, {}, kinds=KINDS)


@pytest.mark.parametrize("block", blocks_of("python"), ids=where)
def test_python_in_a_document_compiles_and_imports_public_names(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(tree, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "ayb_jobs"]
    assert {alias.name for node in imported for alias in node.names} <= set(ayb_jobs.__all__)


# These are followed as a whole: the how-to pages by `docs/test_howto.py`, the other by `docs/test_operations.py`.
FOLLOWED = ("docs/howto/", "docs/operations.md")
ALONE = [block for block in blocks_of("sql") if not block.where.startswith(FOLLOWED)]


@pytest.mark.parametrize("block", ALONE, ids=where)
def test_sql_in_a_document_runs(block: Block, conn: Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute(OTHER_TABLES)  # which AYB's users have beside ours
        conn.execute("CREATE ROLE web")  # a role of the reader's
        conn.execute(block.text.encode())


@each_document
def test_named_environment_variables_exist(document: Path) -> None:
    for name in re.findall(r"\bAYB_[A-Z_]+[A-Z]\b", document.read_text()):
        assert name in environment_names() or f'"{name}"' in source(), name


@each_document
def test_named_settings_events_and_metrics_exist(document: Path) -> None:
    for code in inline_code(document):
        if code.endswith((".py", ".toml", ".md")):
            continue
        section, dot, key = code.partition(" = ")[0].partition(".")
        if dot and section in SECTIONS and re.fullmatch(r"[a-z_]+", key):
            assert key in SECTIONS[section].model_fields or code in LINES, code
        elif re.fullmatch(r"(jobs?|lease|loop|daemon|schedules?|notify|cleanup|rows|request)\.[a-z_]+", code):
            assert code in LINES, code
        elif re.fullmatch(r"ayb_jobs_[a-z_]+", code):
            assert code.removesuffix("_total") in CATALOGUE or code in sql_functions() or hasattr(fixtures, code), code


def test_every_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "semantics.md").read_text())
    assert len(named) > 50
    files = {path: ast.parse((ROOT / "tests" / path).read_text()) for path in {path for path, _ in named}}
    known = {
        path: {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} for path, tree in files.items()
    }
    assert [f"{path}::{name}" for path, name in named if name not in known[path]] == []


def test_the_readme_tests_as_the_checks_of_a_submission_do() -> None:
    assert "$ make test\n" in (ROOT / "README.md").read_text()
    assert re.search(r"(?m)^(\w+=\w+ )*make test$", (ROOT / ".ci" / "run").read_text())


def test_every_document_is_reached_from_the_readme() -> None:
    reached, new = set[Path](), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {(page.parent / path).resolve() for page in new for path, _ in links(page) if path.endswith(".md")}
        new = {page for page in new if page.exists()} - reached
    assert set(ROOT.glob("docs/**/*.md")) <= reached


def test_the_layout_in_the_architecture_is_drawn_from_the_code() -> None:
    text = layout.PAGE.read_text()
    assert text == layout.redrawn(text), "run `python -m tests.docs.layout`"
    assert "`storage/queue/`" in text


# No one's own machine, and no numbers that only a tracker explains.
STRANGERS = re.compile(r"(?<![\w.~])/(home|root|work|Users)/\w|(?i:\b(issue|ticket|pr) ?#\d|\bindex-url\b)")
FOLDERS = ("ayb_jobs", "benchmarks", "deploy", "docs", "examples", "migrations", "tests", ".ci")
IN_THE_ROOT = (
    ".dockerignore",
    ".editorconfig",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "config.example.toml",
    "pyproject.toml",
    "requirements.lock",
)


def test_the_repository_speaks_of_itself_alone() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    files += [ROOT / name for name in IN_THE_ROOT]
    assert all(path.exists() for path in files)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path.is_file() and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if STRANGERS.search(line)
    ]
    assert found == []

"""Reading the documents: their blocks of code, their links, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PROGRAMS = ("ayb-jobs", "ayb")
# What separates the commands of one shell line.
SEPARATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "(", ")"}


class Block(NamedTuple):
    """A fenced block of a document: where it begins, its language, its text."""

    where: str
    language: str
    text: str


def documents() -> list[Path]:
    """Return every document that users read."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/README.md")])


def blocks(document: Path, *languages: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document in these languages."""
    language, begin, lines = "", 0, list[str]()
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if not line.lstrip().startswith("```"):
            lines.append(line)
        elif begin:
            if language in languages:
                yield Block(f"{document.relative_to(ROOT)}:{begin}", language, "\n".join(lines) + "\n")
            begin = 0
        else:
            language, begin, lines = line.strip("` "), number, []


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"(?ms)^\s*```.*?^\s*```", "", document.read_text())


def inline_code(document: Path) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(document))


def links(document: Path) -> list[tuple[str, str]]:
    """Return the path and the anchor of each link that leads to no other site."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", prose(document))
    return [(path, anchor) for path, anchor in found if "://" not in path and not path.startswith("mailto:")]


def anchors(document: Path) -> set[str]:
    """Return the anchors that a site makes of a document's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def shell_lines(block: Block) -> list[str]:
    """Return the commands of a block, without prompts, output and comments.

    In a `console` block commands are what follows a prompt; a command goes on after a backslash. A block without a
    language may hold anything, and its commands are the lines that call our program.
    """
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = joined.splitlines()
    if block.language == "console":
        lines = [line.strip()[2:] for line in lines if line.strip().startswith(("$ ", "# "))]
    if not block.language:
        lines = [line for line in lines if re.match(r"\s*(\$ )?(\w+=\S+ )*(ayb-jobs|ayb) ", line)]
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def our_commands(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of our own program in a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            command.append(word)
            continue
        while command and re.fullmatch(r"\w+=.*|sudo|\$", command[0]):
            command.pop(0)
        if command and Path(command[0]).name in PROGRAMS:
            yield command[1:]
        command = []

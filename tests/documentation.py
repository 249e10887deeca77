"""The documentation as data: code blocks, the commands in them, and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

_PROGRAMS = frozenset(
    [
        *("laclip", "make", "python", ".venv/bin/python", "uv", "pip", "git", "mkdir", "export", "."),
        *("ray", "docker", "kubectl", "sky", "gcloud", "curl", "clip_benchmark"),
    ]
)
"""First words of commands. A block of code that begins with one is commands only."""
_VARIABLE = re.compile(r"[A-Z_]+=\S* ")
_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


@dataclass(frozen=True)
class Block:
    """A block of code."""

    page: Path
    line: int
    """Number of its first line."""
    language: str
    """As a fence names it; empty for an indented block."""
    text: str

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands."""
        first = _VARIABLE.sub("", self.text.lstrip())
        return self.language in ("sh", "bash") or (not self.language and first.split(" ")[0] in _PROGRAMS)


@dataclass(frozen=True)
class Command:
    """A documented command."""

    page: str
    """Path in the repository."""
    line: int
    text: str
    """In one line, without its comment."""

    @property
    def words(self) -> list[str]:
        """As a shell splits it."""
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of code of a page."""
    lines = page.read_text().split("\n")
    number = 0
    while number < len(lines):
        start = number
        if fence := _FENCE.match(lines[number]):
            number += 1
            while not _FENCE.match(lines[number]):
                number += 1
            yield Block(page, start + 2, fence[1], _dedented(lines[start + 1 : number]))
        elif _is_code(lines, number):
            while number < len(lines) and (not lines[number] or lines[number].startswith("    ")):
                number += 1
            yield Block(page, start + 1, "", _dedented(lines[start:number]).rstrip())
        number = max(number, start) + 1


def _is_code(lines: list[str], number: int) -> bool:
    """Whether an indented block of code begins at a line; in an item of a list it is indented further."""
    if not lines[number].startswith("    ") or (number and lines[number - 1]):
        return False
    above = next((line for line in reversed(lines[:number]) if line and not line.startswith("    ")), "")
    inner = re.match(r"\s*(?:[-*]|\d+\.) +", above) or re.match(r" {2,3}(?=\S)", above)
    return lines[number].startswith(" " * (len(inner[0]) + 4)) if inner else True


def _dedented(lines: list[str]) -> str:
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)


def commands(page: Path) -> Iterator[Command]:
    """The commands in a page's blocks of code. A backslash at the end of a line continues it."""
    for block in blocks(page):
        if not block.is_shell:
            continue
        number, lines = block.line, block.text.split("\n")
        while lines:
            line, taken = lines.pop(0), 1
            while line.endswith("\\"):
                line, taken = f"{line[:-1].rstrip()} {lines.pop(0).lstrip()}", taken + 1
            text = re.sub(r"(?:^|\s+)#\s.*$", "", line)
            text = " ".join(text.split()) if '"' not in text and "'" not in text else text.strip()
            if text:
                yield Command(str(page.relative_to(REPOSITORY)), number, text)
            number += taken


def inline_commands(page: Path) -> Iterator[str]:
    """Commands of `laclip` in running text, with all their options and a value for each."""
    outside = re.sub(r"^(?: {4}.*|```[\s\S]*?^```)$", "", page.read_text(), flags=re.MULTILINE)
    for found in _INLINE.finditer(outside):
        text = " ".join(found[1].split())
        if text.startswith("laclip "):
            yield text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    outside = re.sub(r"^```[\s\S]*?^```$", "", page.read_text(), flags=re.MULTILINE)
    for heading in _HEADING.findall(outside):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(next(name for name in (slug, *(f"{slug}-{n}" for n in range(1, 99))) if name not in found))
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return _LINK.findall(page.read_text())

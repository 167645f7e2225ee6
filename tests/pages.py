"""What the tests of the documents read from them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from .support import PREFIX

FENCE = re.compile(
    r"^(?:<!-- needs: (?P<needs>[\w, ]+) -->\n)?```(?P<language>\S*)\n(?P<source>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

_FILE_NAME = re.compile(r"(?:#|/\*) (?P<name>\w+\.\w+)(?: \*/)?\n")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    section: str  # the heading that it is under
    line: int
    language: str
    source: str
    needs: list[str]

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if its first line is a comment that says so."""
        match = _FILE_NAME.match(self.source)
        return match and match["name"]

    def skip_without_needs(self) -> None:
        """Skip the test if a package is missing that the block says it needs."""
        for package in self.needs:
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed")


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    section = ""
    end = 0
    for match in FENCE.finditer(text):
        section = [section, *HEADING.findall(text[end : match.start()])][-1]
        end = match.end()
        line = text.count("\n", 0, match.start()) + 1
        needs = re.findall(r"\w+", match["needs"] or "")
        blocks.append(Block(page, section, line, match["language"], match["source"], needs))
    return blocks


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def headings_of(page: Path) -> list[str]:
    """The headings of a page."""
    return HEADING.findall(prose_of(page))


def shared_names(source: str) -> list[str]:
    """The names of objects that a program opens, where they are written in the call."""
    return re.findall(r"_shm\w*\(\s*f?[\"']/?([^\"']*)", source)


def made_unique(source: str) -> str:
    """A block with names of objects that no other process has: those that begin with ``my-``."""
    return re.sub(r"(?<![\w-])my-", f"{PREFIX[1:]}my-", source)

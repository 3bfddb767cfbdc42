"""Reads the documents: the blocks of code in them, and why one of them is not run."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.tools import ROOT

FENCE = re.compile(
    r"^ *(?:<!-- not run: (?P<reason>[^\n]+?) -->\n *)?```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. ``reason`` says why it is not run; empty where a test has to run it."""

    document: str
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Return every document of the project, the README included."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks_of(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(
            document=str(document.relative_to(ROOT)),
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
            reason=found["reason"] or "",
        )
        for found in FENCE.finditer(text)
    ]

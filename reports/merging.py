"""Two doctors' texts put together so that no line of either is lost."""

from difflib import SequenceMatcher

from reports.text import DraftText


def merged(*, stored: DraftText, mine: DraftText) -> DraftText:
    """Return one text with every line of both: common lines once; where they differ the stored ones come first."""
    return DraftText(
        findings_text=_merged_lines(stored.findings_text, mine.findings_text),
        impression=_merged_lines(stored.impression, mine.impression),
    )


def _merged_lines(stored: str, mine: str) -> str:
    theirs, ours = stored.splitlines(), mine.splitlines()
    lines: list[str] = []
    for kind, start, end, our_start, our_end in SequenceMatcher(a=theirs, b=ours, autojunk=False).get_opcodes():
        lines += theirs[start:end]
        if kind != "equal":
            lines += ours[our_start:our_end]
    return "\n".join(lines)

"""The two texts of a report, which are edited, compared and kept together."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DraftText:
    """Findings and impression, with one kind of line end."""

    findings_text: str
    impression: str

    def followed_by(self, other: "DraftText") -> "DraftText":
        """Return both texts, one below the other."""
        return DraftText(
            findings_text="\n\n".join(filter(None, (self.findings_text.strip(), other.findings_text.strip()))),
            impression="\n\n".join(filter(None, (self.impression.strip(), other.impression.strip()))),
        )

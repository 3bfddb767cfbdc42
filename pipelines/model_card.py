"""Writes the figures of the shipped model into docs/model-card.md, between two markers, from model.json.

Figures copied by hand go stale; a test fails when card and model differ.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.runtime import STARTER_DIRECTORY, Cut, Thresholds, read_card

CARD = Path(__file__).resolve().parents[1] / "docs" / "model-card.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def figures_table(card: Mapping[str, Any]) -> str:
    """Return the Markdown that stands between the markers for a parsed model.json."""
    thresholds = Thresholds.of_card(card["thresholds"])
    lines = [
        f"Model `{card['version']}`, exported {card['created_at'][:10]}; training data fingerprint "
        f"`{card['training']['fingerprint'][:16]}…`.",
        f"Thresholds (from validation data): {_cut(thresholds.cut(is_crop=False))} at 256 px on slices, "
        f"{_cut(thresholds.cut(is_crop=True))} on crops; malignant {thresholds.malignant:.2f}; temperature "
        f"{card['temperature']:.2f}; class input {card['input']['classifier_side_px']} px.",
        "",
        "| figure | value | 95 % interval | measured on |",
        "|---|---|---|---|",
    ]
    for name, figure in card["figures"].items():
        interval = "—" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
        lines.append(f"| `{name}` | {figure['value']:.3f} | {interval} | {figure['on']} |")
    return "\n".join(lines)


def _cut(cut: Cut) -> str:
    return f"outline {cut.outline:.2f}, surest pixel {cut.peak:.3f}, smallest finding {cut.minimum_area_px} px"


def with_figures(text: str, *, card: Mapping[str, Any]) -> str:
    """Return the card's text with the part between the markers renewed."""
    before, rest = text.split(BEGIN, maxsplit=1)
    _, after = rest.split(END, maxsplit=1)
    return f"{before}{BEGIN}\n{figures_table(card)}\n{END}{after}"


def main() -> int:
    text = with_figures(CARD.read_text(encoding="utf-8"), card=read_card(STARTER_DIRECTORY))
    partial = CARD.with_name(f".{CARD.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(CARD)
    return 0


if __name__ == "__main__":
    sys.exit(main())

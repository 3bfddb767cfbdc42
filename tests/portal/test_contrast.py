"""The style sheet's colours, measured: WCAG 2.2 AA asks 4.5:1 of text and 3:1 of what frames a control or a focus."""

import re
from pathlib import Path

import pytest
from django.conf import settings

CSS = (Path(settings.BASE_DIR) / "portal/static/portal/portal.css").read_text()
TEXT = [
    ("ink", "ground"),
    ("ink", "surface"),
    ("ink", "surface-2"),
    ("ink-muted", "ground"),
    ("ink-muted", "surface"),
    ("ink-muted", "surface-2"),
    ("accent", "ground"),
    ("accent", "surface"),
    ("accent", "surface-2"),
    ("accent-strong", "accent-soft"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("danger", "surface"),
    ("danger", "ground"),
    ("on-danger", "danger"),
    ("on-danger", "danger-strong"),
    ("on-film", "film"),
    ("info", "ground"),
    ("success", "surface"),
    ("on-accent", "ink-muted"),
    ("on-accent", "success"),
    *[(name, f"{name}-soft") for name in ("info", "success", "warning", "danger")],
    *[("ink", f"{name}-soft") for name in ("info", "success", "warning", "danger")],
    *[("accent", f"{name}-soft") for name in ("info", "success", "warning", "danger")],
]
SHAPES = [
    ("line-strong", "surface"),
    ("line-strong", "ground"),
    ("focus", "ground"),
    ("focus", "surface"),
    ("accent", "surface-2"),
    *[(name, "surface") for name in ("info", "success", "warning", "danger")],
]


def tokens(scheme: str) -> dict[str, str]:
    """Return the colour tokens of one scheme: the dark ones stand over the light ones."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", CSS, re.DOTALL)[:2]
    chosen = light if scheme == "light" else light + dark
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", chosen))


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, 0 to 1 (WCAG 2.2, definition of relative luminance)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "at_least"), [(TEXT, 4.5), (SHAPES, 3.0)], ids=["text", "shapes"])
def test_colours_can_be_told_apart(scheme: str, pairs: list[tuple[str, str]], at_least: float) -> None:
    colours = tokens(scheme)
    weak = {
        f"{front} on {back}": round(contrast(colours[front], colours[back]), 2)
        for front, back in pairs
        if contrast(colours[front], colours[back]) < at_least
    }
    assert weak == {}


def test_only_tokens_carry_colours() -> None:
    rules = re.sub(r"@media print \{.*?\n\}", "", CSS.split("/* ---------- ground", 1)[1], flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[^{}]*;)", rules) == []


@pytest.mark.parametrize("name", ["portal.css", "reading.css", "admin.css"])
def test_every_rule_ends_before_the_next_one_begins(name: str) -> None:
    # A brace that is lost makes all that follows a part of one rule, and no browser says so.
    text = (Path(settings.BASE_DIR) / "portal/static/portal" / name).read_text()
    depth, opened = 0, []
    for number, line in enumerate(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).splitlines(), start=1):
        is_at_rule = line.lstrip().startswith("@")
        if "{" in line and depth and not is_at_rule and opened[-1] != "@":
            pytest.fail(f"{name}: a rule opens inside another one: {line.strip()!r} (line {number} without comments)")
        for character in line:
            if character == "{":
                depth += 1
                opened.append("@" if is_at_rule else "rule")
            elif character == "}":
                depth -= 1
                opened.pop()
    assert depth == 0

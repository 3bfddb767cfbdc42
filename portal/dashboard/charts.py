"""Charts as shapes: the server works out every place, a template draws them as SVG, and nothing needs a script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 360
LEFT, RIGHT, TOP, BOTTOM = 46.0, 350.0, 12.0, 176.0
ROW_HEIGHT: Final = 30.0
MOST_LABELS: Final = 4
STYLES: Final = 6


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across (or up) the chart with its label; ``at`` in units of the drawing."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A label below the chart; ``anchor`` keeps the outer ones inside."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: stretches of points (``x,y x,y``), dots where a point stands alone; ``style`` counts from 0."""

    label: str
    style: int
    stretches: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One rectangle of a stacked bar; ``title`` says in words what it shows."""

    x: float
    y: float
    width: float
    height: float
    style: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """A value with its interval on a line of its own; None where nothing can be said."""

    y: float
    label: str
    value: float | None
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing 360 units wide. ``legend`` is empty where there is only one series."""

    kind: str
    summary: str
    height: int
    ticks: tuple[Tick, ...] = ()
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    whiskers: tuple[Whisker, ...] = ()
    legend: tuple[tuple[int, str], ...] = ()


Series = tuple[str, Sequence[float | None]]


def line_chart(series: Sequence[Series], *, labels: Sequence[str], summary: str) -> Chart | None:
    """Return lines over time that begin at 0; None where no value is known. A missing value breaks its line."""
    known = [value for _label, values in series for value in values if value is not None]
    if not known:
        return None
    top = _nice_top(max(known))
    places = _places(len(labels))
    lines = []
    for style, (label, values) in enumerate(series):
        stretches: list[list[tuple[float, float]]] = [[]]
        for x, value in zip(places, values, strict=True):
            if value is None:
                stretches.append([])
            else:
                stretches[-1].append((x, _height(value, top=top)))
        lines.append(
            Line(
                label=label,
                style=style % STYLES,
                stretches=tuple(
                    " ".join(f"{x:.1f},{y:.1f}" for x, y in stretch) for stretch in stretches if len(stretch) > 1
                ),
                dots=tuple((round(x, 1), round(y, 1)) for stretch in stretches for x, y in stretch)
                if len(labels) <= 31
                else (),
            )
        )
    return Chart(
        kind="lines",
        summary=summary,
        height=210,
        ticks=_ticks(top),
        marks=_marks(labels, places=places),
        lines=tuple(lines),
        legend=_legend(series),
    )


def bar_chart(series: Sequence[Series], *, labels: Sequence[str], summary: str) -> Chart | None:
    """Return stacked bars over time; None where everything is 0."""
    totals = [sum(value or 0 for value in column) for column in zip(*(values for _l, values in series), strict=True)]
    if not any(totals):
        return None
    top = _nice_top(max(totals))
    slot = (RIGHT - LEFT) / len(labels)
    bars = []
    for number, label in enumerate(labels):
        base = 0.0
        for style, (name, values) in enumerate(series):
            value = values[number] or 0
            if not value:
                continue
            upper, lower = _height(base + value, top=top), _height(base, top=top)
            bars.append(
                Bar(
                    x=round(LEFT + slot * number + slot * 0.12, 1),
                    y=round(upper, 1),
                    width=round(slot * 0.76, 1),
                    height=round(max(lower - upper, 0.8), 1),
                    style=style % STYLES,
                    title=f"{label}, {name}: {value:g}",
                )
            )
            base += value
    places = [LEFT + slot * (number + 0.5) for number in range(len(labels))]
    return Chart(
        kind="bars",
        summary=summary,
        height=210,
        ticks=_ticks(top),
        marks=_marks(labels, places=places),
        bars=tuple(bars),
        legend=_legend(series),
    )


def interval_chart(
    rows: Sequence[tuple[str, float | None, float | None, float | None, str]], *, summary: str
) -> Chart | None:
    """Return values from 0 to 1 with their intervals, one below the other: (label, value, low, high, text)."""
    if not any(row[1] is not None for row in rows):
        return None
    whiskers = tuple(
        Whisker(
            y=round(TOP + ROW_HEIGHT * number + 22, 1),
            label=_fitting(label, beside=text),
            value=_across(value),
            low=_across(low),
            high=_across(high),
            text=text,
        )
        for number, (label, value, low, high, text) in enumerate(rows)
    )
    end = TOP + ROW_HEIGHT * len(rows)
    ticks = tuple(Tick(at=round(_across(at) or 0, 1), label=f"{at:g}") for at in (0, 0.25, 0.5, 0.75, 1))
    return Chart(kind="intervals", summary=summary, height=round(end + 28), ticks=ticks, whiskers=whiskers)


def _fitting(label: str, *, beside: str) -> str:
    """Return a label that leaves room for the text at the end of its line; the table has it whole."""
    room = int((WIDTH - 32 - 7.6 * len(beside)) / 6.4)
    return label if len(label) <= room else f"{label[: room - 1].rstrip(' ,')}…"


def _across(value: float | None) -> float | None:
    return None if value is None else round(12 + (WIDTH - 24) * min(1.0, max(0.0, value)), 1)


def _height(value: float, *, top: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value / top


def _places(count: int) -> list[float]:
    if count == 1:
        return [(LEFT + RIGHT) / 2]
    return [LEFT + 6 + (RIGHT - LEFT - 12) * number / (count - 1) for number in range(count)]


def _nice_top(largest: float) -> float:
    """Return the smallest 1, 2, 4, 5 or 8 times a power of ten that is not below; 1 for nothing."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return float(next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= largest * (1 - 1e-9)))


def _ticks(top: float) -> tuple[Tick, ...]:
    steps = 4 if top >= 4 or top < 1 else int(top) if top == int(top) else 4
    values = [top * number / steps for number in range(steps + 1)]
    return tuple(Tick(at=round(_height(value, top=top), 1), label=_short(value)) for value in values)


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


def _marks(labels: Sequence[str], *, places: Sequence[float]) -> tuple[Mark, ...]:
    """Return some of the labels, the first and the last among them."""
    last = len(labels) - 1
    if last < MOST_LABELS:
        chosen = list(range(len(labels)))
    else:
        chosen = sorted({round(last * step / (MOST_LABELS - 1)) for step in range(MOST_LABELS)})
    return tuple(
        Mark(
            x=round(places[number], 1),
            label=labels[number],
            anchor="end" if number == last and last else "start" if number == 0 and last else "middle",
        )
        for number in chosen
    )


def _legend(series: Sequence[Series]) -> tuple[tuple[int, str], ...]:
    if len(series) == 1:
        return ()
    return tuple((style % STYLES, label) for style, (label, _values) in enumerate(series))

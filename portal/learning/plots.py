"""Curves and figures of trainings as lines to draw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ml.models import TrainingRun

LEFT, RIGHT, TOP, BOTTOM = 48.0, 352.0, 14.0, 186.0
# What the plots compare: the figures that hold without leaks.
COMPARED: Final = ("grouped_cv_macro_f1", "test_unseen_macro_f1", "lidc_dice", "malignancy_auc")
# In a curve: the stage and what is drawn of it.
CURVES: Final = (
    ("outline", "loss"),
    ("outline", "valid_dice"),
    ("classifier", "loss"),
    ("classifier", "valid_accuracy"),
)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across the plot, and what it says."""

    y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A point of a plot; its label says the value."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure, drawn: ``line`` are the points of a polyline in a box of 360 x 220; ``summary`` says it in words."""

    title: str
    line: str
    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]
    summary: str
    first: str
    last: str


def curves_of(run: TrainingRun) -> Iterator[Plot]:
    """Yield the curves of one training that have at least two epochs."""
    for stage, name in CURVES:
        points = [(epoch["step"], epoch[name]) for epoch in run.curves.get(stage, []) if _is_number(epoch.get(name))]
        if len(points) > 1:
            title = f"{stage}: {name.replace('_', ' ')}"
            labels = (str(round(points[0][0])), str(round(points[-1][0])))
            yield _plot(title, points=points, first=labels[0], last=labels[1])


def comparison_of(runs: Sequence[TrainingRun]) -> Iterator[Plot]:
    """Yield how each compared figure went over trainings, the oldest first, where at least two have it."""
    for name in COMPARED:
        having = [run for run in runs if _is_number(run.figures.get(name))]
        if len(having) > 1:
            points = [(float(place), float(run.figures[name])) for place, run in enumerate(having)]
            ends = (having[0].model_version, having[-1].model_version)
            yield _plot(name.replace("_", " "), points=points, first=ends[0], last=ends[1])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plot(title: str, *, points: Sequence[tuple[float, float]], first: str, last: str) -> Plot:
    steps, values = [one[0] for one in points], [one[1] for one in points]
    low, high = min(values), max(values)
    span, width = (high - low) or 1.0, (steps[-1] - steps[0]) or 1.0
    dots = tuple(
        Dot(
            x=round(LEFT + (step - steps[0]) / width * (RIGHT - LEFT), 1),
            y=round(BOTTOM - (value - low) / span * (BOTTOM - TOP), 1),
            label=f"{value:.3f}",
        )
        for step, value in points
    )
    return Plot(
        title=title,
        line=" ".join(f"{dot.x},{dot.y}" for dot in dots),
        dots=dots if len(dots) <= 40 else (dots[0], dots[-1]),
        ticks=tuple(Tick(y=y, label=f"{value:.3f}") for y, value in ((TOP, high), (BOTTOM, low))),
        summary=f"{title}: {values[0]:.3f} → {values[-1]:.3f} ({low:.3f}–{high:.3f})",
        first=first,
        last=last,
    )

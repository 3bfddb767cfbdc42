"""The size of a difference over time, one drawing a signal, in the units of an SVG view box of 360 by 170."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from ml.drift import SIGNALS, Comparison, Signal, believed
from studies.models import MonitoringRun
from studies.models.study import CLASS_LABELS
from studies.monitoring import SPEAK_AGAINST_TRAINING, signal_label

LEFT, RIGHT, TOP, BOTTOM = 40.0, 352.0, 14.0, 138.0
# A run is a day; more of them than this are not drawn.
LONGEST_DAYS = 120


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A horizontal line of the scale: ``kind`` is grid, warn or alarm."""

    y: float
    label: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """The latest value; ``level`` is that of its comparison."""

    x: float
    y: float
    level: str


@dataclass(frozen=True, kw_only=True)
class SignalChart:
    """One signal against one reference: its line over the days, and what the latest run says in words.

    ``level`` is believed from the last runs; ``lines`` are polylines, broken where a run could not tell. Without any
    value ``lines`` and ``dot`` are empty.
    """

    name: str
    label: str
    level: str
    level_label: str
    speaks: bool
    latest: Comparison
    before: str
    now: str
    lines: tuple[str, ...]
    marks: tuple[Mark, ...]
    dot: Dot | None
    first_day: str
    last_day: str
    summary: str

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the level."""
        return {"alarm": "failed", "warn": "draft", "quiet": "succeeded"}.get(self.level, "cancelled")


def charts_of(runs: Sequence[MonitoringRun], *, compared: str) -> tuple[SignalChart, ...]:
    """Return a chart for each signal of the latest run, from runs of one model version, oldest first."""
    if not runs or not runs[-1].comparisons(compared):
        return ()
    found = [(run.day, {one.signal: one for one in run.comparisons(compared)}) for run in runs]
    latest = found[-1][1]
    return tuple(
        _chart(
            signal,
            history=[(day, comparisons[signal.name]) for day, comparisons in found if signal.name in comparisons],
            speaks=compared != "training" or signal.name in SPEAK_AGAINST_TRAINING,
        )
        for signal in SIGNALS
        if signal.name in latest
    )


def level_label(level: str) -> str:
    """Return a level as people read it."""
    return {"alarm": _("alarm"), "warn": _("warning"), "quiet": _("quiet"), "unknown": _("too few patients")}[level]


def in_words(signal: str, summed_up: "dict[str, float] | None") -> str:
    """Return what a sample is like in this signal, for people."""
    values = summed_up or {}
    if not values:
        return "–"
    if signal == "histogram":
        return _("mean grey %(mean).0f, spread %(std).0f") % {"mean": values["mean_grey"], "std": values["std_grey"]}
    if signal == "embedding":
        return _("mean length %(length).3g") % {"length": values["mean_norm"]}
    if signal == "noise":
        return _("%(grey).1f grey levels") % {"grey": values["mean"]}
    if signal in ("malignancy", "confidence", "agreement"):
        return _("%(percent).0f%% on average") % {"percent": 100 * values["mean"]}
    return ", ".join(f"{CLASS_LABELS.get(name, name)} {100 * share:.0f}%" for name, share in list(values.items())[:4])


def _chart(signal: Signal, *, history: Sequence[tuple[date, Comparison]], speaks: bool) -> SignalChart:
    shown = [(day, one) for day, one in history if (history[-1][0] - day).days <= LONGEST_DAYS]
    first, last = shown[0][0], shown[-1][0]
    span = max((last - first).days, 1)
    largest = max((one.effect or 0.0 for _day, one in shown), default=0.0)
    # What is far above the alarm's line is cut off, so that both lines stay legible; the words tell how much it is.
    top = min(1.0, max(1.25 * signal.alarm, min(1.1 * largest, 2.5 * signal.alarm)))

    def y(value: float) -> float:
        return round(BOTTOM - min(value / top, 1.0) * (BOTTOM - TOP), 1)

    def x(day: date) -> float:
        return round(LEFT + (day - first).days / span * (RIGHT - LEFT - 6), 1)

    lines: list[list[str]] = [[]]
    for day, one in shown:
        if one.effect is None:
            lines.append([])
        else:
            lines[-1].append(f"{x(day):.1f},{y(one.effect):.1f}")
    _day, latest = shown[-1]
    level = believed([one.level for _day, one in history])
    label = signal_label(signal.name)
    effect = f"{latest.effect:.2f}" if latest.effect is not None else "–"
    return SignalChart(
        name=signal.name,
        label=label,
        level=level,
        level_label=level_label(level),
        speaks=speaks,
        latest=latest,
        before=in_words(signal.name, dict(latest.before)),
        now=in_words(signal.name, dict(latest.now)),
        # A single value between two gaps would be a polyline of one point, which draws nothing.
        lines=tuple(" ".join(points if len(points) > 1 else points * 2) for points in lines if points),
        marks=(
            Mark(y=y(0), label="0", kind="grid"),
            Mark(y=y(signal.warn), label=f"{signal.warn:.2f}", kind="warn"),
            Mark(y=y(signal.alarm), label=f"{signal.alarm:.2f}", kind="alarm"),
        ),
        dot=Dot(x=x(last), y=y(latest.effect), level=latest.level) if latest.effect is not None else None,
        first_day=date_format(first, "j M Y"),
        last_day=date_format(last, "j M Y") if last != first else "",
        summary=_(
            "%(signal)s from %(first)s to %(last)s: difference now %(effect)s, warning from %(warn).2f, alarm from "
            "%(alarm).2f; %(level)s."
        )
        % {
            "signal": label,
            "first": date_format(first, "j F Y"),
            "last": date_format(last, "j F Y"),
            "effect": effect,
            "warn": signal.warn,
            "alarm": signal.alarm,
            "level": level_label(level),
        },
    )

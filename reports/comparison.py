"""How the largest outlined region of a patient's examinations has changed over time: the figures, and their plot.

The largest region of each examination is compared with the largest of the others. Whether they are the same lesion is
for the doctor to say, and every place that shows the figures says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from studies.models import Analysis, Study
from studies.models.effective import judged_findings

# The drawing's frame inside its view box of 360 by 220, and what a date takes under the axis.
LEFT, RIGHT, TOP, BOTTOM = 48.0, 352.0, 24.0, 184.0
LABEL_WIDTH = 76.0


@dataclass(frozen=True, kw_only=True)
class Examination:
    """One examination in a comparison: its largest region in pixels, in millimetres where the spacing is known.

    Without an outlined region all figures are None.
    """

    study_id: str
    study_date: date
    is_this: bool
    slice_number: int | None
    long_axis_px: float | None
    area_px: int | None
    long_axis_mm: float | None
    area_mm2: float | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Examination":
        """Read one back from a frozen content."""
        return cls(**dict(value) | {"study_date": date.fromisoformat(value["study_date"])})

    @property
    def diameter_text(self) -> str:
        """The longest diameter for people."""
        if self.long_axis_mm is not None:
            return _("%(long).1f mm") % {"long": self.long_axis_mm}
        if self.long_axis_px is not None:
            return _("%(long).0f pixels") % {"long": self.long_axis_px}
        return _("no region outlined")

    @property
    def area_text(self) -> str:
        """The area for people."""
        if self.area_mm2 is not None:
            return _("%(area).0f mm²") % {"area": self.area_mm2}
        if self.area_px is not None:
            return _("%(area)d pixels") % {"area": self.area_px}
        return "\u2013"


@dataclass(frozen=True, kw_only=True)
class PlotPoint:
    """One dot of a plot; labels that would run into their neighbour's are left out, the table has them all."""

    x: float
    y: float
    label: str
    date_label: str
    is_this: bool


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One line of a scale."""

    y: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure over time, in the units of an SVG view box of 360 by 220. ``summary`` says in words what is drawn."""

    title: str
    points: tuple[PlotPoint, ...]
    ticks: tuple[Tick, ...]
    summary: str

    @property
    def line(self) -> str:
        """The points of the polyline."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


def compare(study: Study, *, reader: Any) -> tuple[Examination, ...]:
    """Return this examination and the patient's earlier ones that ``reader`` may see, oldest first.

    Empty where there is nothing to compare with: no reader, no earlier examination, none that was analysed, or none
    whose software's answer the reader may see yet. Doctors' corrections count, what they rejected does not.
    """
    if reader is None:
        return ()
    earlier = Study.objects.visible_to(reader).filter(patient=study.patient_id, study_date__lt=study.study_date)
    studies = [*earlier.order_by("study_date", "created_at", "id"), study]
    if len(studies) == 1:
        return ()
    analysed = [
        one
        for one in studies
        if one.reveals_ai_to(reader) and Analysis.objects.filter(image__study=one, state="succeeded").exists()
    ]
    if study not in analysed or len(analysed) == 1:
        return ()
    return tuple(_examination(one, is_this=one == study) for one in analysed)


def comparison_sentence(examinations: tuple[Examination, ...]) -> str:
    """Return the comparison with the examination before this one for the draft; empty without one."""
    if len(examinations) < 2:
        return ""
    before, now = examinations[-2:]
    values = {
        "date": date_format(before.study_date, "j F Y"),
        "before": before.diameter_text,
        "now": now.diameter_text,
    }
    if before.long_axis_px is None or now.long_axis_px is None:
        return _("Comparison with the CT of %(date)s: largest outlined region then: %(before)s; now: %(now)s.") % values
    sentence = _("Comparison with the CT of %(date)s: largest outlined region %(before)s then, %(now)s now") % values
    if before.long_axis_mm and now.long_axis_mm is not None:
        change = round(100 * (now.long_axis_mm / before.long_axis_mm - 1))
        sentence += f" ({change:+d}%)"
    else:
        sentence += _(" (pixels of two examinations compare only if both were taken at the same zoom)")
    return sentence + ". " + _("Whether it is the same lesion is for the reader to judge.")


def plots_of(examinations: tuple[Examination, ...]) -> tuple[Plot, ...]:
    """Return the plots of diameter and area; none where fewer than two examinations share a scale.

    Only millimetres are drawn together: pixels of two examinations mean different lengths.
    """
    diameters = [(one, one.long_axis_mm) for one in examinations if one.long_axis_mm is not None]
    areas = [(one, one.area_mm2) for one in examinations if one.area_mm2 is not None]
    drawn = ((_("Longest diameter, mm"), diameters, 1), (_("Area, mm²"), areas, 0))
    return tuple(_plot(title, known, digits=digits) for title, known, digits in drawn if len(known) > 1)


def _plot(title: str, known: Sequence[tuple[Examination, float]], *, digits: int) -> Plot:
    shown, values = [one for one, _value in known], [value for _one, value in known]
    days = [one.study_date.toordinal() for one in shown]
    top_value = _round_up(max(values))
    points: list[PlotPoint] = []
    for one, day, value in zip(shown, days, values, strict=True):
        x = LEFT + 28 + (day - days[0]) / max(days[-1] - days[0], 1) * (RIGHT - LEFT - 56)
        labelled = [point for point in points if point.label]
        if labelled and x - labelled[-1].x < LABEL_WIDTH:
            if not one.is_this:
                points.append(_point(x, value / top_value, is_this=False))
                continue
            # The examination that the report is about keeps its label; the one before it gives way.
            points[points.index(labelled[-1])] = replace(labelled[-1], label="", date_label="")
        points.append(
            _point(
                x,
                value / top_value,
                is_this=one.is_this,
                label=f"{value:.{digits}f}",
                date_label=date_format(one.study_date, "j M Y"),
            )
        )
    listing = "; ".join(
        f"{date_format(one.study_date, 'j F Y')}: {value:.{digits}f}" for one, value in zip(shown, values, strict=True)
    )
    return Plot(
        title=title,
        points=tuple(points),
        ticks=tuple(Tick(y=BOTTOM - part / 4 * (BOTTOM - TOP), label=f"{top_value * part / 4:g}") for part in range(5)),
        summary=_("%(title)s, of the largest outlined region: %(list)s.") % {"title": title, "list": listing},
    )


def _point(x: float, share: float, *, is_this: bool, label: str = "", date_label: str = "") -> PlotPoint:
    return PlotPoint(
        x=round(x, 1), y=round(BOTTOM - share * (BOTTOM - TOP), 1), label=label, date_label=date_label, is_this=is_this
    )


def _examination(study: Study, *, is_this: bool) -> Examination:
    images = {image.id: image for image in study.images.all()}
    regions = [
        (finding, images[image_id].number)
        for image_id, findings in judged_findings(images.values()).items()
        for finding in findings
        if not finding.is_rejected
    ]
    largest, slice_number = max(
        regions, key=lambda region: (region[0].long_axis_mm or 0.0, region[0].long_axis_px), default=(None, None)
    )
    return Examination(
        study_id=str(study.id),
        study_date=study.study_date,
        is_this=is_this,
        slice_number=slice_number,
        long_axis_px=round(largest.long_axis_px, 3) if largest else None,
        area_px=largest.area_px if largest else None,
        long_axis_mm=_rounded(largest.long_axis_mm) if largest else None,
        area_mm2=_rounded(largest.area_mm2) if largest else None,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _round_up(value: float) -> float:
    """Return the next round number above ``value`` that four lines divide into round ones."""
    power = 10 ** math.floor(math.log10(max(value, 0.01)))
    return next(power * step for step in (2, 4, 6, 8, 12, 20) if value * 1.1 <= power * step)

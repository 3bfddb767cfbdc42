"""How good the serving model's answers are: as measured before it was used, and against what doctors say."""

from typing import Any

import numpy as np
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.utils.translation import gettext as _

from portal.dashboard.charts import interval_chart
from portal.dashboard.estimates import ENOUGH, Estimate, area_under_curve, macro_rates, share
from portal.dashboard.panels import COUNT, FIGURE, SHARE, TEXT, Column, Panel, Table, estimate_row, too_few_note
from portal.dashboard.scope import Scope
from studies.model_card import describe_model
from studies.models import Diagnosis, FindingReview, FirstImpression, ImageReview, InferenceRecord
from studies.models.study import CLASS_LABELS

CLASSES = tuple(CLASS_LABELS)
# What of a card is a share or an area between 0 and 1, in the order that people ask for it.
MEASURES = ("accuracy", "precision", "recall", "f1", "auc", "dice", "sensitivity")


def measured(scope: Scope) -> Panel:
    """The figures on the card of the model in use."""
    version = scope.version
    card = describe_model(version)
    figures = sorted(
        (figure for figure in card.figures if _measure(figure.name) < len(MEASURES)),
        key=lambda figure: (_measure(figure.name), figure.name),
    )
    rows = tuple((figure.label, figure.value, figure.low, figure.high, figure.on) for figure in figures)
    return Panel(
        key="measured",
        title=_("Measured before use"),
        intro=_("Model %(version)s on pictures whose truth is known, with 95 %% intervals.") % {"version": version},
        chart=interval_chart(
            [(row[0], row[1], row[2], row[3], _figure(row[1])) for row in rows],
            summary=_("Figures of the model's card with their intervals, from 0 to 1."),
        ),
        table=Table(
            columns=(
                Column(_("Figure"), TEXT),
                Column(_("Value"), FIGURE),
                Column(_("From"), FIGURE),
                Column(_("To"), FIGURE),
                Column(_("Measured on"), TEXT),
            ),
            rows=rows,
        ),
        note=_(
            "Figures on pictures unlike any in training are the ones to believe; the table says of each what it was."
        ),
        empty=card.note or _("The card of this model names no measured figures."),
        is_wide=True,
    )


def against_doctors(scope: Scope) -> Panel:
    """The serving model's class of each slice against the doctor's."""
    version = scope.version
    rows = _judged_slices(scope, version=version)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for diagnosis, top_class, _probability in rows:
        matrix[CLASSES.index(diagnosis), CLASSES.index(top_class)] += 1
    right = int(np.trace(matrix))
    estimates = {
        _("Accuracy"): share(right, len(rows)),
        **dict(zip((_("Precision"), _("Recall"), _("F1")), macro_rates(matrix).values(), strict=True)),
        _("AUC, malignant or not"): area_under_curve(
            [probability for diagnosis, _top, probability in rows if diagnosis != Diagnosis.NORMAL],
            [probability for diagnosis, _top, probability in rows if diagnosis == Diagnosis.NORMAL],
        ),
    }
    return _estimates_panel(
        "against-doctors",
        estimates,
        title=_("Against the doctors' classes"),
        intro=_(
            "Slices that doctors gave a class in this period, against the class by model %(version)s. Precision, "
            "recall and F1 are means over the classes that occur."
        )
        % {"version": version},
        of=_("Slices judged"),
        note=_(
            "Doctors judge the slices that they look at, which are no random sample; slices of one patient count as "
            "independent, so the true intervals are wider."
        ),
        empty=_("No doctor has given a slice a class in this period that this model has one for."),
    )


def confusion(scope: Scope) -> Panel:
    """Which classes are taken for which."""
    rows = _judged_slices(scope, version=scope.version)
    counts: dict[tuple[str, str], int] = {}
    for diagnosis, top_class, _probability in rows:
        counts[diagnosis, top_class] = counts.get((diagnosis, top_class), 0) + 1
    table = tuple((str(CLASS_LABELS[truth]), *(counts.get((truth, said), 0) for said in CLASSES)) for truth in CLASSES)
    return Panel(
        key="confusion",
        title=_("Which class is taken for which"),
        intro=_("A row for each class by the doctor, a column for each class by the model."),
        table=Table(
            columns=(Column(_("Doctor"), TEXT), *(Column(str(CLASS_LABELS[name]), COUNT) for name in CLASSES)),
            rows=table if len(rows) >= ENOUGH else (),
        ),
        empty=_("Too few to say: doctors gave fewer than %(enough)d slices a class in this period.")
        % {"enough": ENOUGH},
    )


def findings(scope: Scope) -> Panel:
    """What doctors say of the outlined findings."""
    mine = scope.of_hospital("image__study__patient__hospital")
    rows = (
        FindingReview.objects.latest_per_finding()
        .filter(mine, scope.period.within("at"))
        .filter(Q(finding__isnull=True) | Q(finding__analysis__model_version=scope.version))
        .order_by()
        .values_list("verdict")
        .annotate(n=Count("id"), of_model=Count("finding"))
    )
    of_model = {verdict: count for verdict, _all, count in rows}
    accepted, corrected, rejected = (of_model.get(verdict, 0) for verdict in ("accepted", "corrected", "rejected"))
    # What a doctor added and rejected again is neither found nor missed.
    added = sum(count - of for verdict, count, of in rows if verdict != "rejected")
    judged = accepted + corrected + rejected
    estimates = {
        _("Right as they were"): share(accepted, judged),
        _("Right, but corrected"): share(corrected, judged),
        _("No finding at all"): share(rejected, judged),
        _("Added by doctors, of all that there is"): share(added, added + accepted + corrected),
    }
    return _estimates_panel(
        "findings",
        estimates,
        title=_("The doctors' word on outlined findings"),
        intro=_("Findings of the model in use that doctors judged in this period, and what they added."),
        of=_("Findings"),
        note="",
        empty=_("No finding was judged in this period."),
    )


def first_impressions(scope: Scope) -> Panel:
    """First impressions, noted before the answer was shown, against the answer about the most suspicious slice."""
    counted = (
        FirstImpression.objects.filter(scope.of_hospital("study__patient__hospital"), scope.period.within("noted_at"))
        .order_by()
        .values_list("diagnosis", "study__triage_class")
        .annotate(n=Count("id"))
    )
    same = other = undecided = unanswered = 0
    for diagnosis, answer, count in counted:
        if not answer:
            unanswered += count
        elif diagnosis == Diagnosis.UNSURE:
            undecided += count
        elif diagnosis == answer:
            same += count
        else:
            other += count
    decided = share(same, same + other)
    rows: list[tuple[Any, ...]] = [
        (_("The same class"), same, decided.value, decided.low, decided.high),
        (_("Another class"), other, *_other(decided)),
        (_("The doctor was unsure"), undecided, None, None, None),
        (_("No answer yet"), unanswered, None, None, None),
    ]
    return Panel(
        key="first-impressions",
        title=_("First impressions and the software"),
        intro=_("What doctors noted before they saw the answer, against the answer as it stands now."),
        chart=interval_chart(
            [(_("The same class"), decided.value, decided.low, decided.high, _percent(decided))],
            summary=_("Share of first impressions that name the software's class."),
        ),
        table=Table(
            columns=(
                Column(_("Outcome"), TEXT),
                Column(_("First impressions"), COUNT),
                Column(_("Share of the decided"), SHARE),
                Column(_("From"), SHARE),
                Column(_("To"), SHARE),
            ),
            rows=tuple(rows) if same + other + undecided + unanswered else (),
        ),
        note=too_few_note([decided]),
        empty=_("No first impression was noted in this period."),
    )


def _judged_slices(scope: Scope, *, version: str) -> list[tuple[str, str, float]]:
    """Return doctor's class, model's class and probability of malignancy of each slice that has all three."""
    answers = InferenceRecord.objects.filter(analysis__image=OuterRef("image"), model_version=version).order_by("-id")
    judged = (
        ImageReview.objects.latest_per_image()
        .filter(scope.of_hospital("image__study__patient__hospital"), scope.period.within("at"))
        .exclude(diagnosis=Diagnosis.UNSURE)
        .annotate(
            said=Subquery(answers.values("top_class")[:1]), score=Subquery(answers.values("malignant_probability")[:1])
        )
        .filter(said__in=CLASSES)
        .order_by()
    )
    return list(judged.values_list("diagnosis", F("said"), F("score")))


def _estimates_panel(
    key: str, estimates: dict[str, Estimate], *, title: str, intro: str, of: str, note: str, empty: str
) -> Panel:
    rows = tuple(estimate_row(label, estimate) for label, estimate in estimates.items())
    notes = (too_few_note(list(estimates.values())), note)
    return Panel(
        key=key,
        title=title,
        intro=intro,
        chart=interval_chart(
            [(label, one.value, one.low, one.high, _percent(one)) for label, one in estimates.items()],
            summary=title,
        ),
        table=Table(
            columns=(
                Column(_("Figure"), TEXT),
                Column(_("Value"), SHARE),
                Column(_("From"), SHARE),
                Column(_("To"), SHARE),
                Column(of, COUNT),
            ),
            rows=rows if any(one.count for one in estimates.values()) else (),
        ),
        note=" ".join(filter(None, notes)),
        empty=empty,
    )


def _other(same: Estimate) -> tuple[float | None, float | None, float | None]:
    if same.value is None or same.low is None or same.high is None:
        return None, None, None
    return 1 - same.value, 1 - same.high, 1 - same.low


def _percent(estimate: Estimate) -> str:
    return _("too few to say") if estimate.value is None else Column("", SHARE).shown(estimate.value)


def _figure(value: float) -> str:
    return f"{value:.2f}"


def _measure(name: str) -> int:
    """Return the place of a figure's measure among those that are shown; beyond the last for all others."""
    parts = set(name.replace(".", "_").split("_"))
    return next((place for place, measure in enumerate(MEASURES) if measure in parts), len(MEASURES))

"""What comes in, what fails and why, and what becomes of reports."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from portal.dashboard.charts import bar_chart, line_chart
from portal.dashboard.estimates import percentile, share
from portal.dashboard.panels import COUNT, HOURS, SHARE, TEXT, Column, Panel, Table
from portal.dashboard.scope import Scope
from reports.models import Report
from studies.models import Analysis, Image, ImportFile, Study
from studies.sentences import in_the_readers_language

REASONS_SHOWN: Final = 10


def uploads(scope: Scope) -> Panel:
    """Studies and slices that came in."""
    period = scope.period
    studies = _by_bucket(scope, Study.objects.filter(scope.of_hospital("patient__hospital")), field="created_at")
    slices = _by_bucket(scope, Image.objects.filter(scope.of_hospital("study__patient__hospital")), field="created_at")
    return Panel(
        key="uploads",
        title=_("Received"),
        intro=_("%(studies)d studies with %(slices)d new slices in this period.")
        % {"studies": sum(studies), "slices": sum(slices)},
        chart=bar_chart([(_("Slices"), slices)], labels=period.labels, summary=_("Slices received over time.")),
        table=Table(
            columns=(Column(period.step, TEXT), Column(_("Studies"), COUNT), Column(_("Slices"), COUNT)),
            rows=tuple(zip(period.labels, studies, slices, strict=True)) if any(studies) or any(slices) else (),
        ),
        empty=_("Nothing was received in this period."),
    )


def outcomes(scope: Scope) -> Panel:
    """How analyses ended."""
    period = scope.period
    states = (Analysis.State.SUCCEEDED, Analysis.State.FAILED, Analysis.State.CANCELLED)
    counted: dict[str, list[int]] = {state: [0] * len(period.buckets) for state in states}
    rows = (
        Analysis.objects.filter(
            scope.of_hospital("image__study__patient__hospital"), period.within("finished_at"), state__in=states
        )
        .annotate(bucket=period.bucket_of("finished_at"))
        .order_by()
        .values_list("state", "bucket")
        .annotate(n=Count("id"))
    )
    for state, bucket, count in rows:
        counted[state][bucket] += count
    failed, answered = sum(counted["failed"]), sum(counted["succeeded"])
    rate = share(failed, failed + answered)
    return Panel(
        key="outcomes",
        title=_("How analyses ended"),
        intro=_("%(failed)d failed of %(all)d that were carried out.") % {"failed": failed, "all": failed + answered},
        chart=bar_chart(
            [(str(Analysis.State(state).label), counted[state]) for state in states],
            labels=period.labels,
            summary=_("Analyses over time by how they ended."),
        ),
        table=Table(
            columns=(
                Column(period.step, TEXT),
                *(Column(str(Analysis.State(state).label).capitalize(), COUNT) for state in states),
                Column(_("Failed, share"), SHARE),
            ),
            rows=(
                *(
                    (label, *(counted[state][number] for state in states), None)
                    for number, label in enumerate(period.labels)
                ),
                (_("Whole period"), *(sum(counted[state]) for state in states), rate.value),
            )
            if any(map(any, counted.values()))
            else (),
        ),
        empty=_("No analysis ended in this period."),
    )


def failures(scope: Scope) -> Panel:
    """Why analyses failed and files of imports were refused."""
    period = scope.period
    reasons = (
        Analysis.objects.filter(
            scope.of_hospital("image__study__patient__hospital"),
            period.within("finished_at"),
            state=Analysis.State.FAILED,
        )
        .order_by()
        .values_list("error")
        .annotate(n=Count("id"))
        .order_by("-n", "error")
    )
    refused = ImportFile.objects.filter(
        scope.of_hospital("batch__hospital"), period.within("batch__created_at"), state=ImportFile.State.REJECTED
    ).count()
    found = list(reasons)
    rows = [(in_the_readers_language(reason), count) for reason, count in found[:REASONS_SHOWN]]
    if rest := sum(count for _reason, count in found[REASONS_SHOWN:]):
        rows.append((_("Other reasons"), rest))
    if refused:
        rows.append((_("Files of imports that were refused, each with its reason there"), refused))
    return Panel(
        key="failures",
        title=_("Failures by reason"),
        intro=_("The sentences that doctors read."),
        table=Table(columns=(Column(_("Reason"), TEXT), Column(_("Failures"), COUNT)), rows=tuple(rows)),
        empty=_("Nothing failed in this period."),
        is_wide=True,
    )


def reports(scope: Scope) -> Panel:
    """Where the reports stand now, those that are not superseded."""
    counted = dict(
        Report.objects.filter(scope.of_hospital("study__patient__hospital"), superseded_at=None)
        .order_by()
        .values_list("state")
        .annotate(n=Count("id"))
    )
    waiting = Study.objects.filter(
        scope.of_hospital("patient__hospital"),
        Q(reports__isnull=True),
        state=Analysis.State.SUCCEEDED,
    ).count()
    rows = [(_("No report yet, answered"), waiting)]
    rows += [(str(state.label).capitalize(), counted.get(state.value, 0)) for state in Report.State]
    return Panel(
        key="reports",
        title=_("Reports as they stand"),
        intro=_("All studies, whatever the period; superseded versions are not counted."),
        chart=bar_chart(
            [(_("Reports"), [count for _label, count in rows])],
            labels=[str(number) for number in range(1, len(rows) + 1)],
            summary=_("Reports by state, in the order of the table."),
        ),
        table=Table(
            columns=(Column(_("State"), TEXT), Column(_("Reports"), COUNT)),
            rows=tuple((f"{number}. {label}", count) for number, (label, count) in enumerate(rows, start=1))
            if any(count for _label, count in rows)
            else (),
        ),
        empty=_("There is no report yet."),
    )


def turnaround(scope: Scope) -> Panel:
    """Hours from a study's receipt to the first signature, and from the signature to the release."""
    period = scope.period
    rows = Report.objects.filter(
        scope.of_hospital("study__patient__hospital"), period.within("signed_at"), version=1
    ).values_list("study__created_at", "signed_at", "released_at")
    signed: list[Counter[int]] = [Counter() for _bucket in period.buckets]
    released: Counter[int] = Counter()
    for received_at, signed_at, released_at in rows.iterator(chunk_size=5000):
        assert signed_at is not None  # noqa: S101 - narrows the type: the filter leaves out all others
        signed[period.place_of(signed_at)][_minutes(received_at, signed_at)] += 1
        if released_at is not None:
            released[_minutes(signed_at, released_at)] += 1
    everything: Counter[int] = sum(signed, Counter())
    medians = [_hours(part, 0.5) for part in signed]
    slow = [_hours(part, 0.9) for part in signed]
    table: list[tuple[Any, ...]] = [
        (label, sum(part.values()), median, late)
        for label, part, median, late in zip(period.labels, signed, medians, slow, strict=True)
    ]
    table.append((_("Whole period"), sum(everything.values()), _hours(everything, 0.5), _hours(everything, 0.9)))
    table.append((_("From signature to release"), sum(released.values()), _hours(released, 0.5), _hours(released, 0.9)))
    return Panel(
        key="turnaround",
        title=_("From receipt to signature"),
        intro=_("Hours until the first version was signed, by the day of the signature."),
        chart=line_chart(
            [(_("Median"), medians), ("p90", slow)],
            labels=period.labels,
            summary=_("Hours from receipt to signature over time: median and p90."),
        ),
        table=Table(
            columns=(
                Column(period.step, TEXT),
                Column(_("Signed"), COUNT),
                Column(_("Median"), HOURS),
                Column("p90", HOURS),
            ),
            rows=tuple(table) if everything else (),
        ),
        empty=_("No report was signed in this period."),
    )


def _by_bucket(scope: Scope, rows: Any, *, field: str) -> list[int]:
    period = scope.period
    counted = dict(
        rows.filter(period.within(field))
        .annotate(bucket=period.bucket_of(field))
        .order_by()
        .values_list("bucket")
        .annotate(n=Count("id"))
    )
    return [counted.get(number, 0) for number in range(len(period.buckets))]


def _minutes(start: datetime, end: datetime) -> int:
    return max(0, (end - start) // timedelta(minutes=1))


def _hours(counts: Counter[int], share_of: float) -> float | None:
    minutes = percentile(counts, share=share_of)
    return None if minutes is None else minutes / 60

"""How long answers take: the analysis itself, its steps, the wait before it, and how many there are."""

from collections import Counter
from typing import Final

from django.db.models import Avg, Count, F, FloatField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from portal.dashboard.charts import Series, bar_chart, line_chart
from portal.dashboard.estimates import percentile
from portal.dashboard.panels import COUNT, MS, SECONDS, TEXT, Column, Panel, Table
from portal.dashboard.scope import Scope

SHARES: Final = (0.5, 0.95, 0.99)
STEPS: Final = ("read", "classify", "outline", "findings", "compose")
WAIT_UNIT_MS: Final = 100


def durations(scope: Scope) -> Panel:
    """Milliseconds from bytes to answer: percentiles of each stretch of time, and of all."""
    return _percentiles(
        scope,
        counts=_counts(scope, field="duration_ms", unit=1),
        key="durations",
        title=_("Time of an analysis"),
        intro=_("From the bytes of a slice to its answer, with the model in memory."),
        kind=MS,
        scale=1,
    )


def waits(scope: Scope) -> Panel:
    """Seconds from the request to the start of the attempt that answered."""
    return _percentiles(
        scope,
        counts=_counts(scope, field="queue_wait_ms", unit=WAIT_UNIT_MS),
        key="waits",
        title=_("Wait in the queue"),
        intro=_("From the request to the start of the attempt that answered, in tenths of a second."),
        kind=SECONDS,
        scale=WAIT_UNIT_MS / 1000,
    )


def throughput(scope: Scope) -> Panel:
    """Answers of each stretch of time."""
    period = scope.period
    counted = dict(
        scope.records().annotate(bucket=period.bucket_of("created_at")).values_list("bucket").annotate(n=Count("id"))
    )
    values = [counted.get(number, 0) for number in range(len(period.buckets))]
    return Panel(
        key="throughput",
        title=_("Answers"),
        intro=_("Slices that were answered: %(count)d in this period.") % {"count": sum(values)},
        chart=bar_chart([(_("Answers"), values)], labels=period.labels, summary=_("Answers over time.")),
        table=Table(
            columns=(Column(period.step, TEXT), Column(_("Answers"), COUNT)),
            rows=tuple(zip(period.labels, values, strict=True)) if any(values) else (),
        ),
        empty=_("Nothing was answered in this period."),
    )


def steps(scope: Scope) -> Panel:
    """Where the time of an analysis goes, on average."""
    means = scope.records().aggregate(
        count=Count("id"),
        **{step: Avg(Cast(KeyTextTransform(step, "step_ms"), FloatField())) for step in STEPS},
    )
    labels = {
        "read": _("Reading the file"),
        "classify": _("Class of the slice"),
        "outline": _("Outline"),
        "findings": _("Findings and their malignancy"),
        "compose": _("Putting the answer together"),
    }
    known = [(labels[step], means[step]) for step in STEPS if means[step] is not None]
    total = sum(mean for _label, mean in known)
    return Panel(
        key="steps",
        title=_("Where the time goes"),
        intro=_("Mean milliseconds of each step."),
        chart=bar_chart(
            [(_("Milliseconds"), [mean for _label, mean in known])],
            labels=[str(number) for number in range(1, len(known) + 1)],
            summary=_("Mean milliseconds of the steps, in the order of the table."),
        )
        if known
        else None,
        table=Table(
            columns=(Column(_("Step"), TEXT), Column(_("Mean"), MS)),
            rows=(
                *((f"{number}. {label}", mean) for number, (label, mean) in enumerate(known, start=1)),
                (_("All steps"), total),
            )
            if known
            else (),
        ),
        empty=_("Nothing was answered in this period."),
    )


def _counts(scope: Scope, *, field: str, unit: int) -> list[Counter[int]]:
    """Return, for each stretch of time, how often each value occurs, in whole units."""
    period = scope.period
    value = F(field) / Value(unit) if unit != 1 else F(field)
    rows = (
        scope.records()
        .annotate(bucket=period.bucket_of("created_at"), value=value)
        .values_list("bucket", "value")
        .annotate(n=Count("id"))
    )
    counts: list[Counter[int]] = [Counter() for _bucket in period.buckets]
    for bucket, found, count in rows:
        counts[bucket][int(found)] += count
    return counts


def _percentiles(
    scope: Scope, *, counts: list[Counter[int]], key: str, title: str, intro: str, kind: str, scale: float
) -> Panel:
    def scaled(part: Counter[int], share: float) -> float | None:
        found = percentile(part, share=share)
        return None if found is None else found * scale

    period = scope.period
    names = [_("Median"), "p95", "p99"]
    by_share = [[scaled(part, share) for part in counts] for share in SHARES]
    series: list[Series] = list(zip(names, by_share, strict=True))
    everything: Counter[int] = sum(counts, Counter())
    rows = [
        (label, sum(part.values()), *(values[number] for values in by_share))
        for number, (label, part) in enumerate(zip(period.labels, counts, strict=True))
    ]
    rows.append((_("Whole period"), sum(everything.values()), *(scaled(everything, share) for share in SHARES)))
    return Panel(
        key=key,
        title=title,
        intro=intro,
        chart=line_chart(series, labels=period.labels, summary=f"{title}: {', '.join(names)}"),
        table=Table(
            columns=(
                Column(period.step, TEXT),
                Column(_("Answers"), COUNT),
                *(Column(name, kind) for name in names),
            ),
            rows=tuple(rows) if everything else (),
        ),
        empty=_("Nothing was answered in this period."),
    )

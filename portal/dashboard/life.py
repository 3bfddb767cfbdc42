"""The model's life: how it was trained, which versions have answered, and how soon a new one did."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.models import Count, F, OuterRef, Subquery
from django.utils.translation import gettext as _

from ml.models import Deployment
from portal.dashboard.charts import Series, bar_chart, line_chart
from portal.dashboard.panels import COUNT, FIGURE, MOMENT, SECONDS, TEXT, Column, Panel, Table
from portal.dashboard.scope import Scope
from studies.models import InferenceRecord

STAGES: Final = ("outline", "classifier")
DEPLOYMENTS_SHOWN: Final = 20


def versions(scope: Scope) -> Panel:
    """Which versions answered, and how much."""
    period = scope.period
    counted: dict[str, list[int]] = {}
    rows = (
        scope.records()
        .annotate(bucket=period.bucket_of("created_at"))
        .values_list("model_version", "bucket")
        .annotate(n=Count("id"))
    )
    for version, bucket, count in rows:
        counted.setdefault(version, [0] * len(period.buckets))[bucket] += count
    names = sorted(counted)
    return Panel(
        key="versions",
        title=_("Versions that answered"),
        intro=_("Answers over time by the version of the model that gave them."),
        chart=bar_chart(
            [(name, counted[name]) for name in names],
            labels=period.labels,
            summary=_("Answers over time by version."),
        )
        if names
        else None,
        table=Table(
            columns=(Column(period.step, TEXT), *(Column(name, COUNT) for name in names)),
            rows=tuple(
                (label, *(counted[name][number] for name in names)) for number, label in enumerate(period.labels)
            )
            if names
            else (),
        ),
        empty=_("Nothing was answered in this period."),
    )


def deployments(scope: Scope) -> Panel:
    """The newest changes of the model in use, and how long until the new version gave its first answer."""
    first = (
        InferenceRecord.objects.filter(model_version=OuterRef("version__version"), created_at__gte=OuterRef("at"))
        .order_by("created_at")
        .values("created_at")[:1]
    )
    rows = (
        Deployment.objects.of_champions()
        .order_by("-id")
        .annotate(first_answer_at=Subquery(first), name=F("version__version"))[:DEPLOYMENTS_SHOWN]
    )
    table = tuple(
        (
            row.at,
            str(Deployment.Kind(row.kind).label).capitalize(),
            row.name,
            row.first_answer_at,
            (row.first_answer_at - row.at).total_seconds() if row.first_answer_at is not None else None,
        )
        for row in rows
    )
    return Panel(
        key="deployments",
        title=_("From promotion to the first answer"),
        intro=_("The newest changes of the model in use, of the whole installation, whatever the period."),
        table=Table(
            columns=(
                Column(_("Since"), MOMENT),
                Column(_("What was done"), TEXT),
                Column(_("Version"), TEXT),
                Column(_("First answer"), MOMENT),
                Column(_("After"), SECONDS),
            ),
            rows=table,
        ),
        note=_("The first answer waits for the first slice: where few come in, this says when one came."),
        empty=_("No version was ever promoted: the portal answers with the model that it was installed with."),
        is_wide=True,
    )


def training(scope: Scope) -> Panel:
    """The curves of the training that made the model in use, where its card has them."""
    history = _history(scope.card)
    series: list[Series] = []
    rows: list[tuple[Any, ...]] = []
    epochs = max((len(epochs) for epochs in history.values()), default=0)
    for stage, found in history.items():
        label = _("Outline") if stage == "outline" else _("Class")
        losses = [epoch.get("loss") for epoch in found]
        series.append((_("%(stage)s: loss") % {"stage": label}, [*losses, *[None] * (epochs - len(losses))]))
        for number, epoch in enumerate(found, start=1):
            valid = {name: value for name, value in epoch.items() if name.startswith("valid_")}
            name, value = next(iter(valid.items()), ("", None))
            rows.append((label, number, epoch.get("loss"), name.removeprefix("valid_").replace("_", " "), value))
    return Panel(
        key="training",
        title=_("Training of the model in use"),
        intro=_("Loss by epoch, model %(version)s.") % {"version": scope.version},
        chart=line_chart(
            series, labels=[str(number) for number in range(1, epochs + 1)], summary=_("Loss of training by epoch.")
        )
        if series
        else None,
        table=Table(
            columns=(
                Column(_("Stage"), TEXT),
                Column(_("Epoch"), COUNT),
                Column(_("Loss"), FIGURE),
                Column(_("Validation figure"), TEXT),
                Column(_("Value"), FIGURE),
            ),
            rows=tuple(rows),
        ),
        empty=_("The card of this model holds no history of its training: it was trained before cards had one."),
    )


def _history(card: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, float]]]:
    """Return ``training.history`` of a card: by stage, an object of numbers for each epoch, no more than that."""
    training = card.get("training")
    history = training.get("history") if isinstance(training, Mapping) else None
    if not isinstance(history, Mapping):
        return {}
    return {
        stage: [
            {
                str(name): float(value)
                for name, value in epoch.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            for epoch in history[stage]
            if isinstance(epoch, Mapping)
        ]
        for stage in STAGES
        if isinstance(history.get(stage), list) and history[stage]
    }

"""The challenger beside the champion: how far both agree, how long each takes, and whom the doctors prove right."""

from typing import Any

from django.utils.translation import gettext as _

from portal.dashboard.estimates import ENOUGH
from portal.dashboard.panels import COUNT, FIGURE, MS, SHARE, TEXT, Column, Panel, Table
from portal.dashboard.scope import Scope
from studies.models import ShadowAnswer, ShadowComparison


def challenger(scope: Scope) -> Panel:
    """The answers in shadow of the period, a row for each version; for administrators only."""
    return Panel(
        key="challenger",
        title=_("Challenger beside champion"),
        intro=_("Slices that another version has answered in shadow, beside the answers that doctors were shown."),
        table=Table(columns=_columns(), rows=_rows(scope) if scope.is_administrator else ()),
        note=_(
            "Verdict: malignant or not, each by its own threshold. Right: as the class that doctors gave the slice. p: "
            "how likely such a difference is by chance (exact McNemar test). A dash means fewer than %(enough)d cases."
        )
        % {"enough": ENOUGH},
        empty=_("No version has answered in shadow in this period.")
        if scope.is_administrator
        else _("What a challenger answers in shadow is shown to administrators only."),
        is_wide=True,
    )


def _columns() -> tuple[Column, ...]:
    return (
        Column(_("Version"), TEXT),
        Column(_("Answers"), COUNT),
        Column(_("Failed"), COUNT),
        Column(_("Same class"), SHARE),
        Column(_("Same verdict"), SHARE),
        Column(_("Median, champion"), MS),
        Column(_("Median, challenger"), MS),
        Column(_("95th percentile, champion"), MS),
        Column(_("95th percentile, challenger"), MS),
        Column(_("Judged"), COUNT),
        Column(_("Champion right"), SHARE),
        Column(_("Challenger right"), SHARE),
        Column(_("p"), FIGURE),
    )


def _rows(scope: Scope) -> tuple[tuple[Any, ...], ...]:
    answers = ShadowAnswer.objects.filter(
        scope.of_hospital("analysis__image__study__patient__hospital"), scope.period.within("asked_at")
    )
    versions = answers.order_by("version").values_list("version", flat=True).distinct()
    return tuple(_row(version, answers.of_version(version).compare()) for version in versions)


def _row(version: str, found: ShadowComparison) -> tuple[Any, ...]:
    right = found.corrections
    return (
        version,
        found.answers,
        found.failed,
        _share(found.same_class, found.answers),
        _share(found.same_verdict, found.answers),
        found.champion_latency.p50_ms,
        found.challenger_latency.p50_ms,
        found.champion_latency.p95_ms,
        found.challenger_latency.p95_ms,
        right.judged,
        _share(right.champion_right, right.judged),
        _share(right.challenger_right, right.judged),
        right.p_value if right.judged >= ENOUGH else None,
    )


def _share(count: int, of: int) -> float | None:
    return count / of if of >= ENOUGH else None

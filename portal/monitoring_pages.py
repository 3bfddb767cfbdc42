"""The pages on which administrators see whether the model still does what it did: for their own hospital."""

import csv
import io
import json
import uuid
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Hospital
from ml.drift import SIGNALS, Policy
from portal.monitoring_charts import LONGEST_DAYS, charts_of
from studies.access import current_user
from studies.models import Compared, MonitoringBaseline, MonitoringEpisode, MonitoringRun, hospitals_watched_by
from studies.monitoring import set_baseline

SHOWN_EPISODES = 50


class BaselineForm(forms.Form):
    """Why the present is declared to be normal."""

    reason = forms.CharField(
        label=gettext_lazy("What has changed on purpose"),
        max_length=300,
        help_text=gettext_lazy("For example: new scanner since 3 March. Please write nothing about patients."),
        error_messages={"required": gettext_lazy("Please say what has changed on purpose.")},
    )


@never_cache
@require_safe
def monitoring(request: HttpRequest) -> HttpResponseBase:
    """Lead an administrator to the own hospital's page; list all hospitals for whoever looks after several."""
    hospitals = list(_watched(request).order_by("name"))
    if len(hospitals) == 1:
        return redirect("monitoring_hospital", hospitals[0].pk)
    rows = []
    for hospital in hospitals:
        rows.append(
            {
                "hospital": hospital,
                "run": MonitoringRun.objects.filter(hospital=hospital).first(),
                "episodes": MonitoringEpisode.objects.filter(hospital=hospital, closed_at__isnull=True),
            }
        )
    return render(request, "portal/monitoring_list.html", {"rows": rows})


@never_cache
@require_safe
def monitoring_hospital(request: HttpRequest, hospital_id: uuid.UUID) -> HttpResponseBase:
    """Show what is watched at a hospital: open episodes, each signal over time, and what happened before."""
    return _page(request, _hospital(request, hospital_id), form=BaselineForm())


@require_POST
def monitoring_baseline(request: HttpRequest, hospital_id: uuid.UUID) -> HttpResponseBase:
    """Declare that what comes in and out now is normal, so that the baseline begins anew."""
    hospital = _hospital(request, hospital_id)
    form = BaselineForm(request.POST)
    if not form.is_valid():
        return _page(request, hospital, form=form, status=HTTPStatus.BAD_REQUEST)
    administrator = current_user(request)
    if set_baseline(hospital, by=administrator, reason=form.cleaned_data["reason"], now=timezone.now()) is None:
        messages.warning(request, _("The model has answered nothing here yet, so there is nothing to start from."))
    else:
        messages.success(request, _("The baseline begins anew today. It is complete in four weeks at the earliest."))
    return redirect("monitoring_hospital", hospital.pk)


@never_cache
@require_safe
def monitoring_json(request: HttpRequest, hospital_id: uuid.UUID) -> HttpResponseBase:
    """Send all that the page rests on as JSON."""
    hospital = _hospital(request, hospital_id)
    content = json.dumps(_as_json(hospital, runs=_runs(hospital)), indent=1, ensure_ascii=False)
    return _file(content, content_type="application/json", ending="json")


@never_cache
@require_safe
def monitoring_csv(request: HttpRequest, hospital_id: uuid.UUID) -> HttpResponseBase:
    """Send the comparisons as CSV: one line a day, reference and signal."""
    hospital = _hospital(request, hospital_id)
    return _file(_as_csv(_runs(hospital)), content_type="text/csv; charset=utf-8", ending="csv")


def _file(content: str, *, content_type: str, ending: str) -> HttpResponse:
    name = f"monitoring-{timezone.localdate():%Y-%m-%d}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)


def _watched(request: HttpRequest) -> Any:
    user = current_user(request)
    if not (user.is_administrator and user.is_staff):
        raise Http404
    return hospitals_watched_by(user)


def _hospital(request: HttpRequest, hospital_id: uuid.UUID) -> Hospital:
    """Return a hospital that this administrator looks after; for anybody else the page does not exist."""
    hospital: Hospital = get_object_or_404(_watched(request), pk=hospital_id)
    return hospital


def _runs(hospital: Hospital) -> list[MonitoringRun]:
    """The latest runs of a hospital, oldest first."""
    return list(MonitoringRun.objects.filter(hospital=hospital).order_by("-day")[:LONGEST_DAYS])[::-1]


def _page(
    request: HttpRequest, hospital: Hospital, *, form: BaselineForm, status: int = HTTPStatus.OK
) -> HttpResponseBase:
    runs = _runs(hospital)
    latest = runs[-1] if runs else None
    of_version = [run for run in runs if latest is not None and run.model_version == latest.model_version]
    of_baseline = [run for run in of_version if latest is not None and run.baseline_from == latest.baseline_from]
    references = (
        (Compared.BASELINE, charts_of(of_baseline, compared=Compared.BASELINE)),
        (Compared.TRAINING, charts_of(of_version, compared=Compared.TRAINING)),
    )
    episodes = MonitoringEpisode.objects.filter(hospital=hospital)
    context = {
        "hospital": hospital,
        "run": latest,
        "references": [{"key": key.value, "label": key.label, "charts": charts} for key, charts in references],
        "open": episodes.filter(closed_at__isnull=True),
        "closed": episodes.filter(closed_at__isnull=False)[:SHOWN_EPISODES],
        "baselines": MonitoringBaseline.objects.filter(hospital=hospital).select_related("set_by")[:10],
        "policy": Policy(),
        "form": form,
        "is_one_of_many": hospitals_watched_by(current_user(request)).count() > 1,
    }
    return render(request, "portal/monitoring.html", context, status=status)


def _as_csv(runs: list[MonitoringRun]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    columns = ("effect", "p", "adjusted_p", "level", "reference_patients", "window_patients")
    writer.writerow(["day", "model_version", "compared_with", "signal", "warn_from", "alarm_from", *columns])
    floors = {signal.name: (signal.warn, signal.alarm) for signal in SIGNALS}
    for run in runs:
        for compared in Compared.values:
            for one in run.comparisons(compared):
                values = ["" if (value := getattr(one, name)) is None else value for name in columns]
                writer.writerow([run.day, run.model_version, compared, one.signal, *floors[one.signal], *values])
    return stream.getvalue()


def _as_json(hospital: Hospital, *, runs: list[MonitoringRun]) -> dict[str, Any]:
    episodes = MonitoringEpisode.objects.filter(hospital=hospital)
    policy = Policy()
    return {
        "hospital": hospital.name,
        "made_at": timezone.localtime().isoformat(),
        "policy": {
            "false_discovery": policy.false_discovery,
            "runs_needed": [policy.needed, policy.looked_at],
            "signals": [
                {"name": one.name, "family": one.family, "warn_from": one.warn, "alarm_from": one.alarm}
                for one in SIGNALS
            ],
        },
        "episodes": [
            {
                "compared_with": one.compared,
                "family": one.family,
                "level": one.level,
                "signals": one.signals,
                "model_version": one.model_version,
                "opened_at": one.opened_at.isoformat(),
                "mailed_at": one.mailed_at.isoformat() if one.mailed_at else None,
                "closed_at": one.closed_at.isoformat() if one.closed_at else None,
                "ending": one.ending,
            }
            for one in episodes
        ],
        "runs": [
            {
                "day": run.day.isoformat(),
                "model_version": run.model_version,
                "window_from": run.window_from.isoformat() if run.window_from else None,
                "window_until": run.window_until.isoformat() if run.window_until else None,
                "answers": run.answers,
                "patients": run.patients,
                "baseline_from": run.baseline_from.isoformat() if run.baseline_from else None,
                "baseline_until": run.baseline_until.isoformat() if run.baseline_until else None,
                "note": run.note,
                "training": run.training,
                "baseline": run.baseline,
            }
            for run in runs
        ],
    }

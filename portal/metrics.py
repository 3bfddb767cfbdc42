"""``/metrics``: the portal's figures as Prometheus reads them, counted in the database at each scrape.

Any number of web processes give the same answer, because none counts anything itself. Names and meanings stand in
docs/operations.md. Erasure and retention take rows away, so a counter may fall; Prometheus takes that for a restart.
"""

import hmac
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db.models import Count, Min, Q, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ml.models import EVERYWHERE, Problem
from portal.dashboard.serving import serving_card
from reports.models import Report
from studies.models import Analysis, InferenceRecord

DURATIONS_MS: Final = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000)
WAITS_MS: Final = (500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000)


class PortalCollector(Collector):
    """Asks the database, five times a scrape however much there is."""

    def collect(self) -> Iterable[Metric]:
        """Yield every figure."""
        yield from _analyses()
        yield from _answers()
        yield from _reports()
        yield from _problems()
        info = GaugeMetricFamily("ira_model", "1 for the version of the model that answers now.", labels=["version"])
        info.add_metric([str(serving_card().get("version", ""))], 1)
        yield info


@login_not_required
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape that brings the token. Without a token in the settings the address does not exist."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
        refusal = HttpResponse("Send the token of IRA_METRICS_TOKEN as a bearer token.\n", status=401)
        refusal["WWW-Authenticate"] = 'Bearer realm="metrics"'
        refusal["Content-Type"] = "text/plain; charset=utf-8"
        return refusal
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PortalCollector())
    response = HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    response["Cache-Control"] = "no-store"
    return response


def _analyses() -> Iterator[Metric]:
    states = GaugeMetricFamily("ira_analyses", "Analyses by state.", labels=["state"])
    counted = dict(Analysis.objects.order_by().values_list("state").annotate(n=Count("id")))
    for state in Analysis.State.values:
        states.add_metric([state], counted.get(state, 0))
    yield states
    oldest = Analysis.objects.filter(state=Analysis.State.QUEUED).aggregate(at=Min("queued_at"))["at"]
    waited = (timezone.now() - oldest).total_seconds() if oldest is not None else 0.0
    yield GaugeMetricFamily(
        "ira_queue_oldest_wait_seconds", "Age of the oldest waiting analysis.", value=max(0, waited)
    )


def _answers() -> Iterator[Metric]:
    """Answers by version, and two histograms: one pass over the records."""
    upto = {f"duration_{ms}": Count("id", filter=Q(duration_ms__lte=ms)) for ms in DURATIONS_MS}
    upto |= {f"wait_{ms}": Count("id", filter=Q(queue_wait_ms__lte=ms)) for ms in WAITS_MS}
    rows = (
        InferenceRecord.objects.order_by()
        .values("model_version")
        .annotate(n=Count("id"), duration=Sum("duration_ms"), wait=Sum("queue_wait_ms"), **upto)
    )
    answers = CounterMetricFamily("ira_answers", "Slices answered, by version of the model.", labels=["model_version"])
    found: list[dict[str, Any]] = [dict(row) for row in rows]
    for row in sorted(found, key=lambda row: row["model_version"]):
        answers.add_metric([row["model_version"]], row["n"])
    yield answers
    count = sum(row["n"] for row in found)
    for name, text, bounds, key in (
        ("ira_analysis_duration_seconds", "Time from the bytes of a slice to its answer.", DURATIONS_MS, "duration"),
        ("ira_queue_wait_seconds", "Time from the request to the attempt that answered.", WAITS_MS, "wait"),
    ):
        buckets = [(str(ms / 1000), sum(row[f"{key}_{ms}"] for row in found)) for ms in bounds]
        total_s = sum(row[key] or 0 for row in found) / 1000
        yield HistogramMetricFamily(name, text, buckets=[*buckets, ("+Inf", count)], sum_value=total_s)


def _reports() -> Iterator[Metric]:
    reports = GaugeMetricFamily("ira_reports", "Reports by state, superseded versions left out.", labels=["state"])
    counted = dict(Report.objects.filter(superseded_at=None).order_by().values_list("state").annotate(n=Count("id")))
    for state in Report.State.values:
        reports.add_metric([state], counted.get(state, 0))
    yield reports


def _problems() -> Iterator[Metric]:
    problems = CounterMetricFamily("ira_problems", "Errors by the name of their class.", labels=["problem"])
    for name, count in Problem.objects.filter(audience=EVERYWHERE).order_by("name").values_list("name", "count"):
        problems.add_metric([name], count)
    yield problems

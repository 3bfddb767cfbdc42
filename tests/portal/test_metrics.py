"""What Prometheus reads: valid, equal to the database, the same from each process, for nobody without the token."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from ml import events
from studies.models import Analysis, InferenceRecord
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, ImageFactory, ReportFactory
from tests.portal.dashboard.world import draw_work

pytestmark = pytest.mark.django_db
TOKEN = "a-token-of-the-test"


@pytest.fixture(autouse=True)
def _token(settings) -> None:
    settings.METRICS_TOKEN = TOKEN


def scrape(client: Client) -> dict[tuple[str, str], float]:
    """Return every sample by its name and the values of its labels."""
    response = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer ü"]
)
def test_nobody_reads_them_without_the_token(client: Client, authorization: str) -> None:
    client.force_login(AdministratorFactory(hospital=None, is_superuser=True))
    refused = client.get("/metrics", headers={"authorization": authorization})
    assert refused.status_code == 401
    assert refused["WWW-Authenticate"].startswith("Bearer")
    assert b"ira_" not in refused.content


def test_without_a_token_in_the_settings_there_is_nothing(client: Client, settings) -> None:
    settings.METRICS_TOKEN = ""
    for authorization in ("Bearer ", "Bearer", f"Bearer {TOKEN}"):
        assert client.get("/metrics", headers={"authorization": authorization}).status_code == 404


def test_every_sample_equals_a_recount(client: Client) -> None:
    draw_work(DoctorFactory(), seed=9, studies=10)
    ReportFactory(is_signed=True)
    waiting = AnalysisFactory(image=ImageFactory())
    Analysis.objects.filter(pk=waiting.pk).update(queued_at=timezone.now() - timedelta(seconds=90))
    for _ in range(3):
        events.record("training", message="It diverged.", level="error", problem="NotANumberError")
    found = scrape(client)
    states = list(Analysis.objects.values_list("state", flat=True))
    for state in Analysis.State.values:
        assert found["ira_analyses", state] == states.count(state)
    records = list(InferenceRecord.objects.all())
    for version in {record.model_version for record in records}:
        assert found["ira_answers_total", version] == sum(record.model_version == version for record in records)
    assert found["ira_analysis_duration_seconds_count", ""] == len(records)
    assert found["ira_analysis_duration_seconds_sum", ""] == pytest.approx(
        sum(one.duration_ms for one in records) / 1000
    )
    for bound in (0.05, 0.1, 0.5, 1.0):
        within = sum(record.duration_ms <= bound * 1000 for record in records)
        assert found["ira_analysis_duration_seconds_bucket", str(bound)] == within
    for bound in (0.5, 30.0, 60.0):
        within = sum(record.queue_wait_ms <= bound * 1000 for record in records)
        assert found["ira_queue_wait_seconds_bucket", str(bound)] == within
    assert found["ira_queue_wait_seconds_bucket", "+Inf"] == len(records)
    assert 90 <= found["ira_queue_oldest_wait_seconds", ""] < 300
    assert found["ira_reports", "signed"] == 1
    assert found["ira_problems_total", "NotANumberError"] == 3


def test_a_scrape_asks_the_same_however_much_there_is(client: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            scrape(client)
        return len(asked)

    draw_work(DoctorFactory(), seed=1, studies=1)
    few = queries()
    draw_work(DoctorFactory(), seed=2, studies=6)
    assert queries() == few <= 10


def test_an_empty_portal_has_figures_too(client: Client) -> None:
    found = scrape(client)
    assert found["ira_analyses", "queued"] == 0
    assert found["ira_queue_oldest_wait_seconds", ""] == 0
    assert found["ira_analysis_duration_seconds_count", ""] == 0

"""The administration as a whole: every list costs the same however long it is, and every search says what it finds."""

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.asserts import assertContains

from accounts.models import AccessEvent, Hospital, User
from ml.models import Deployment, Event, ModelVersion
from reports.models import Report
from studies.models import Analysis, Finding, Image, Import, ImportFile, Patient, Study
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, ImageFactory, ReportFactory
from tests.model_folders import registered

pytestmark = pytest.mark.django_db
OUR_APPS = ("accounts", "studies", "reports", "ml")
LISTS: tuple[type[Model], ...] = (
    User,
    Hospital,
    AccessEvent,
    Patient,
    Study,
    Image,
    Analysis,
    Finding,
    Import,
    ImportFile,
    Report,
    Event,
    ModelVersion,
    Deployment,
)


def address(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


def write_rows(*, count: int) -> None:
    """Write rows of every kind that the lists show, each with people and a hospital of its own."""
    for number in range(count):
        version = registered(f"v{count}.{number}")
        Deployment.objects.create(kind="promoted", version=version, replaced=version, by=DoctorFactory())
        report = ReportFactory()
        AnalysisFactory(image=ImageFactory(study=report.study), has_failed=True)
        doctor = DoctorFactory()
        batch = Import.objects.create(hospital=doctor.hospital, created_by=doctor, study_date=report.study.study_date)
        ImportFile.objects.create(batch=batch, position=1, name="slice.png", state="rejected", sentence="Refused.")
        Event.objects.create(kind="inference", message="Answered.", study_id=report.study.id, hospital_id=None)
        AccessEvent.objects.create(
            actor=DoctorFactory(), action="viewed", target_type="studies.study", target_id=report.study.id
        )


def test_every_list_asks_the_database_the_same_however_long_it_is(client: Client) -> None:
    client.force_login(AdministratorFactory(hospital=None, is_superuser=True))

    def queries() -> dict[str, int]:
        counts = {}
        for model in LISTS:
            with CaptureQueriesContext(connection) as asked:
                response = client.get(address(model))
            assert response.status_code == 200
            assert response.context["cl"].result_count > 0
            # What keeps the session alive is written now and then, and says nothing about the list.
            of_list = [query for query in asked if query["sql"].startswith("SELECT") and "session" not in query["sql"]]
            counts[model.__name__] = len(of_list)
        return counts

    write_rows(count=1)
    queries()
    few = queries()
    write_rows(count=4)
    assert queries() == few
    assert max(few.values()) <= 15


def test_every_search_of_our_lists_says_in_words_what_it_finds(client: Client) -> None:
    client.force_login(AdministratorFactory(hospital=None, is_superuser=True))
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label in OUR_APPS and model_admin.search_fields:
            assert model_admin.search_help_text, f"{model.__name__} has a search without a word about it"
            response = client.get(address(model))
            assertContains(response, '<label class="search-label" for="searchbar">Search</label>', html=True)

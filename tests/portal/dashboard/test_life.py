"""From promotion to the first answer on the dashboard, against rows that were written by hand."""

from datetime import timedelta

import pytest
from django.test import RequestFactory
from django.utils import timezone, translation

from ml.models import Deployment, ModelVersion
from portal.dashboard import life
from portal.dashboard.scope import Scope, scope_of
from studies.models import InferenceRecord
from tests.factories import AdministratorFactory, AnalysisFactory, answer

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _in_english():
    with translation.override("en-gb"):
        yield


def scope(user) -> Scope:
    request = RequestFactory().get("/")
    request.user = user
    return scope_of(request)


def root() -> Scope:
    return scope(AdministratorFactory(hospital=None, is_superuser=True))


def version(name: str, **values: object) -> ModelVersion:
    return ModelVersion.objects.create(version=name, sha256="0" * 64, card_sha256="0" * 64, **values)


def test_the_first_answer_after_a_promotion_is_found_and_what_came_before_is_not_it() -> None:
    new, idle = version("new-1", state="champion"), version("idle-1")
    now = timezone.now()
    before, first, second = (AnalysisFactory(is_done=True, result=answer(model_version="new-1")) for _ in range(3))
    for analysis, hours in ((before, 5), (first, 2), (second, 1)):
        InferenceRecord.objects.filter(analysis=analysis).update(created_at=now - timedelta(hours=hours))
    Deployment.objects.create(kind="promoted", version=idle, at=now - timedelta(hours=4), operator="test")
    Deployment.objects.create(kind="promoted", version=new, at=now - timedelta(hours=3), operator="test")
    rows = life.deployments(root()).table.rows
    assert [(row[2], row[4]) for row in rows] == [("new-1", pytest.approx(3600)), ("idle-1", None)]

"""The whole API against its own description: schemathesis sends what it allows and what it forbids, everywhere."""

import contextlib
import functools
from typing import Any

import pytest
import schemathesis
from django.db import transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from pytest_django.fixtures import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from accounts.models import ApiToken, Scope, User
from portal.api.views import Health
from portal.wsgi import application
from reports.models import BulkJob
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, ReportFactory, StudyFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("_no_limits")]
EXAMPLES, EXAMPLES_AT_LENGTH = 2, 50
load_all_checks()
# What is described is no promise that everything of that form is taken: a birth in the future is a date too. The others
# are about several requests in a row.
NOT_ASKED = {"positive_data_acceptance", "use_after_free", "ensure_resource_availability", "max_response_time"}
ASKED = CHECKS.get_by_names([name for name in CHECKS.get_all_names() if name not in NOT_ASKED])


@pytest.fixture
def _no_limits(settings: Settings) -> None:
    settings.API_TOKEN_REQUESTS_PER_MINUTE = settings.API_USER_REQUESTS_PER_MINUTE = 0
    settings.API_ANONYMOUS_REQUESTS_PER_MINUTE = 0


def token_of(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {ApiToken.issue(user, name='test', scopes=Scope.values, days=1)[1]}"}


def world(doctor: User) -> dict[str, Any]:
    """One of everything that this doctor may see, by the name that it has in addresses."""
    analysis = AnalysisFactory(image=ImageFactory(study=StudyFactory(created_by=doctor)), is_done=True)
    study = analysis.image.study
    report = ReportFactory(study=study)
    finding = analysis.findings.first()
    return {
        "patient_id": study.patient_id,
        "study_id": study.pk,
        "image_id": analysis.image_id,
        "analysis_id": analysis.pk,
        "finding_id": finding.pk,
        "lesion_id": finding.pk,
        "report_id": report.pk,
        "job_id": BulkJob.objects.start(kind="draft", studies=[study], by=doctor).pk,
        "number": 1,
    }


def failures_of(
    operation: Any, *, headers: dict[str, str], known: dict[str, Any], mode: GenerationMode, examples: int
) -> list[str]:
    """Send some requests to one address; return what went wrong. Nothing of them stays."""
    names = {parameter.name for parameter in operation.path_parameters}
    # What is forbidden may be the address itself.
    is_known = mode is GenerationMode.POSITIVE and names <= set(known)
    path = {name: str(known[name]) for name in names} if is_known else None
    found: list[str] = []

    @given(case=operation.as_strategy(mode, path_parameters=path))
    @hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        with transaction.atomic():
            try:
                case.call_and_validate(headers=headers, checks=ASKED)
            except BaseExceptionGroup as error:
                found.append(f"{operation.label}: {error.exceptions[0]}")
            transaction.set_rollback(True)

    # Where an address takes nothing, nothing can be forbidden.
    with contextlib.suppress(Unsatisfiable):
        ask()
    return sorted(set(found))


def failures(*, role: str, mode: GenerationMode, examples: int, named: str = "") -> list[str]:
    """Ask every address, or the one of this operation; return what went wrong."""
    doctor = DoctorFactory()
    known = world(doctor)
    headers = token_of(doctor if role == "doctor" else UserFactory())
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application, headers=headers)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    return [
        one
        for each in operations
        if not named or each.definition.raw["operationId"] == named
        for one in failures_of(each, headers=headers, known=known, mode=mode, examples=examples)
    ]


MODES = pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: str(mode.value)
)


@MODES
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_no_address_answers_otherwise_than_it_is_described(role: str, mode: GenerationMode) -> None:
    found = failures(role=role, mode=mode, examples=EXAMPLES)
    assert not found, "\n\n".join(found)


@pytest.mark.acceptance
@MODES
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_no_address_does_so_when_it_is_asked_at_length(role: str, mode: GenerationMode) -> None:
    found = failures(role=role, mode=mode, examples=EXAMPLES_AT_LENGTH)
    assert not found, "\n\n".join(found)


def test_an_answer_that_is_not_as_described_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # The wrapping keeps the description of the method that it stands for; without, the address has none.
    @functools.wraps(Health.get)
    def get(self: Health, request: Request) -> Response:
        return Response({"status": 7})

    monkeypatch.setattr(Health, "get", get)
    (found,) = failures(role="doctor", mode=GenerationMode.POSITIVE, examples=1, named="health")
    assert found.startswith("GET /api/v1/health/: ")

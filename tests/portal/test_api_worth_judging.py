"""What is worth judging, for programs: the page's list and reasons, and nothing that the first impression hides."""

import pytest

from accounts.models import Hospital, User
from studies.models import Study
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    ImageFactory,
    StudyFactory,
    UserFactory,
)
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def study(doctor: User) -> Study:
    study: Study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    return study


def test_an_unjudged_study_stands_there_with_its_reason(doctor: User, study: Study) -> None:
    StudyFactory(created_by=doctor)  # without an answer
    body = Program(doctor).get("worth-judging/").json()
    assert body["teaches_model"] is False
    (row,) = body["results"]
    assert (row["study_id"], row["patient"]["record_number"]) == (str(study.pk), study.patient.record_number)
    assert row["reason"].startswith("The model ")
    assert Program(doctor).get(row["study_url"]).status_code == 200
    Hospital.objects.update(teaches_model=True)
    assert Program(doctor).get("worth-judging/").json()["teaches_model"] is True


def test_what_is_judged_is_gone(doctor: User, study: Study) -> None:
    program = Program(doctor)
    assert program.post(f"slices/{study.images.get().pk}/class/", {"diagnosis": "normal"}).status_code == 201
    assert program.get("worth-judging/").json()["results"] == []


def test_before_the_first_impression_only_the_place_is_told(doctor: User, study: Study) -> None:
    Hospital.objects.update(reads_first=True)
    (row,) = Program(doctor).get("worth-judging/").json()["results"]
    assert row["reason"] == "Note your first impression, and the reason is shown."
    assert set(row) == {"study_id", "study_url", "study_date", "patient", "reason"}
    FirstImpressionFactory(study=study, doctor=doctor)
    (row,) = Program(doctor).get("worth-judging/").json()["results"]
    assert row["reason"].startswith("The model ")


def test_others_see_their_own_only(doctor: User, study: Study) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    assert Program(colleague).get("worth-judging/").json()["results"] == []
    stranger = DoctorFactory(hospital=doctor.hospital)
    grant_study(study, to=stranger, can_change=True)
    User.objects.filter(pk=stranger.pk).update(hospital=DoctorFactory().hospital)
    assert Program(User.objects.get(pk=stranger.pk)).get("worth-judging/").json()["results"] == []
    for other in (UserFactory(), DoctorFactory(approved_at=None)):
        assert is_problem(Program(other).get("worth-judging/"), 404)
    assert is_problem(Program(doctor, scopes=["write"]).get("worth-judging/"), 403, "read")

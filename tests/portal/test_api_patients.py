"""What patients do by the API with what is theirs: links to a report, who has looked, requests of erasure."""

import uuid

import pytest
from django.core import mail
from django.core.cache import cache

from accounts.models import AccessEvent, User
from reports.models import Report, ShareLink
from studies.models import ErasureRequest, Patient
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    OwnStudyFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    cache.clear()


@pytest.fixture
def reader() -> User:
    return UserFactory()


@pytest.fixture
def released(reader: User) -> Report:
    doctor = DoctorFactory()
    study = StudyFactory(created_by=doctor, patient=PatientFactory(created_by=doctor, user=reader))
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    return ReportFactory(study=study, is_released=True)


class TestShareLinks:
    def test_a_link_is_mailed_listed_and_ended(self, released: Report, reader: User) -> None:
        program = Program(reader)
        made = program.post(f"reports/{released.pk}/share-links/", {"email": "Aunt@Example.org", "days": 7})
        assert made.status_code == 201
        assert made.json()["recipient_email"] == "aunt@example.org"
        assert mail.outbox[-1].to == ["aunt@example.org"]
        # What opens the report is in the mail, and nowhere else.
        token = mail.outbox[-1].body.split("/reports/shared/")[1].split("/")[0]
        assert token not in made.content.decode()
        (row,) = program.get("share-links/").json()["results"]
        assert (row["id"], row["is_open"], row["opened_count"]) == (made.json()["id"], True, 0)
        for _turn in range(2):
            assert program.post(f"share-links/{row['id']}/revoke/").json()["is_open"] is False
        events = AccessEvent.objects.filter(target_id=row["id"]).order_by("sequence")
        assert list(events.values_list("action", flat=True)) == ["shared", "unshared"]

    def test_what_is_wrong_is_named_and_nothing_is_mailed(self, released: Report, reader: User) -> None:
        program, path = Program(reader), f"reports/{released.pk}/share-links/"
        for body in ({"email": "nobody", "days": 7}, {"email": "a@example.org", "days": 9999}, {"days": 7}):
            assert is_problem(program.post(path, body), 400)
        assert not ShareLink.objects.exists()

    def test_nobody_else_shares_lists_or_ends(self, released: Report, reader: User) -> None:
        link, _token = ShareLink.issue(released, by=reader, recipient_email="a@example.org", days=7)
        for stranger in (UserFactory(), released.study.created_by):
            program = Program(stranger)
            body = {"email": "a@example.org", "days": 7}
            assert is_problem(program.post(f"reports/{released.pk}/share-links/", body), 404)
            assert is_problem(program.post(f"share-links/{link.pk}/revoke/"), 404)
        assert ShareLink.objects.get().is_open


class TestOwnRecord:
    def test_who_has_looked(self, released: Report, reader: User) -> None:
        Program(released.study.created_by).get(f"studies/{released.study_id}/")
        page = Program(reader).get("my-record/history/").json()
        assert page["next"] is None
        assert is_problem(Program(reader).get("my-record/history/", {"page": "first"}), 400, "page")
        assert "looked at" in {row["deed"] for row in page["results"]}
        assert Program(UserFactory()).get("my-record/history/").json()["results"] == []

    def test_an_erasure_is_asked_for_and_taken_back(self, released: Report, reader: User) -> None:
        program = Program(reader)
        (record,) = program.get("my-record/").json()["records"]
        assert record["id"] == str(released.study.patient_id)
        asked = program.post("my-record/erasures/", {"patient": record["id"], "message": "Please."})
        assert (asked.status_code, asked.json()["state"]) == (201, "requested")
        assert is_problem(program.post("my-record/erasures/", {"patient": record["id"]}), 409, "already")
        path = f"my-record/erasures/{asked.json()['id']}/withdraw/"
        assert program.post(path).json()["state"] == "withdrawn"
        assert is_problem(program.post(path), 409)
        assert [row["state"] for row in program.get("my-record/erasures/").json()["results"]] == ["withdrawn"]

    def test_another_patients_record_does_not_exist(self, released: Report) -> None:
        program = Program(UserFactory())
        assert program.get("my-record/").json()["records"] == []
        assert is_problem(program.post("my-record/erasures/", {"patient": str(released.study.patient_id)}), 404)
        assert is_problem(program.post(f"my-record/erasures/{uuid.uuid4()}/withdraw/"), 404)
        assert not ErasureRequest.objects.exists()


class TestTeaching:
    def test_a_patient_says_for_each_record_whether_it_teaches(self, released: Report, reader: User) -> None:
        program, record = Program(reader), released.study.patient
        OwnStudyFactory(created_by=reader)  # in a record without a hospital, which is none of these
        (row,) = program.get("my-record/teaching/").json()["records"]
        assert row == {
            "id": str(record.pk),
            "hospital": record.hospital.name,
            "teaching": "",
            "teaches_model": False,
        }
        for word in ("refused", "allowed", ""):
            said = program.patch(f"my-record/teaching/{record.pk}/", {"teaching": word})
            assert (said.status_code, said.json()["teaching"]) == (200, word)
            assert Patient.objects.get(pk=record.pk).teaching == word
        assert AccessEvent.objects.filter(action="changed", target_id=record.pk, actor=reader).count() == 3

    def test_there_are_three_answers_and_no_other(self, released: Report, reader: User) -> None:
        path = f"my-record/teaching/{released.study.patient_id}/"
        for body in ({}, {"teaching": "perhaps"}, {"teaching": True}, {"teaching": None}):
            assert is_problem(Program(reader).patch(path, body), 400, "teaching")
        assert is_problem(Program(reader, scopes=["read"]).patch(path, {"teaching": "allowed"}), 403, "write")
        assert Patient.objects.get(pk=released.study.patient_id).teaching == ""

    def test_nobody_else_says_it(self, released: Report) -> None:
        record = released.study.patient
        for stranger in (UserFactory(), released.study.created_by, DoctorFactory()):
            program = Program(stranger)
            assert is_problem(program.patch(f"my-record/teaching/{record.pk}/", {"teaching": "allowed"}), 404)
        assert Program(UserFactory()).get("my-record/teaching/").json()["records"] == []
        assert Patient.objects.get(pk=record.pk).teaching == ""

    def test_the_record_of_an_own_upload_is_not_one_of_them(self, reader: User) -> None:
        own = OwnStudyFactory(created_by=reader).patient
        assert is_problem(Program(reader).patch(f"my-record/teaching/{own.pk}/", {"teaching": "allowed"}), 404)

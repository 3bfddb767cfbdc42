"""A patient's own uploads by the API: the page's consent, checks and ways to a hospital and back, for programs."""

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, Hospital, SentRequest, User
from studies import consent
from studies.handovers import take_over
from studies.models import Analysis, Consent, Handover, Study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    HospitalFactory,
    ImageFactory,
    OwnStudyFactory,
    StudyFactory,
    UserFactory,
    slice_png,
)
from tests.programs import Program, is_problem, png_file

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    return UserFactory()


@pytest.fixture
def program(person: User) -> Program:
    return Program(person)


@pytest.fixture
def hospital() -> Hospital:
    return DoctorFactory().hospital  # type: ignore[no-any-return]


def filled_in(*, seed: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "consent": "true",
        "consent_version": consent.CURRENT,
        "birth_date": "1960-05-17",
        "study_date": "2026-02-02",
        "clinical_question": "What is it?",
        "slice": png_file(slice_png(seed=seed)),
    } | changes


def fail(study: Study, sentence: str = "The file is damaged. Please upload it again.") -> None:
    Analysis.objects.claim(Analysis.objects.get(image__study=study).id).fail(sentence)  # type: ignore[union-attr]


class TestUpload:
    def test_the_wording_is_read_agreed_to_and_kept_with_the_upload(self, program: Program, person: User) -> None:
        shown = program.get("own-studies/consent/").json()
        assert shown == {"version": consent.CURRENT, "wording": list(consent.wording(consent.CURRENT))}
        made = program.send("own-studies/", filled_in(consent_version=shown["version"]))
        assert made.status_code == 201
        study = Study.objects.get()
        assert made["Location"] == made.json()["url"] == f"http://testserver/api/v1/own-studies/{study.pk}/"
        assert (study.patient.hospital, study.created_by) == (None, person)
        given = Consent.objects.get()
        assert (given.user, given.study_id, given.version) == (person, study.pk, shown["version"])
        assert made.json()["consent"]["version"] == shown["version"]
        assert (made.json()["state"], made.json()["is_finished"], made.json()["report_url"]) == ("queued", False, None)
        event = AccessEvent.objects.get(action="created", target_id=study.pk)
        assert program.token is not None
        assert (event.actor, event.note) == (person, f"API token {program.token.pk}")

    @pytest.mark.parametrize("word", ["", "false", "no", "0", "on", "maybe"])
    def test_only_a_plain_yes_is_consent(self, program: Program, word: str) -> None:
        refused = program.send("own-studies/", filled_in(consent=word))
        assert is_problem(refused, 400, "consent: Without your consent nothing is uploaded")
        assert not Study.objects.exists()

    @pytest.mark.parametrize(
        ("change", "field", "sentence"),
        [
            ({"consent_version": "1999-01"}, "consent", "The text has changed"),
            ({"consent_version": ""}, "consent", "The text has changed"),
            ({"birth_date": "2015-01-01"}, "birth_date", "Only adults can upload here"),
            ({"study_date": "1950-01-01"}, "study_date", "before"),
            ({"slice": ""}, "slice", "Please choose the file of the slice."),
            ({"slice": SimpleUploadedFile("x.png", b"I am a text.")}, "slice", "PNG"),
            ({"slice": [png_file(slice_png(seed=n), f"{n}.png") for n in (1, 2)]}, "slice", "one slice only"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field_and_nothing_is_stored(
        self, program: Program, change: dict[str, Any], field: str, sentence: str
    ) -> None:
        refused = program.send("own-studies/", filled_in(**change))
        assert is_problem(refused, 400, sentence)
        assert [one["field"] for one in refused.json()["errors"]] == [field]
        assert not Study.objects.exists()
        assert not Consent.objects.exists()

    def test_a_body_that_is_no_form_is_refused(self, program: Program) -> None:
        assert is_problem(program.post("own-studies/", {"consent": True}), 415, "multipart/form-data")

    def test_what_is_too_large_is_refused(self, program: Program, settings: Settings) -> None:
        settings.UPLOAD_MAX_BYTES = 1000
        assert is_problem(program.send("own-studies/", filled_in()), 413, "larger than")

    def test_sent_twice_with_the_same_key_it_is_one_upload(self, program: Program) -> None:
        first = program.send("own-studies/", filled_in(), Idempotency_Key="k-1")
        again = program.send("own-studies/", filled_in(), Idempotency_Key="k-1")
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json()["id"] == first.json()["id"] == str(Study.objects.get().pk)
        assert (first.get("Idempotent-Replayed"), again["Idempotent-Replayed"]) == (None, "true")
        other = program.send("own-studies/", filled_in(seed=2), Idempotency_Key="k-1")
        assert is_problem(other, 422, "new key")
        assert program.post(f"own-studies/{first.json()['id']}/", method="delete").status_code == 204
        assert is_problem(program.send("own-studies/", filled_in(), Idempotency_Key="k-1"), 409, "no longer there")
        assert not Study.objects.exists()

    def test_a_refused_upload_leaves_its_key_free(self, program: Program) -> None:
        assert program.send("own-studies/", filled_in(consent="no"), Idempotency_Key="k-1").status_code == 400
        assert not SentRequest.objects.exists()
        assert program.send("own-studies/", filled_in(), Idempotency_Key="k-1").status_code == 201

    def test_the_quota_of_the_page_holds(self, program: Program, person: User, settings: Settings) -> None:
        settings.OWN_UPLOADS_PER_MONTH = 1
        OwnStudyFactory(created_by=person)
        refused = program.send("own-studies/", filled_in())
        assert is_problem(refused, 409, "You have uploaded 1 slices within 30 days")
        settings.OWN_UPLOADS_PER_MONTH = 0
        assert is_problem(program.send("own-studies/", filled_in()), 409, "takes no uploads from patients")
        assert Study.objects.count() == 1

    def test_a_token_has_to_be_made_for_it(self, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        reading = Program(person, scopes=["read"])
        refused = reading.send("own-studies/", filled_in())
        assert is_problem(refused, 403, "upload")
        assert refused.json()["scope"] == "upload"
        assert is_problem(reading.post(f"own-studies/{study.pk}/", method="delete"), 403, "write")
        assert is_problem(reading.post(f"own-studies/{study.pk}/hand-over/", {}), 403, "write")
        assert reading.get(f"own-studies/{study.pk}/").status_code == 200
        assert Program(person, scopes=["upload"]).send("own-studies/", filled_in()).status_code == 201


class TestOneUpload:
    def test_the_list_has_ones_own_only_newest_first(self, program: Program, person: User, hospital: Hospital) -> None:
        first, second = OwnStudyFactory(created_by=person), OwnStudyFactory(created_by=person, is_done=True)
        OwnStudyFactory()
        rows = program.get("own-studies/").json()["results"]
        assert [row["id"] for row in rows] == [str(second.pk), str(first.pk)]
        assert [(row["state"], row["hospital"]) for row in rows] == [("succeeded", None), ("queued", None)]
        assert Program(UserFactory()).get("own-studies/").json()["results"] == []

    def test_it_tells_where_the_analysis_stands(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person, is_done=True)
        body = program.get(f"own-studies/{study.pk}/").json()
        assert (body["state"], body["is_finished"], body["is_own"], body["error"]) == ("succeeded", True, True, "")
        assert body["report_url"].endswith(f"/own-studies/{study.pk}/report/")
        assert AccessEvent.objects.filter(action="viewed", target_id=study.pk).count() == 1
        state = program.get(f"own-studies/{study.pk}/state/").json()
        assert state == {"id": str(study.pk), "state": "succeeded", "is_finished": True}
        # Waiting is no look.
        assert AccessEvent.objects.filter(action="viewed", target_id=study.pk).count() == 1

    def test_the_picture_is_the_stored_one(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        picture = program.get(program.get(f"own-studies/{study.pk}/").json()["picture_url"])
        assert picture["Content-Type"] == "image/png"
        assert picture["Cache-Control"] == "private, no-store"
        assert b"".join(picture.streaming_content) == study.images.get().file.read()

    def test_a_failed_one_is_tried_again(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        path = f"own-studies/{study.pk}/"
        assert is_problem(program.post(f"{path}retry/"), 409, "There is nothing to be tried again.")
        fail(study)
        assert program.get(path).json()["error"] == "The file is damaged. Please upload it again."
        again = program.post(f"{path}retry/")
        assert (again.status_code, again.json()["state"], again.json()["error"]) == (201, "queued", "")
        assert is_problem(program.post(f"{path}retry/"), 409, "nothing to be tried again")
        assert Analysis.objects.filter(image__study=study).count() == 2

    def test_what_doctors_add_after_taking_it_over_is_not_told(
        self, program: Program, person: User, hospital: Hospital
    ) -> None:
        study = OwnStudyFactory(created_by=person)
        fail(study)
        doctor = DoctorFactory(hospital=hospital)
        take_over(Handover.request(study, hospital=hospital, by=person), by=doctor, record_number="R-1")
        AnalysisFactory(image=ImageFactory(study=study, uploaded_by=doctor, seed=77), is_done=True)
        body = program.get(f"own-studies/{study.pk}/").json()
        assert (body["state"], body["is_own"], body["report_url"]) == ("failed", False, None)
        assert is_problem(program.post(f"own-studies/{study.pk}/retry/"), 409, "nothing to be tried again")

    def test_it_is_deleted_for_good_and_that_is_on_record(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person, is_done=True)
        gone = program.post(f"own-studies/{study.pk}/", method="delete")
        assert (gone.status_code, gone.content) == (204, b"")
        assert not Study.objects.exists()
        assert Consent.objects.get().withdrawn_at is not None
        assert AccessEvent.objects.get(action="deleted").target_id == study.pk
        assert is_problem(program.get(f"own-studies/{study.pk}/"), 404)
        assert is_problem(program.post(f"own-studies/{study.pk}/", method="delete"), 404)

    def test_what_is_being_analysed_is_not_deleted(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        Analysis.objects.claim(Analysis.objects.get().id)
        refused = program.post(f"own-studies/{study.pk}/", method="delete")
        assert is_problem(refused, 409, "It is being analysed at this moment")
        assert not AccessEvent.objects.filter(action="deleted").exists()

    @pytest.mark.parametrize(
        ("method", "rest", "body"),
        [
            ("get", "", None),
            ("get", "state/", None),
            ("get", "slice.png", None),
            ("delete", "", None),
            ("post", "retry/", None),
            ("post", "hand-over/", {"hospital": "00000000-0000-4000-8000-000000000000"}),
            ("post", "hand-over/withdraw/", None),
        ],
    )
    def test_for_everybody_else_it_does_not_exist(self, method: str, rest: str, body: Any, person: User) -> None:
        doctor = DoctorFactory()
        study = OwnStudyFactory(created_by=person, is_done=True)
        Handover.request(study, hospital=doctor.hospital, by=person)
        for stranger in (UserFactory(), doctor, DoctorFactory()):
            program, path = Program(stranger), f"own-studies/{study.pk}/{rest}"
            assert is_problem(program.get(path) if method == "get" else program.post(path, body, method=method), 404)
        assert Handover.objects.get().is_waiting

    def test_a_doctors_study_of_the_same_person_is_no_own_upload(self, program: Program, person: User) -> None:
        study = StudyFactory()
        study.patient.link_to(person)
        assert is_problem(program.get(f"own-studies/{study.pk}/"), 404)
        assert is_problem(program.post(f"own-studies/{study.pk}/", method="delete"), 404)
        assert Study.objects.filter(pk=study.pk).exists()


class TestHandOver:
    def test_a_hospital_is_chosen_asked_and_asked_no_more(
        self, program: Program, person: User, hospital: Hospital
    ) -> None:
        HospitalFactory()  # without doctors
        study = OwnStudyFactory(created_by=person)
        (row,) = program.get("hospitals/").json()
        assert row == {"id": str(hospital.pk), "name": hospital.name, "department": hospital.department}
        path = f"own-studies/{study.pk}/hand-over/"
        asked = program.post(path, {"hospital": row["id"]})
        assert asked.status_code == 201
        told = asked.json()["hand_over"]
        assert (told["state"], told["hospital"], told["decided_at"]) == ("requested", hospital.name, None)
        handover = Handover.objects.get()
        assert AccessEvent.objects.filter(action="shared", target_id=handover.pk, actor=person).exists()
        assert is_problem(program.post(path, {"hospital": row["id"]}), 409, "handed over already")
        refused = program.post(f"own-studies/{study.pk}/", method="delete")
        assert is_problem(refused, 409, "Please withdraw the request first.")
        assert program.post(f"{path}withdraw/").json()["hand_over"]["state"] == "withdrawn"
        assert is_problem(program.post(f"{path}withdraw/"), 409, "so nothing was done")
        assert AccessEvent.objects.filter(action="unshared", target_id=handover.pk).count() == 1

    def test_the_reason_of_a_hospital_is_told(self, program: Program, person: User, hospital: Hospital) -> None:
        study = OwnStudyFactory(created_by=person)
        handover = Handover.request(study, hospital=hospital, by=person)
        handover.decline(by=DoctorFactory(hospital=hospital), reason="Please see your own doctor.")
        told = program.get(f"own-studies/{study.pk}/").json()["hand_over"]
        assert (told["state"], told["reason"]) == ("declined", "Please see your own doctor.")

    def test_a_hospital_without_doctors_is_none(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        refused = program.post(f"own-studies/{study.pk}/hand-over/", {"hospital": str(HospitalFactory().pk)})
        assert is_problem(refused, 400, "Please choose a hospital from the list.")
        assert not Handover.objects.exists()

    def test_nothing_is_withdrawn_where_nobody_was_asked(self, program: Program, person: User) -> None:
        study = OwnStudyFactory(created_by=person)
        refused = program.post(f"own-studies/{study.pk}/hand-over/withdraw/")
        assert is_problem(refused, 409, "No hospital was asked to take this over.")


def test_a_session_needs_the_csrf_token_to_delete(person: User) -> None:
    study = OwnStudyFactory(created_by=person)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(person)
    refused = browser.delete(f"/api/v1/own-studies/{study.pk}/", json.dumps({}), content_type="application/json")
    assert is_problem(refused, 403, "X-CSRFToken")
    assert Study.objects.exists()

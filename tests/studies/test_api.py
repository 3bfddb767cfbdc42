"""The API of patients, studies and answers: what the pages do, for programs; nothing more is seen and nothing less."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, Hospital, SentRequest, User
from ml.errors import ModelFileError
from studies import classifying
from studies.models import Analysis, FindingReview, FirstImpression, Image, Patient, Study, StudyRead
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    HospitalFactory,
    ImageFactory,
    PatientFactory,
    StudyFactory,
    UserFactory,
    answer,
    outline_png,
    slice_png,
)
from tests.programs import Program, is_problem, png_file

pytestmark = pytest.mark.django_db
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def hospital() -> Hospital:
    return HospitalFactory()


@pytest.fixture
def doctor(hospital: Hospital) -> User:
    return DoctorFactory(hospital=hospital)


@pytest.fixture
def program(doctor: User) -> Program:
    return Program(doctor)


@pytest.fixture
def stranger() -> Program:
    return Program(DoctorFactory())


def actions(target: Any) -> list[str]:
    """What is on record about a row, in order."""
    events = AccessEvent.objects.filter(target_type=target._meta.label_lower, target_id=target.pk)
    return list(events.order_by("sequence").values_list("action", flat=True))


def analysed(doctor: User, **changes: Any) -> Analysis:
    """A slice with an answer, of a study of this doctor."""
    return AnalysisFactory(image=ImageFactory(study=StudyFactory(created_by=doctor)), is_done=True, **changes)


class TestPatients:
    body = {"record_number": "R-7", "family_name": "Muster", "given_name": "Eva", "birth_date": "1961-04-12"}

    def test_a_record_is_made_read_and_corrected(self, program: Program, doctor: User) -> None:
        made = program.post("patients/", self.body)
        assert made.status_code == 201
        patient = Patient.objects.get()
        assert made["Location"] == made.json()["url"] == f"http://testserver/api/v1/patients/{patient.pk}/"
        assert patient.hospital == doctor.hospital
        read = program.get(made["Location"]).json()
        assert (read["family_name"], read["has_login"], read["can_change"]) == ("Muster", False, True)
        changed = program.patch(f"patients/{patient.pk}/", {"email": "eva@example.org"})
        assert (changed.json()["email"], changed.json()["given_name"]) == ("eva@example.org", "Eva")
        assert actions(patient) == ["created", "viewed", "changed"]

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"birth_date": "2999-01-01"}, "birth_date"),
            ({"birth_date": "yesterday"}, "birth_date"),
            ({"record_number": ""}, "record_number"),
            ({"family_name": None}, "family_name"),
            ({"given_name": "x" * 81}, "given_name"),
            ({"given_name": "a\x00b"}, "given_name"),
            ({"nickname": "Evi"}, "nickname"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field(self, program: Program, change: dict[str, Any], field: str) -> None:
        refused = program.post("patients/", self.body | change)
        assert is_problem(refused, 400, field)
        assert [one["field"] for one in refused.json()["errors"]] == [field]
        assert not Patient.objects.exists()

    @pytest.mark.parametrize("body", [[], "text", 7, None])
    def test_a_body_is_an_object(self, program: Program, body: Any) -> None:
        assert program.post("patients/", body).status_code in (400, 415)

    def test_broken_json_and_other_kinds_of_bodies_are_refused(self, program: Program) -> None:
        headers = program.headers
        broken = program.client.post("/api/v1/patients/", "{", content_type="application/json", headers=headers)
        assert is_problem(broken, 400, "JSON")
        other = program.client.post("/api/v1/patients/", "<a/>", content_type="text/xml", headers=headers)
        assert is_problem(other, 415, "application/json")
        large = program.post("patients/", self.body | {"email": "x" * 3_000_000})
        assert is_problem(large, 413, "too large")

    def test_a_record_number_stands_once_in_a_hospital(self, program: Program, stranger: Program) -> None:
        assert program.post("patients/", self.body).status_code == 201
        assert is_problem(program.post("patients/", self.body), 400, "record number")
        assert stranger.post("patients/", self.body).status_code == 201

    def test_the_other_hospital_sees_nothing_and_the_reader_changes_nothing(
        self, program: Program, doctor: User, stranger: Program, hospital: Hospital
    ) -> None:
        study = StudyFactory(created_by=doctor)
        path = f"patients/{study.patient_id}/"
        assert is_problem(stranger.get(path), 404)
        assert is_problem(stranger.patch(path, {"email": ""}), 404)
        assert stranger.get("patients/").json()["results"] == []
        colleague = DoctorFactory(hospital=hospital)
        assert is_problem(Program(colleague).get(path), 404)
        grant_study(study, to=colleague, can_change=False)
        assert Program(colleague).get(path).json()["can_change"] is False
        assert is_problem(Program(colleague).patch(path, {"email": ""}), 403)

    def test_a_doctor_notes_what_a_patient_without_a_log_in_says_of_teaching(
        self, program: Program, doctor: User, hospital: Hospital
    ) -> None:
        study = StudyFactory(created_by=doctor)
        path = f"patients/{study.patient_id}/"
        assert program.get(path).json()["teaching"] == ""
        assert program.patch(path, {"teaching": "refused"}).json()["teaching"] == "refused"
        # What is not named stays.
        assert program.patch(path, {"given_name": "Eva"}).json()["teaching"] == "refused"
        reader = DoctorFactory(hospital=hospital)
        grant_study(study, to=reader, can_change=False)
        assert Program(reader).get(path).json()["teaching"] is None
        assert is_problem(Program(reader).patch(path, {"teaching": "allowed"}), 403, "not change it")

    def test_what_a_patient_with_a_log_in_says_of_teaching_is_theirs(
        self, program: Program, doctor: User, stranger: Program
    ) -> None:
        patient = PatientFactory(created_by=doctor, user=UserFactory(), teaching="refused")
        path = f"patients/{patient.pk}/"
        assert program.get(path).json()["teaching"] is None
        assert is_problem(program.patch(path, {"teaching": "allowed"}), 403, "said by the patient")
        assert program.patch(path, {"given_name": "Eva"}).status_code == 200
        assert is_problem(stranger.patch(path, {"teaching": "allowed"}), 404)
        patient.refresh_from_db()
        assert (patient.teaching, patient.given_name) == ("refused", "Eva")

    def test_pages_follow_each_other_by_key(self, program: Program, doctor: User) -> None:
        for number in range(30):
            PatientFactory(created_by=doctor, family_name=f"N{number:02}")
        first = program.get("patients/").json()
        second = program.get(first["next"]).json()
        names = [row["family_name"] for page in (first, second) for row in page["results"]]
        assert names == [f"N{number:02}" for number in range(30)]
        assert second["next"] is None
        assert [row["family_name"] for row in program.get("patients/", {"q": "N07"}).json()["results"]] == ["N07"]


class TestUpload:
    def fields(self, **changes: Any) -> dict[str, Any]:
        known = {
            "record_number": "R-9",
            "family_name": "Muster",
            "given_name": "Eva",
            "birth_date": "1961-04-12",
            "study_date": "2026-03-09",
            "clinical_question": "Nodule?",
            "slices": [png_file(slice_png(seed=1), "b2.png"), png_file(slice_png(seed=2), "b10.png")],
        }
        return {name: value for name, value in (known | changes).items() if value is not None}

    def test_a_study_is_taken_in_with_its_patient(self, program: Program, doctor: User) -> None:
        made = program.send("studies/", self.fields())
        assert made.status_code == 201, made.content
        study = Study.objects.get()
        assert made["Location"].endswith(f"/api/v1/studies/{study.pk}/")
        body = made.json()
        assert body["patient"]["record_number"] == "R-9"
        assert [row["number"] for row in body["slices"]] == [1, 2]
        assert {row["analysis"]["state"] for row in body["slices"]} == {"queued"}
        assert actions(study) == ["created"]
        state = program.get(f"studies/{study.pk}/state/").json()
        assert (state["is_finished"], state["counts"]) == (False, {"queued": 2})

    def test_of_a_patient_whom_one_sees(self, program: Program, doctor: User) -> None:
        patient = PatientFactory(created_by=doctor)
        new = {"record_number": None, "family_name": None, "given_name": None, "birth_date": None}
        made = program.send("studies/", self.fields(patient=str(patient.pk), **new))
        assert made.json()["patient"]["id"] == str(patient.pk)
        foreign = PatientFactory()
        refused = program.send("studies/", self.fields(patient=str(foreign.pk), **new))
        assert is_problem(refused, 400, "patient")
        assert Study.objects.count() == 1

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"slices": None}, "slices"),
            ({"slices": [png_file(b"no picture")]}, "slices"),
            ({"study_date": "2999-01-01"}, "study_date"),
            ({"study_date": None}, "study_date"),
            ({"birth_date": "2027-01-01"}, "birth_date"),
            ({"patient": "nonsense"}, "patient"),
        ],
    )
    def test_if_anything_is_wrong_nothing_is_stored(self, program: Program, change: dict[str, Any], field: str) -> None:
        refused = program.send("studies/", self.fields(**change), Idempotency_Key="k")
        assert is_problem(refused, 400)
        assert field in [one["field"] for one in refused.json()["errors"]]
        assert not Study.objects.exists()
        assert not Patient.objects.exists()
        assert not SentRequest.objects.exists()

    def test_too_much_is_refused_in_a_sentence(self, program: Program, settings: Settings) -> None:
        settings.UPLOAD_MAX_BYTES = 1000
        assert is_problem(program.send("studies/", self.fields()), 413, "larger than")

    def test_files_come_as_a_form(self, program: Program) -> None:
        assert is_problem(program.post("studies/", {"study_date": "2026-03-09"}), 415, "multipart/form-data")
        cut = program.client.post(
            "/api/v1/studies/", b"--x\r\n", content_type="multipart/form-data", headers=program.headers
        )
        assert is_problem(cut, 400, "damaged")

    def test_the_same_key_with_the_same_content_is_one_upload(self, program: Program) -> None:
        first = program.send("studies/", self.fields(), Idempotency_Key="a-1")
        again = program.send("studies/", self.fields(), Idempotency_Key="a-1")
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert "Idempotent-Replayed" not in first
        assert again["Idempotent-Replayed"] == "true"
        assert (Study.objects.count(), Image.objects.count(), Analysis.objects.count()) == (1, 2, 2)
        assert actions(Study.objects.get()) == ["created"]

    def test_the_same_key_with_other_content_is_a_mistake(self, program: Program) -> None:
        program.send("studies/", self.fields(), Idempotency_Key="a-1")
        for change in (
            {"clinical_question": "Other?"},
            {"slices": [png_file(slice_png(seed=3))]},
            {"slices": [png_file(slice_png(seed=2), "b2.png"), png_file(slice_png(seed=1), "b10.png")]},
        ):
            refused = program.send("studies/", self.fields(**change), Idempotency_Key="a-1")
            assert is_problem(refused, 422, "new key")
            assert refused.json()["type"].endswith(":key-reused")
        assert Study.objects.count() == 1

    def test_keys_are_each_persons_own_and_are_forgotten_after_a_day(self, program: Program, stranger: Program) -> None:
        first = program.send("studies/", self.fields(), Idempotency_Key="a-1").json()["id"]
        assert stranger.send("studies/", self.fields(), Idempotency_Key="a-1").json()["id"] != first
        SentRequest.objects.update(sent_at=timezone.now() - timedelta(hours=25))
        later = program.send("studies/", self.fields(record_number="R-10"), Idempotency_Key="a-1")
        assert later.status_code == 201
        assert later.json()["id"] != first

    def test_a_refused_upload_may_be_sent_corrected_under_its_key(self, program: Program) -> None:
        assert program.send("studies/", self.fields(study_date=""), Idempotency_Key="a-1").status_code == 400
        assert program.send("studies/", self.fields(), Idempotency_Key="a-1").status_code == 201

    def test_while_the_first_is_under_way_the_second_is_asked_to_wait(self, program: Program) -> None:
        program.send("studies/", self.fields(), Idempotency_Key="a-1")
        SentRequest.objects.update(result=None)
        waiting = program.send("studies/", self.fields(), Idempotency_Key="a-1")
        assert is_problem(waiting, 409, "under way")
        assert int(waiting["Retry-After"]) > 0
        # Its worker died after the commit: what it stored is found, not stored again.
        SentRequest.objects.update(sent_at=timezone.now() - timedelta(minutes=6))
        assert program.send("studies/", self.fields(), Idempotency_Key="a-1").status_code == 201
        assert Study.objects.count() == 1

    @pytest.mark.parametrize("key", ["", "x" * 201, "with space", "ä"])
    def test_a_key_is_a_key(self, program: Program, key: str) -> None:
        assert is_problem(program.send("studies/", self.fields(), Idempotency_Key=key), 400, "Idempotency-Key")

    def test_slices_are_added_once(self, program: Program, doctor: User) -> None:
        study = StudyFactory(created_by=doctor)
        files = {"slices": [png_file(slice_png(seed=5))]}
        made = program.send(f"studies/{study.pk}/slices/", files, Idempotency_Key="s")
        files = {"slices": [png_file(slice_png(seed=5))]}
        again = program.send(f"studies/{study.pk}/slices/", files, Idempotency_Key="s")
        assert (made.status_code, again.status_code, study.images.count()) == (201, 201, 1)
        files = {"slices": [png_file(slice_png(seed=5))]}
        assert is_problem(program.send(f"studies/{study.pk}/slices/", files), 400, "already slice 1")
        assert actions(study.images.get()) == ["created"]

    def test_slices_are_added_by_whoever_may_change_the_study(
        self, doctor: User, stranger: Program, hospital: Hospital
    ) -> None:
        study = StudyFactory(created_by=doctor)
        reader = DoctorFactory(hospital=hospital)
        grant_study(study, to=reader, can_change=False)
        for program, status in ((stranger, 404), (Program(reader), 403)):
            files = {"slices": [png_file(slice_png())]}
            assert is_problem(program.send(f"studies/{study.pk}/slices/", files), status)
        assert not study.images.exists()


class TestStudies:
    def test_the_answer_is_part_of_the_study(self, program: Program, doctor: User) -> None:
        analysis = analysed(doctor)
        body = program.get(f"studies/{analysis.study.pk}/").json()
        (part,) = body["slices"]
        assert body["is_ai_revealed"] is True
        assert part["answer"]["malignant_probability"] == pytest.approx(0.885)
        assert part["analysis"]["answer"] == part["answer"]
        (finding,) = part["findings"]
        assert (finding["source"], finding["probability"], finding["box"]) == ("model", 0.82, [40, 40, 10, 12])
        for url in (part["picture_url"], *(part["answer"][f"{n}_url"] for n in ("overlay", "mask", "activation"))):
            picture = program.get(url)
            assert (picture.status_code, picture["Content-Type"]) == (200, "image/png")
            assert picture.getvalue().startswith(b"\x89PNG")
        assert program.get(finding["outline_url"]).status_code == 200
        assert actions(analysis.study) == ["viewed"]
        assert actions(analysis) == ["viewed"] * 3
        assert StudyRead.objects.filter(study=analysis.study, doctor=doctor).exists()

    def test_waiting_is_not_looking(self, program: Program, doctor: User) -> None:
        analysis = analysed(doctor)
        state = program.get(f"studies/{analysis.study.pk}/state/").json()
        assert state == {
            "id": str(analysis.study.pk),
            "state": "succeeded",
            "is_finished": True,
            "counts": {"succeeded": 1},
        }
        assert actions(analysis.study) == []

    def test_why_an_analysis_failed_stands_in_its_sentence(self, program: Program, doctor: User) -> None:
        failed = AnalysisFactory(image=ImageFactory(study=StudyFactory(created_by=doctor)), has_failed=True)
        body = program.get(f"analyses/{failed.pk}/").json()
        assert (body["state"], body["answer"]) == ("failed", None)
        assert body["error"].startswith("The file is damaged.")

    def test_the_worklist_is_narrowed_down_as_in_the_pages(self, program: Program, doctor: User) -> None:
        done, other = analysed(doctor).study, StudyFactory(created_by=doctor, study_date="2020-01-01")

        def found(**asked: str) -> set[str]:
            return {row["id"] for row in program.get("studies/", asked).json()["results"]}

        both = {str(done.pk), str(other.pk)}
        assert found() == found(order="oldest") == found(whose="mine") == both
        assert found(state="succeeded") == found(diagnosis="adenocarcinoma") == {str(done.pk)}
        assert found(until="2020-06-01") == found(q=other.patient.family_name) == {str(other.pk)}
        assert found(patient=str(done.patient_id)) == {str(done.pk)}
        assert found(whose="shared") == set()

    @pytest.mark.parametrize(
        "asked", [{"state": "x"}, {"order": "x"}, {"since": "x"}, {"patient": "x"}, {"diagnosis": "x"}, {"whose": "x"}]
    )
    def test_a_filter_that_does_not_read_is_told(self, program: Program, asked: dict[str, str]) -> None:
        assert is_problem(program.get("studies/", asked), 400, *asked)

    @pytest.mark.parametrize("value", ["", " "])
    def test_a_filter_without_a_value_is_no_request_for_everything(
        self, program: Program, doctor: User, value: str
    ) -> None:
        asked = dict.fromkeys(("state", "order", "since", "until", "patient", "diagnosis", "whose"), value)
        assert is_problem(program.get("studies/", asked), 400, *asked)
        assert is_problem(program.get("reports/", {"state": value, "study": value}), 400, "state", "study")
        assert program.get("studies/", {"q": value}).status_code == 200, "no words are no narrowing"

    def test_an_order_asked_for_by_a_program_changes_nobodys_pages(self, doctor: User) -> None:
        program = Program(doctor)
        program.client.force_login(doctor)
        program.get("studies/", {"order": "oldest"})
        assert "worklist_order" not in program.client.session

    def test_two_hospitals_side_by_side(self, program: Program, doctor: User, stranger: Program) -> None:
        analysis = analysed(doctor)
        image, study = analysis.image, analysis.study
        finding = analysis.findings.get()
        read = [
            f"studies/{study.pk}/",
            f"studies/{study.pk}/state/",
            f"slices/{image.pk}/",
            f"slices/{image.pk}/slice.png",
            f"slices/{image.pk}/judged.png",
            f"slices/{image.pk}/analyses/",
            f"analyses/{analysis.pk}/",
            f"analyses/{analysis.pk}/overlay.png",
            f"analyses/{analysis.pk}/mask.png",
            f"analyses/{analysis.pk}/activation.png",
            f"findings/{finding.pk}/reviews/",
            f"findings/{finding.pk}/outline.png",
        ]
        for path in read:
            assert program.get(path).status_code == 200, path
            assert is_problem(stranger.get(path), 404)
            assert is_problem(Program(UserFactory()).get(path), 404)
            assert is_problem(Program(None).get(path), 401)
        assert stranger.get("studies/").json()["results"] == []
        written = {
            f"studies/{study.pk}/first-impression/": {"diagnosis": "normal", "suspicion": 1},
            f"studies/{study.pk}/access/": {"colleague": str(stranger.token.user_id)},  # type: ignore[union-attr]
            f"findings/{finding.pk}/reviews/": {"verdict": "accepted"},
            f"slices/{image.pk}/findings/": {"diameter_px": 5},
            f"slices/{image.pk}/class/": {"diagnosis": "normal"},
            f"slices/{image.pk}/analyses/": None,
            f"analyses/{analysis.pk}/cancel/": None,
        }
        for path, body in written.items():
            assert is_problem(stranger.post(path, body), 404)
        assert not FindingReview.objects.exists()

    def test_marks_count_those_that_one_sees(self, program: Program, doctor: User) -> None:
        mine, foreign = analysed(doctor).study, StudyFactory()
        body = {"studies": [str(mine.pk), str(foreign.pk)], "is_read": True}
        assert program.post("studies/mark/", body).json() == {"count": 1}
        assert StudyRead.objects.get().study == mine
        assert program.post("studies/mark/", body | {"is_read": False}).json() == {"count": 1}
        assert not StudyRead.objects.exists()

    def test_a_study_is_shared_within_the_hospital(self, program: Program, doctor: User, hospital: Hospital) -> None:
        study, colleague = StudyFactory(created_by=doctor), DoctorFactory(hospital=hospital)
        assert [row["id"] for row in program.get("colleagues/").json()] == [str(colleague.pk)]
        path = f"studies/{study.pk}/access/"
        people = program.post(path, {"colleague": str(colleague.pk)}).json()
        assert {row["id"]: row["can_change"] for row in people} == {str(doctor.pk): True, str(colleague.pk): False}
        assert Program(colleague).get(f"studies/{study.pk}/").json()["can_change"] is False
        assert is_problem(Program(colleague).get(path), 403)
        assert is_problem(program.post(path, {"colleague": str(DoctorFactory().pk)}), 400, "colleague")
        assert actions(study)[0] == "changed"

    def test_analysing_again_and_taking_out_of_the_queue(self, program: Program, doctor: User) -> None:
        analysis = analysed(doctor)
        path = f"slices/{analysis.image_id}/analyses/"
        made = program.post(path)
        assert made.status_code == 201
        assert made.json()["state"] == "queued"
        assert is_problem(program.post(path), 409, "already waiting")
        assert program.post(f"analyses/{made.json()['id']}/cancel/").json()["state"] == "cancelled"
        assert is_problem(program.post(f"analyses/{made.json()['id']}/cancel/"), 409)
        assert [row["state"] for row in program.get(path).json()] == ["cancelled", "succeeded"]

    def test_what_failed_is_analysed_again(self, program: Program, doctor: User) -> None:
        failed = AnalysisFactory(image=ImageFactory(study=StudyFactory(created_by=doctor)), has_failed=True)
        again = program.post("studies/retry/", {"studies": [str(failed.study.pk), NOWHERE]})
        assert (again.status_code, again.json()) == (202, {"count": 1})
        assert failed.image.latest_analysis.state == "queued"  # type: ignore[union-attr]


class TestReadFirst:
    """Where the hospital reads first, no program is told what the software said before the first impression."""

    @pytest.fixture
    def analysis(self, doctor: User, hospital: Hospital) -> Analysis:
        hospital.reads_first = True
        hospital.save()
        return analysed(doctor)

    def test_nothing_tells_of_the_answer(self, program: Program, analysis: Analysis) -> None:
        study, image, finding = analysis.study, analysis.image, analysis.findings.get()
        for path in (
            "studies/",
            f"studies/{study.pk}/",
            f"slices/{image.pk}/",
            f"slices/{image.pk}/analyses/",
            f"analyses/{analysis.pk}/",
        ):
            body = program.get(path)
            assert body.status_code == 200
            assert not [word for word in (b"0.885", b"0.82", b"0.71", b"test-1", b"15.6") if word in body.content]
        (row,) = program.get("studies/").json()["results"]
        assert (row["is_ai_revealed"], row["malignant_probability"], row["top_class"]) == (False, None, None)
        for path in (
            f"analyses/{analysis.pk}/overlay.png",
            f"analyses/{analysis.pk}/mask.png",
            f"analyses/{analysis.pk}/activation.png",
            f"slices/{image.pk}/judged.png",
            f"findings/{finding.pk}/outline.png",
            f"findings/{finding.pk}/reviews/",
        ):
            assert is_problem(program.get(path), 403, "first impression")
        for path, sent in (
            (f"findings/{finding.pk}/reviews/", {"verdict": "accepted"}),
            (f"slices/{image.pk}/findings/", {"diameter_px": 5}),
            (f"slices/{image.pk}/class/", {"diagnosis": "normal"}),
        ):
            assert is_problem(program.post(path, sent), 403, "first impression")
        assert program.get(f"slices/{image.pk}/slice.png").status_code == 200

    def test_the_first_impression_reveals_it_to_whoever_noted_it(
        self, program: Program, analysis: Analysis, hospital: Hospital
    ) -> None:
        colleague = DoctorFactory(hospital=hospital)
        grant_study(analysis.study, to=colleague, can_change=True)
        path = f"studies/{analysis.study.pk}/first-impression/"
        body = {"diagnosis": "adenocarcinoma", "suspicion": 4, "note": "Spiculated."}
        assert program.post(path, body).status_code == 201
        assert program.post(path, body).status_code == 200
        again = program.post(path, body | {"suspicion": 1})
        assert is_problem(again, 409)
        assert again.json()["latest"]["suspicion"] == 4
        shown = program.get(f"studies/{analysis.study.pk}/").json()
        assert shown["first_impression"]["note"] == "Spiculated."
        assert shown["slices"][0]["answer"]["model_version"] == "test-1"
        other = Program(colleague).get(f"studies/{analysis.study.pk}/").json()
        assert (other["first_impression"], other["slices"][0]["answer"]) == (None, None)
        assert FirstImpression.objects.count() == 1

    def test_asking_the_model_directly_is_no_way_round(
        self, program: Program, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(classifying, "analyse", lambda *args, **kwargs: answer())
        with analysis.image.file.open("rb") as stored:
            picture = stored.read()
        refused = program.send("classify/", {"slice": png_file(picture)})
        assert is_problem(refused, 403, "first impression")
        body = {"diagnosis": "unsure", "suspicion": 3}
        program.post(f"studies/{analysis.study.pk}/first-impression/", body)
        assert program.send("classify/", {"slice": png_file(picture)}).status_code == 200


class TestJudgements:
    def test_a_finding_is_accepted_corrected_and_its_history_kept(self, program: Program, doctor: User) -> None:
        analysis = analysed(doctor)
        finding = analysis.findings.get()
        path = f"findings/{finding.pk}/reviews/"
        first = program.post(path, {"verdict": "accepted"})
        assert first.status_code == 201
        assert program.post(path, {"verdict": "accepted"}).status_code == 200
        stale = program.post(path, {"verdict": "rejected"})
        assert is_problem(stale, 409)
        assert stale.json()["latest"]["id"] == first.json()["id"]
        outline = __import__("base64").b64encode(outline_png()).decode()
        corrected = program.post(
            path, {"verdict": "corrected", "seen": first.json()["id"], "malignancy": 5, "outline_png": outline}
        )
        assert corrected.status_code == 201, corrected.content
        assert corrected.json()["box"] == [30, 20, 12, 8]
        assert program.get(corrected.json()["outline_url"]).getvalue().startswith(b"\x89PNG")
        assert [row["verdict"] for row in program.get(path).json()] == ["accepted", "corrected"]
        (shown,) = program.get(f"slices/{analysis.image_id}/").json()["findings"]
        assert (shown["malignancy"], shown["is_resized"], shown["probability"]) == (5, True, 0.82)
        assert shown["latest_review"] == corrected.json()["id"]
        review = FindingReview.objects.get(revision=2)
        assert actions(review) == ["created", "viewed"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"verdict": "wonderful"},
            {"verdict": "added"},
            {"verdict": "corrected"},
            {"verdict": "corrected", "diameter_mm": 4},
            {"verdict": "corrected", "diameter_px": 100_000},
            {"verdict": "corrected", "malignancy": 6},
            {"verdict": "corrected", "outline_png": "no base64!"},
            {"verdict": "corrected", "outline_png": "bm90IGEgcG5n"},
            {"verdict": "accepted", "seen": "nonsense"},
        ],
    )
    def test_what_cannot_be_stored_is_told(self, program: Program, doctor: User, body: dict[str, Any]) -> None:
        finding = analysed(doctor).findings.get()
        assert is_problem(program.post(f"findings/{finding.pk}/reviews/", body), 400)
        assert not FindingReview.objects.exists()

    def test_a_finding_is_added_once(self, program: Program, doctor: User) -> None:
        image = analysed(doctor).image
        body = {"diameter_px": 9, "diagnosis": "adenocarcinoma", "id": "7b1c9e9e-6f0c-4c39-b77b-0ad2f3b4c5d6"}
        made = program.post(f"slices/{image.pk}/findings/", body)
        again = program.post(f"slices/{image.pk}/findings/", body)
        assert (made.status_code, again.status_code) == (201, 200)
        assert made.json()["lesion_id"] == body["id"]
        other = program.post(f"slices/{image.pk}/findings/", body | {"diameter_px": 10})
        assert is_problem(other, 409)
        assert is_problem(program.post(f"slices/{image.pk}/findings/", {}), 400, "draw around")
        rejected = program.post(f"findings/{body['id']}/reviews/", {"verdict": "rejected", "seen": made.json()["id"]})
        assert rejected.status_code == 201

    def test_the_class_of_a_slice(self, program: Program, doctor: User) -> None:
        image = analysed(doctor).image
        path = f"slices/{image.pk}/class/"
        made = program.post(path, {"diagnosis": "normal"})
        assert made.status_code == 201
        assert program.post(path, {"diagnosis": "normal"}).status_code == 200
        assert is_problem(program.post(path, {"diagnosis": "unsure"}), 409)
        assert program.post(path, {"diagnosis": "unsure", "seen": made.json()["id"]}).status_code == 201
        assert program.get(f"slices/{image.pk}/").json()["class_review"]["diagnosis"] == "unsure"

    def test_who_may_only_read_judges_nothing(self, doctor: User, hospital: Hospital) -> None:
        analysis = analysed(doctor)
        reader = DoctorFactory(hospital=hospital)
        grant_study(analysis.study, to=reader, can_change=False)
        program = Program(reader)
        for path, body in (
            (f"findings/{analysis.findings.get().pk}/reviews/", {"verdict": "accepted"}),
            (f"slices/{analysis.image_id}/findings/", {"diameter_px": 5}),
            (f"slices/{analysis.image_id}/class/", {"diagnosis": "normal"}),
            (f"slices/{analysis.image_id}/analyses/", None),
        ):
            assert is_problem(program.post(path, body), 403)


class TestModel:
    def test_version_and_figures_are_for_everybody_who_is_logged_in(self, program: Program) -> None:
        body = program.get("model/").json()
        assert body["version"]
        assert "adenocarcinoma" in body["classes"]
        assert body["figures"]
        assert Program(UserFactory()).get("model/").status_code == 200
        assert is_problem(Program(None).get("model/"), 401)

    def test_without_a_model_it_says_so(self, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path))
        assert is_problem(program.get("model/"), 503)
        broken = program.get("health/")
        assert (broken.status_code, broken.json()["checks"]["model"]) == (503, "failed")


class TestClassify:
    @pytest.fixture(autouse=True)
    def _places(self) -> Any:
        classifying._places.cache_clear()
        yield
        classifying._places.cache_clear()

    def test_one_slice_is_answered_at_once_and_nothing_is_stored(self, program: Program, doctor: User) -> None:
        answered = program.send("classify/", {"slice": png_file(slice_png(seed=3, side_px=128))})
        assert answered.status_code == 200, answered.content
        body = answered.json()
        assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert body["top_class"] == max(body["probabilities"], key=body["probabilities"].get)
        assert 0 <= body["malignant_probability"] <= 1
        assert (body["width"], body["height"]) == (128, 128)
        assert [model.objects.count() for model in (Study, Image, Analysis)] == [0, 0, 0]
        event = AccessEvent.objects.get(action="viewed")
        assert (event.actor, event.patient_id) == (doctor, None)
        assert event.note.startswith(f"classified by {body['model_version']}, without storing it: slice ")

    def test_it_is_for_doctors(self) -> None:
        assert is_problem(Program(UserFactory()).send("classify/", {"slice": png_file(slice_png())}), 404)
        assert is_problem(Program(None).send("classify/", {"slice": png_file(slice_png())}), 401)

    @pytest.mark.parametrize("files", [{}, {"slice": [png_file(b"x"), png_file(b"y")]}, {"slice": png_file(b"GIF89a")}])
    def test_a_refused_file_is_told_why(self, program: Program, files: dict[str, Any]) -> None:
        assert is_problem(program.send("classify/", files), 400, "slice")

    def test_while_the_process_is_busy_it_refuses_and_says_until_when(
        self, program: Program, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        settings.API_CLASSIFY_TIMEOUT_S = 0.2
        release = threading.Event()

        def slow(*args: Any, **kwargs: Any) -> Any:
            release.wait(10)
            return answer()

        monkeypatch.setattr(classifying, "analyse", slow)
        late = program.send("classify/", {"slice": png_file(slice_png())})
        assert is_problem(late, 503, "takes too long")
        assert int(late["Retry-After"]) > 0
        # The thread still works, so its place is not free.
        busy = program.send("classify/", {"slice": png_file(slice_png())})
        assert is_problem(busy, 503, "Another slice")
        assert busy.json()["type"].endswith(":busy")
        release.set()
        give_up_at = time.monotonic() + 5
        while (free := program.send("classify/", {"slice": png_file(slice_png())})).status_code == 503:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert free.status_code == 200

    def test_a_refused_slice_gives_its_place_back(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise ModelFileError("no model in /somewhere")

        for _turn in range(2):
            assert program.send("classify/", {"slice": png_file(b"no picture")}).status_code == 400
        monkeypatch.setattr(classifying, "analyse", broken)
        for _turn in range(2):
            refused = program.send("classify/", {"slice": png_file(slice_png())})
            assert is_problem(refused, 503, "cannot be loaded")
            assert "/somewhere" not in refused.json()["detail"]

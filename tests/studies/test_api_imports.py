"""Bulk imports by the API: begun, sent in parts, started, watched, answered; the same as by the pages."""

import uuid
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AccessEvent, User
from studies.models import Import, ImportFile, Patient, Study
from tests.factories import DoctorFactory, PatientFactory, slice_png
from tests.programs import Program, is_problem, png_file
from tests.studies.bulk import ct, run, zipped

pytestmark = pytest.mark.django_db
BEGIN = {"study_date": "2026-03-09", "clinical_question": "Nodule?"}


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def program(doctor: User) -> Program:
    return Program(doctor)


def begun(program: Program, **changes: Any) -> Any:
    answer = program.post("imports/", BEGIN | changes)
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_files_are_sent_in_parts_and_each_gets_its_line(program: Program, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    made = begun(program, patient=str(patient.pk), announced_files=3)
    first = program.send(made["files_url"], {"first": "0", "files": [png_file(slice_png(seed=1), "a.png")]})
    assert first.json() == {"received": 1}
    rest = {"first": "1", "files": [png_file(slice_png(seed=2), "b.png"), png_file(b"no picture", "c.png")]}
    for _turn in range(2):
        assert program.send(made["files_url"], rest | {"path": ["x/b.png", "x/c.png"]}).json() == {"received": 3}
        rest["files"] = [png_file(slice_png(seed=2), "b.png"), png_file(b"no picture", "c.png")]
    # Asking twice does nothing the second time.
    started = [program.post(f"imports/{made['id']}/start/") for _turn in range(2)]
    assert [(one.status_code, one.json()["state"]) for one in started] == [(202, "reading")] * 2
    run(Import.objects.get())
    done = program.get(made["url"]).json()
    assert (done["state"], done["progress"]["accepted"], done["progress"]["rejected"]) == ("finished", 2, 1)
    assert [one["study_id"] for one in done["examinations"]] == [str(Study.objects.get().pk)]
    lines = program.get(made["files_url"]).json()["results"]
    assert [(line["name"], line["state"]) for line in lines] == [
        ("a.png", "accepted"),
        ("x/b.png", "accepted"),
        ("x/c.png", "rejected"),
    ]
    assert lines[2]["reason"].endswith(".")
    assert [line["position"] for line in program.get(made["files_url"], {"state": "rejected"}).json()["results"]] == [2]
    assert is_problem(program.get(made["files_url"], {"state": "lost"}), 400, "state")


def test_whose_the_files_are_is_asked_and_answered(program: Program, doctor: User) -> None:
    made = begun(program)
    archive = SimpleUploadedFile("all.zip", zipped({"1.dcm": ct(0), "2.dcm": ct(5)}), content_type="application/zip")
    program.send(made["files_url"], {"first": "0", "files": [archive]})
    program.post(f"imports/{made['id']}/start/")
    run(Import.objects.get())
    asked = program.get(made["url"]).json()
    assert asked["progress"]["asked"] == 2
    (examination,) = asked["examinations"]
    assert examination["record_number"] == "R-1"
    assert is_problem(program.post(examination["answer_url"], {"patient": str(PatientFactory().pk)}), 400, "patient")
    person = {"record_number": "R-1", "family_name": "A", "given_name": "B", "birth_date": "1961-04-12"}
    assert program.post(examination["answer_url"], person).status_code == 200
    assert is_problem(program.post(examination["answer_url"], {"leave_out": True}), 409)
    run(Import.objects.get())
    assert Study.objects.get().patient == Patient.objects.get(record_number="R-1", hospital=doctor.hospital)
    assert program.get(made["url"]).json()["progress"]["accepted"] == 2


def test_files_may_be_left_out_and_uploads_discarded(program: Program) -> None:
    made = begun(program)
    assert is_problem(program.post(f"imports/{made['id']}/start/"), 409, "No file has arrived")
    program.send(made["files_url"], {"first": "0", "files": [png_file(slice_png())]})
    program.post(f"imports/{made['id']}/start/")
    run(Import.objects.get())
    (examination,) = program.get(made["url"]).json()["examinations"]
    left = program.post(examination["answer_url"], {"leave_out": True}).json()
    assert (left["progress"]["asked"], left["progress"]["rejected"]) == (0, 1)
    assert left["examinations"][0]["answer_url"] is None
    other = begun(program)
    assert program.post(f"imports/{other['id']}/discard/").json()["state"] == "abandoned"
    assert is_problem(program.send(other["files_url"], {"first": "0", "files": [png_file(slice_png())]}), 409)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"first": "0"}, "files"),
        ({"first": "-1", "files": [png_file(b"x")]}, "first"),
        ({"first": "²", "files": [png_file(b"x")]}, "first"),
        ({"first": "0", "files": [png_file(b"x")], "path": ["a", "b"]}, "path"),
    ],
)
def test_what_is_wrong_with_a_part_is_named(program: Program, fields: dict[str, Any], field: str) -> None:
    made = begun(program)
    refused = program.send(made["files_url"], fields)
    assert is_problem(refused, 400)
    assert [one["field"] for one in refused.json()["errors"]] == [field]
    assert not ImportFile.objects.exists()


def test_an_import_that_is_begun_twice_under_one_key_is_one(program: Program) -> None:
    key = {"Idempotency_Key": "night-7"}
    first, again = (program.post("imports/", BEGIN, **key) for _turn in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again["Idempotent-Replayed"] == "true"
    assert Import.objects.count() == 1
    assert is_problem(program.post("imports/", BEGIN | {"clinical_question": "Other?"}, **key), 422)


def test_only_whoever_sent_it_sees_it_and_a_token_needs_the_scope(program: Program, doctor: User) -> None:
    made = begun(program)
    assert [row["id"] for row in program.get("imports/").json()["results"]] == [made["id"]]
    colleague = Program(DoctorFactory(hospital=doctor.hospital))
    assert is_problem(colleague.get(made["url"]), 404)
    assert colleague.get("imports/").json()["results"] == []
    assert is_problem(program.get(f"imports/{uuid.uuid4()}/"), 404)
    assert is_problem(Program(doctor, scopes=["read"]).post("imports/", BEGIN), 403, "upload")
    assert AccessEvent.objects.filter(action="created", target_id=made["id"]).count() == 1

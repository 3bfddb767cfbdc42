"""The pages of bulk imports, as a browser with and without JavaScript asks for them."""

import uuid
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import AccessEvent, User
from studies.models import Import, ImportFile, Patient
from tests.factories import DoctorFactory, PatientFactory, slice_png
from tests.studies.bulk import ct, run, sent

pytestmark = pytest.mark.django_db

CREATE = reverse("studies:import_create")


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def page(client: Client, doctor: User) -> Client:
    client.force_login(doctor)
    return client


def upload(name: str = "a.png", content: bytes | None = None) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, slice_png() if content is None else content)


def form(**changes: object) -> dict[str, object]:
    return {"token": str(uuid.uuid4()), "patient": "", "study_date": "2026-03-09"} | changes


def address(name: str, batch: Import) -> str:
    return reverse(f"studies:{name}", kwargs={"import_id": batch.id})


def test_without_javascript_the_files_come_along_and_it_starts_at_once(page: Client, doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    sent_form = form(patient=str(patient.id), loose_files=[upload("a.png"), upload("b.png", b"no")], folder=[upload()])
    response = page.post(CREATE, sent_form)
    batch = Import.objects.get()
    assert response.headers["Location"] == address("import_detail", batch)
    assert (batch.state, batch.patient, batch.files.count()) == (Import.State.READING, patient, 3)
    assert page.post(CREATE, sent_form).status_code == 302, "the same form again"
    assert Import.objects.count() == 1
    assert batch.files.count() == 3
    found = run(batch)
    text = page.get(address("import_detail", found)).content.decode()
    assert "Duplicate of" in text
    assert "not a picture of a kind" in text


def test_uploads_are_spooled_to_the_private_store_and_nothing_else_stays(page: Client) -> None:
    page.post(CREATE, form(loose_files=[upload("a.png"), upload("b.png", b"")]))
    kept = [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
    assert [path.relative_to(settings.MEDIA_ROOT).parts[0] for path in kept] == ["imports"] * len(kept)
    assert len(kept) == Import.objects.get().files.count()
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)


def test_without_files_the_form_says_so_and_keeps_what_was_typed(page: Client) -> None:
    response = page.post(CREATE, form(clinical_question="Kept?"))
    assert response.status_code == 400
    assert "Please choose the files" in response.content.decode()
    assert "Kept?" in response.content.decode()
    assert not Import.objects.exists()


def test_pain_02_a_request_that_is_too_large_is_refused_with_a_sentence(page: Client, settings) -> None:
    settings.IMPORT_MAX_BYTES = 1000
    response = page.post(CREATE, form(loose_files=[upload(content=b"x" * 2000)]))
    assert response.status_code == 400
    assert "larger than" in response.content.decode()
    assert not Import.objects.exists()
    assert not [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]


def test_other_forms_keep_their_own_smaller_limit(page: Client, settings) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    response = page.post(reverse("studies:study_create"), {"slices": upload(content=b"x" * 2000)})
    assert "larger than" in response.content.decode()


def test_with_javascript_the_files_follow_in_requests_that_may_come_twice(page: Client) -> None:
    answer = page.post(CREATE, form(sends_files_apart="1", announced_files="3")).json()
    batch = Import.objects.get()
    assert batch.announced_files == 3
    for first in (0, 1, 1, 2):
        received = page.post(answer["files"], {"first": first, "path": f"f/{first}.png", "files": upload()})
        assert received.status_code == 200
    assert received.json() == {"received": 3}
    assert list(batch.files.values_list("name", flat=True)) == ["f/0.png", "f/1.png", "f/2.png"]
    for _ in range(2):
        assert page.post(answer["start"]).headers["Location"] == answer["page"]
    batch.refresh_from_db()
    assert batch.state == Import.State.READING
    late = page.post(answer["files"], {"first": 3, "path": "late.png", "files": upload()})
    assert late.status_code == 409
    assert "another one" in late.json()["error"]


@pytest.mark.parametrize("data", [{}, {"first": "-1"}, {"first": "x"}, {"first": "0", "path": ["a", "b"]}])
def test_nonsense_between_the_requests_is_refused(page: Client, doctor: User, data: dict[str, object]) -> None:
    page.post(CREATE, form(sends_files_apart="1"))
    response = page.post(address("import_files", Import.objects.get()), data | {"files": upload()})
    assert response.status_code == 400


def test_a_path_of_the_browser_is_a_name_and_never_a_place(page: Client) -> None:
    answer = page.post(CREATE, form(sends_files_apart="1")).json()
    page.post(answer["files"], {"first": 0, "path": "../../etc/\x07passwd", "files": upload()})
    assert ImportFile.objects.get().name == "../../etc/passwd"
    assert "passwd" not in ImportFile.objects.get().content.name


def test_an_identifier_of_somebody_else_s_import_does_not_exist(page: Client) -> None:
    batch = sent(DoctorFactory(), {"a.png": slice_png()})
    assert page.post(CREATE, form(token=str(batch.id), loose_files=[upload()])).status_code == 404
    assert batch.files.count() == 1


def test_an_unfinished_upload_can_be_imported_as_far_as_it_came_or_discarded(page: Client) -> None:
    answer = page.post(CREATE, form(sends_files_apart="1", announced_files="5")).json()
    page.post(answer["files"], {"first": 0, "path": "a.png", "files": upload()})
    batch = Import.objects.get()
    assert "1 file of 5" in page.get(answer["page"]).content.decode()
    assert page.post(address("import_discard", batch)).status_code == 302
    batch.refresh_from_db()
    assert batch.state == Import.State.ABANDONED
    assert not batch.files.exists()
    assert "discarded" in page.get(answer["page"]).content.decode()


def test_nothing_starts_without_a_file(page: Client) -> None:
    answer = page.post(CREATE, form(sends_files_apart="1")).json()
    page.post(answer["start"])
    assert Import.objects.get().state == Import.State.RECEIVING


def test_the_page_asks_for_news_until_all_is_done(page: Client, doctor: User) -> None:
    batch = sent(doctor, {"a.png": b"no"})
    first = page.get(address("import_detail", batch))
    assert b"hx-get" in first.content
    assert b"http-equiv" in first.content
    assert page.get(address("import_status", batch), {"seen": first.context["seen"]}).status_code == 204
    run(batch)
    news = page.get(address("import_status", batch), {"seen": first.context["seen"]})
    assert news.status_code == 200
    assert b"hx-get" not in news.content


def test_pain_03_reading_and_analysing_are_two_bars(page: Client, doctor: User) -> None:
    batch = run(sent(doctor, {"a.png": slice_png()}, patient=PatientFactory(created_by=doctor)))
    text = " ".join(page.get(address("import_detail", batch)).content.decode().split())
    assert "1 of 1 read" in text
    assert "0 of 1 slices analysed" in text
    assert text.count("<progress") == 2


def test_lines_are_paged_and_narrowed(page: Client, doctor: User) -> None:
    batch = run(sent(doctor, {f"{n}.txt": b"no" for n in range(105)} | {"good.png": slice_png()}))
    first = page.get(address("import_detail", batch))
    assert len(first.context["page"].rows) == 100
    second = page.get(address("import_detail", batch), {"after": first.context["page"].next_key})
    assert len(second.context["page"].rows) == 6
    asked = page.get(address("import_detail", batch), {"show": "asked"})
    assert [line.name for line in asked.context["page"].rows] == ["good.png"]
    for nonsense in ({"after": "WyJ4Il0"}, {"show": "<script>"}, {"after": "x"}):
        assert page.get(address("import_detail", batch), nonsense).status_code == 200


def test_the_answer_whose_they_are_takes_a_known_patient_or_a_new_one(page: Client, doctor: User) -> None:
    files = {"1": ct(1, PatientName="Doe^Jane", PatientBirthDate="19570405")}
    for number, data in enumerate(
        (
            {"patient": str(PatientFactory(created_by=doctor, record_number="R-50").id), "record_number": "R-1"},
            {"record_number": "R-51", "family_name": "Doe", "given_name": "Jane", "birth_date": "1957-04-05"},
        )
    ):
        batch = run(sent(doctor, files))
        answer = reverse("studies:import_answer", kwargs={"group_id": batch.groups.get().id})
        shown = page.get(answer).content.decode()
        assert "Doe" in shown
        assert "1957-04-05" in shown
        assert page.post(answer, {}).status_code == 400
        assert page.post(answer, data).headers["Location"] == address("import_detail", batch)
        line = run(batch).files.get()
        assert line.image is not None
        assert line.image.study.patient.record_number == f"R-5{number}"
        assert page.get(answer).status_code == 302


def test_leaving_out_is_an_answer_too(page: Client, doctor: User) -> None:
    batch = run(sent(doctor, {"1": ct(1)}))
    answer = reverse("studies:import_answer", kwargs={"group_id": batch.groups.get().id})
    page.post(answer, {"leave_out": "1"})
    assert batch.files.get().state == ImportFile.State.REJECTED
    assert Patient.objects.count() == 0


def test_another_doctor_s_patient_cannot_be_chosen(page: Client, doctor: User) -> None:
    hidden = PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital))
    batch = run(sent(doctor, {"1": ct(1)}))
    answer = reverse("studies:import_answer", kwargs={"group_id": batch.groups.get().id})
    assert page.post(answer, {"patient": str(hidden.id)}).status_code == 400
    assert page.post(CREATE, form(patient=str(hidden.id), loose_files=[upload()])).status_code == 400


def test_looking_at_an_import_is_recorded(page: Client, doctor: User) -> None:
    batch = sent(doctor, {"1": ct(1)})
    page.get(address("import_detail", batch))
    assert AccessEvent.objects.filter(target_type="studies.import", target_id=batch.id, action="viewed").count() == 1


def test_the_list_counts(page: Client, doctor: User) -> None:
    run(sent(doctor, {"a.txt": b"no", "b.png": slice_png()}))
    sent(DoctorFactory(hospital=doctor.hospital), {"x.png": slice_png()})
    (row,) = page.get(reverse("studies:import_list")).context["page"].rows
    assert (row.file_count, row.accepted_count, row.rejected_count, row.asked_count) == (2, 0, 1, 1)

"""The way in: everything is stored or nothing, and every refusal says which file and why."""

import datetime
import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ
from PIL import Image as PillowImage
from pytest_django.fixtures import Settings

from accounts.models import User
from ml.phantom import make_phantom
from studies import intake
from studies.errors import GrantError, IntakeError, InvalidTransitionError, RecordNumberTakenError
from studies.intake import NewPatient, Upload, add_slices, clean_file_name, request_analysis, submit_study
from studies.models import Analysis, Image, Patient, PatientUserObjectPermission, Study, StudyUserObjectPermission
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, PatientFactory, StudyFactory, slice_png
from tests.studies.test_models import stored_files

pytestmark = pytest.mark.django_db
STUDY_DATE = datetime.date(2026, 3, 9)
MARIA = NewPatient(record_number="R-1", given_name="Maria", family_name="Muster", birth_date=datetime.date(1960, 5, 17))


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


def upload(*, seed: int = 0, name: str = "slice.png") -> Upload:
    return Upload(content=slice_png(seed=seed), name=name)


def counts() -> tuple[int, ...]:
    """Return how many rows there are of everything that intake writes."""
    models: list[Any] = [
        Patient,
        Study,
        Image,
        Analysis,
        PatientUserObjectPermission,
        StudyUserObjectPermission,
        OrmQ,
    ]
    return tuple(model.objects.count() for model in models)


def test_a_study_is_stored_with_patient_slices_grants_and_queued_analyses(
    doctor: User, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        study = submit_study(
            doctor,
            patient=MARIA,
            study_date=STUDY_DATE,
            clinical_question="Nodule?",
            uploads=[upload(seed=1, name="a.png"), upload(seed=2, name="b.png")],
        )
    assert (study.patient.full_name, study.patient.hospital) == ("Maria Muster", doctor.hospital)
    assert [(image.number, image.original_name) for image in study.images.all()] == [(1, "a.png"), (2, "b.png")]
    assert [analysis.state for analysis in Analysis.objects.all()] == ["queued", "queued"]
    assert Analysis.objects.filter(enqueued_at__isnull=True).count() == 0
    assert OrmQ.objects.count() == 2
    assert list(Study.objects.changeable_by(doctor)) == [study]
    assert list(Patient.objects.changeable_by(doctor)) == [study.patient]


def test_the_stored_slice_is_a_private_bare_grey_png_under_a_random_name(doctor: User) -> None:
    stream = io.BytesIO()
    picture = PillowImage.fromarray(make_phantom(7).pixels).convert("RGB")
    exif = PillowImage.Exif()
    exif[0x010E] = "Maria Muster"
    picture.save(stream, format="JPEG", quality=95, exif=exif)
    study = submit_study(
        doctor,
        patient=MARIA,
        study_date=STUDY_DATE,
        uploads=[Upload(content=stream.getvalue(), name="C:\\CT\\Maria Muster.jpg")],
    )
    image = study.images.get()
    with image.file.open("rb") as file:
        content = file.read()
    assert content.startswith(b"\x89PNG")
    assert b"Muster" not in content
    assert image.sha256 == hashlib.sha256(content).hexdigest()
    assert image.byte_size == len(content)
    assert image.source_format == "JPEG"
    assert image.original_name == "Maria Muster.jpg"
    assert "Muster" not in image.file.name
    with PillowImage.open(io.BytesIO(content)) as stored:
        assert (stored.mode, stored.size) == ("L", (image.width, image.height))
        assert stored.info == {}


def test_pain_15_files_of_one_name_by_two_doctors_are_two_slices_and_nobody_trains_by_an_address(
    doctor: User, client: Client
) -> None:
    studies = [
        submit_study(
            by,
            patient=MARIA,
            study_date=STUDY_DATE,
            uploads=[upload(seed=seed, name="inputImage.jpg")],
        )
        for seed, by in enumerate((doctor, DoctorFactory()))
    ]
    contents = []
    for study in studies:
        with study.images.get().file.open("rb") as file:
            contents.append(file.read())
    assert len(set(contents)) == 2
    assert len(stored_files()) == 2
    for address in ("/train", "/train/", "/predict", "/studies/train/"):
        assert client.get(address, follow=True).status_code == 404


BAD_FILES = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is no picture", "not a picture"),
    "pdf": (b"%PDF-1.7 ...", "PDF"),
    "cut short": (slice_png()[:300], "damaged"),
    "html in disguise": (b"<html><script>alert(1)</script></html>", "web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "zip": (b"PK\x03\x04" + b"\x00" * 100, "ZIP"),
    "too small": (slice_png(side_px=16), "16 x 16"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_with_a_sentence_and_nothing_is_stored(doctor: User, kind: str) -> None:
    content, word = BAD_FILES[kind]
    before = counts()
    with pytest.raises(IntakeError) as caught:
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[Upload(content=content, name="bad.png")])
    (sentence,) = caught.value.sentences
    assert word in sentence
    assert sentence.endswith(".")
    assert counts() == before
    assert stored_files() == set()


def test_a_file_beyond_the_limit_is_refused(doctor: User, settings: Settings) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    with pytest.raises(IntakeError, match="larger than"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()])
    assert stored_files() == set()


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(doctor: User, settings: Settings) -> None:
    settings.UPLOAD_MAX_PIXELS = 5000
    with pytest.raises(IntakeError, match="96 x 96"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()])


def test_one_bad_file_among_several_refuses_all_and_is_named(doctor: User) -> None:
    files = [upload(seed=1, name="one.png"), Upload(content=b"x", name="two.png"), upload(seed=3, name="three.png")]
    before = counts()
    with pytest.raises(IntakeError) as caught:
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=files)
    (sentence,) = caught.value.sentences
    assert sentence.startswith("two.png: ")
    assert counts() == before
    assert stored_files() == set()


def test_the_same_picture_twice_in_one_upload_is_refused_and_both_are_named(doctor: User) -> None:
    files = [upload(seed=1, name="one.png"), upload(seed=1, name="copy.png")]
    with pytest.raises(IntakeError, match=r"copy\.png: It shows the same picture as one\.png"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=files)


def test_no_file_and_too_many_files_are_refused(doctor: User) -> None:
    with pytest.raises(IntakeError, match="choose the file"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[])
    with pytest.raises(IntakeError, match="at most 40"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()] * 41)


def test_a_record_number_of_the_hospital_is_refused_and_the_files_are_gone(doctor: User) -> None:
    PatientFactory(created_by=doctor, record_number="r-1")
    before = counts()
    with pytest.raises(RecordNumberTakenError, match="already has a patient"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()])
    assert counts() == before
    assert stored_files() == set()


@pytest.mark.parametrize("fails_at", ["request_analysis", "grant_study"])
def test_whatever_fails_on_the_way_nothing_is_left_in_database_or_store(
    doctor: User, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(intake, fails_at, fail)
    before = counts()
    with pytest.raises(DatabaseError):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload(seed=1), upload(seed=2)])
    assert counts() == before
    assert stored_files() == set()


def test_a_failure_after_the_first_file_is_written_removes_it(doctor: User, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[set[str]] = []
    real = intake.request_analysis

    def fail_on_the_second(image: Image, *, by: User) -> Analysis:
        written.append(stored_files())
        if image.number == 2:
            raise OSError("no space left on device")
        return real(image, by=by)

    monkeypatch.setattr(intake, "request_analysis", fail_on_the_second)
    with pytest.raises(OSError, match="no space"):
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload(seed=1), upload(seed=2)])
    assert [len(files) for files in written] == [1, 2]
    assert stored_files() == set()
    assert not Study.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_refuses_to_run_inside_another_transaction(doctor: User) -> None:
    """An outer transaction could roll back after the files are taken for good."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()])
    assert stored_files() == set()


def test_a_queue_out_of_order_does_not_undo_what_is_stored(
    doctor: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("the broker is away")

    monkeypatch.setattr("studies.models.study.async_task", fail)
    with django_capture_on_commit_callbacks(execute=True):
        study = submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload()])
    analysis = study.images.get().latest_analysis
    assert analysis is not None
    assert (analysis.state, analysis.enqueued_at) == ("queued", None)
    later = timezone.now() - datetime.timedelta(minutes=1)
    Analysis.objects.update(queued_at=later)
    assert Analysis.objects.sweep().to_enqueue == (analysis.id,)


def test_a_new_study_of_a_known_patient_gives_no_right_to_change_the_record(doctor: User) -> None:
    patient = PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital))
    study = submit_study(doctor, patient=patient, study_date=STUDY_DATE, uploads=[upload()])
    assert list(Study.objects.changeable_by(doctor)) == [study]
    assert list(Patient.objects.visible_to(doctor)) == [patient]
    assert not patient.can_be_changed_by(doctor)


def test_a_study_cannot_be_made_of_another_hospital_s_patient(doctor: User) -> None:
    before = counts()
    patient = PatientFactory()
    with pytest.raises(GrantError):
        submit_study(doctor, patient=patient, study_date=STUDY_DATE, uploads=[upload()])
    assert Study.objects.count() == 0
    assert counts() != before  # the patient itself
    assert stored_files() == set()


# --- more slices ------------------------------------------------------------------------------------------------------


def test_more_slices_follow_in_order_and_are_queued(doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    ImageFactory(study=study, number=4, seed=100)
    images = add_slices(study, doctor=doctor, uploads=[upload(seed=1), upload(seed=2)])
    assert [image.number for image in images] == [5, 6]
    assert Analysis.objects.filter(image__in=images, state="queued").count() == 2


def test_a_picture_that_the_study_holds_is_refused_with_its_number(doctor: User) -> None:
    study = submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload(seed=1)])
    files, before = stored_files(), counts()
    with pytest.raises(IntakeError, match=r"again\.png is already slice 1 of this study"):
        add_slices(study, doctor=doctor, uploads=[upload(seed=2), upload(seed=1, name="again.png")])
    assert stored_files() == files
    assert counts() == before


def test_the_same_pixels_in_another_file_are_the_same_picture(doctor: User) -> None:
    study = submit_study(doctor, patient=MARIA, study_date=STUDY_DATE, uploads=[upload(seed=1)])
    stream = io.BytesIO()
    with PillowImage.open(io.BytesIO(slice_png(seed=1))) as picture:
        picture.convert("RGBA").save(stream, format="PNG", compress_level=1)
    with pytest.raises(IntakeError, match="already slice 1"):
        add_slices(study, doctor=doctor, uploads=[Upload(content=stream.getvalue(), name="other.png")])


def test_another_study_may_hold_the_same_picture(doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    other = StudyFactory(created_by=doctor)
    add_slices(study, doctor=doctor, uploads=[upload(seed=1)])
    add_slices(other, doctor=doctor, uploads=[upload(seed=1)])
    assert Image.objects.count() == 2


# --- again ------------------------------------------------------------------------------------------------------------


def test_analysing_again_is_a_new_row(doctor: User) -> None:
    first = AnalysisFactory(is_done=True)
    second = request_analysis(first.image, by=doctor)
    assert second.id != first.id
    assert (second.state, second.attempt, second.requested_by) == ("queued", 1, doctor)
    first.refresh_from_db()
    assert first.has_answer


@pytest.mark.parametrize("is_running", [True, False])
def test_analysing_again_waits_for_the_active_one(doctor: User, is_running: bool) -> None:
    first = AnalysisFactory(is_running=is_running)
    with pytest.raises(InvalidTransitionError, match="already waiting"):
        request_analysis(first.image, by=doctor)
    assert Analysis.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("slice.png", "slice.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\CT\\a.dcm", "a.dcm"),
        ("a\x00b\nc\u202e.png", "abc.png"),
        ("", "file"),
        ("..", "file"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
    ],
)
def test_file_names_lose_folders_and_control_characters(name: str, clean: str) -> None:
    assert clean_file_name(name) == clean

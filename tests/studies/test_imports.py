"""Bulk imports from the files to the stored slices: every file gets its line, and one bad file stops no other."""

import datetime
import uuid
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.utils import timezone

from accounts.models import AccessEvent, User
from studies import tasks
from studies.errors import IntakeError, InvalidTransitionError
from studies.imports import steps
from studies.imports.receiving import MAX_UNFINISHED, open_import, receive_files
from studies.models import Analysis, Image, Import, ImportFile, Patient, Study
from studies.models.bulk import UNANSWERED_FOR, UNFINISHED_FOR
from tests.dicom_files import JPEG_LOSSLESS, dicom
from tests.factories import DoctorFactory, ImageFactory, PatientFactory, StudyFactory, slice_png
from tests.studies.bulk import STUDY_DATE, advance, ct, imported, lines, run, sent, zipped

pytestmark = pytest.mark.django_db

State = ImportFile.State


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def patient(doctor: User) -> Patient:
    return PatientFactory(created_by=doctor, record_number="R-1", family_name="Łąk", given_name="Zoë")


def stored_files() -> list[str]:
    """Every file in the private store, by folder."""
    root = Path(settings.MEDIA_ROOT)
    return sorted(str(path.relative_to(root).parts[0]) for path in root.rglob("*") if path.is_file())


def assert_sentence(text: str) -> None:
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert "lease" in text.lower(), text  # "please", at the beginning or within


# --- what becomes of files --------------------------------------------------------------------------------------------


def test_pictures_of_the_form_s_patient_become_one_study_in_the_order_of_their_names(doctor, patient):
    files = {f"slice{number}.png": slice_png(seed=number) for number in (10, 9, 1)}
    found = imported(doctor, files, patient=patient, clinical_question="Nodule?")
    study = Study.objects.get()
    assert (study.patient, study.study_date, study.clinical_question) == (patient, STUDY_DATE, "Nodule?")
    assert [image.original_name for image in study.images.order_by("number")] == [
        "slice1.png",
        "slice9.png",
        "slice10.png",
    ]
    assert {line.state for line in found.values()} == {State.ACCEPTED}
    assert study.can_be_changed_by(doctor)


def test_every_accepted_slice_has_a_queued_analysis_with_a_message(doctor, patient):
    imported(doctor, {f"{n}.png": slice_png(seed=n) for n in range(25)}, patient=patient)
    analyses = Analysis.objects.all()
    assert len(analyses) == 25
    assert all(analysis.state == Analysis.State.QUEUED and analysis.enqueued_at for analysis in analyses)
    assert {analysis.requested_by for analysis in analyses} == {doctor}


def test_one_bad_file_of_each_kind_stops_no_other(doctor, patient):
    files = {
        "good.png": slice_png(seed=1),
        "text.png": b"I am a text file, whatever my name says.",
        "cut.png": slice_png(seed=2)[:2000],
        "empty.png": b"",
        "mr.dcm": ct(0, Modality="MR"),
        "coronal.dcm": ct(0, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        "scout.dcm": ct(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "page.pdf": b"%PDF-1.7",
        ".DS_Store": b"Bud1",
        "last.png": slice_png(seed=3),
    }
    found = imported(doctor, files, patient=patient)
    assert [name for name, line in found.items() if line.state == State.ACCEPTED] == ["good.png", "last.png"]
    refused = {name: line.sentence for name, line in found.items() if line.state == State.REJECTED}
    assert len(refused) == 8
    for sentence in refused.values():
        assert_sentence(sentence)
    assert "MR" in refused["mr.dcm"]
    assert "axial" in refused["coronal.dcm"]
    assert "localizer" in refused["scout.dcm"]


def test_pain_01_every_refused_file_says_why_in_a_sentence(doctor, patient):
    found = imported(doctor, {"a.txt": b"hello", "b.png": slice_png()}, patient=patient)
    assert_sentence(found["a.txt"].sentence)
    assert found["b.png"].state == State.ACCEPTED


def test_a_file_that_surprises_the_reader_is_refused_and_the_others_go_on(doctor, patient, monkeypatch):
    real = steps.prepare_slice

    def prepare(upload):
        if upload.name == "odd.png":
            raise RuntimeError("nobody thought of that")
        return real(upload)

    monkeypatch.setattr(steps, "prepare_slice", prepare)
    found = imported(doctor, {"odd.png": slice_png(seed=1), "fine.png": slice_png(seed=2)}, patient=patient)
    assert found["odd.png"].sentence == steps.SURPRISE
    assert found["fine.png"].state == State.ACCEPTED


def test_nothing_as_it_came_is_kept_and_no_picture_without_a_slice(doctor, patient):
    files = {
        "a.png": slice_png(seed=1),
        "again.png": slice_png(seed=1),
        "bad.png": b"no",
        "many.zip": zipped({"b.png": slice_png(seed=2), "c.dcm": ct(1)}),
    }
    batch = run(sent(doctor, files, patient=patient))
    assert stored_files() == ["images"] * Image.objects.count() == ["images"] * 3
    assert not batch.files.exclude(content="").exists()
    assert not batch.files.exclude(facts={}).exists()
    assert not batch.groups.exclude(record_number="").exists()


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_the_same_picture_twice_is_a_duplicate_of_its_slice(doctor, patient):
    found = imported(doctor, {"a.png": slice_png(seed=1), "copy of a.png": slice_png(seed=1)}, patient=patient)
    assert found["a.png"].state == State.ACCEPTED
    assert found["copy of a.png"].duplicate_of == found["a.png"].image
    assert Image.objects.count() == 1


def test_the_same_series_again_is_all_duplicates_and_makes_no_study(doctor, patient):
    series = {f"{place}.dcm": ct(place) for place in range(4)}
    imported(doctor, series)
    again = imported(doctor, series)
    assert {line.state for line in again.values()} == {State.DUPLICATE}
    assert Study.objects.count() == 1


def test_a_picture_under_two_patients_is_warned_of_without_naming_the_other(doctor, patient):
    other = PatientFactory(created_by=doctor, family_name="Secretname", record_number="R-9")
    imported(doctor, {"a.png": slice_png(seed=1)}, patient=other)
    line = imported(doctor, {"a.png": slice_png(seed=1)}, patient=patient)["a.png"]
    assert line.state == State.ACCEPTED
    assert "another patient" in line.warning
    assert "Secretname" not in line.warning
    assert "R-9" not in line.warning


def test_a_picture_of_another_hospital_is_nobody_s_business(doctor, patient):
    stranger = DoctorFactory()
    imported(stranger, {"a.png": slice_png(seed=1)}, patient=PatientFactory(created_by=stranger))
    assert imported(doctor, {"a.png": slice_png(seed=1)}, patient=patient)["a.png"].warning == ""


def test_a_twin_in_a_study_that_is_not_shared_is_stored_again_and_said(doctor, patient):
    colleague = DoctorFactory(hospital=doctor.hospital)
    hidden = ImageFactory(study=StudyFactory(created_by=colleague, patient=patient), seed=77)
    with hidden.file.open("rb") as stored:
        line = imported(doctor, {"a.png": stored.read()}, patient=patient)["a.png"]
    twin = imported(doctor, {"b.png": slice_png(seed=77)}, patient=patient)["b.png"]
    assert line.state == State.ACCEPTED
    assert twin.duplicate_of == line.image


# --- DICOM ------------------------------------------------------------------------------------------------------------


def test_a_series_is_one_study_from_head_to_feet_whatever_the_names(doctor, patient):
    files = {f"{name}": ct(place) for name, place in (("c", 30), ("a", -10), ("b.dcm", 110), ("d", 0))}
    imported(doctor, files)
    study = Study.objects.get()
    assert study.patient == patient
    assert study.study_date == datetime.date(2026, 1, 15)
    assert list(study.images.order_by("number").values_list("original_name", flat=True)) == ["b.dcm", "c", "d", "a"]
    assert study.images.get(number=1).pixel_spacing_mm == (0.7, 0.8)
    assert (study.images.get(number=1).black_hu, study.images.get(number=1).white_hu) == (-1050, 850)


def test_without_positions_the_instance_number_counts_and_without_both_the_name(doctor, patient):
    numbered = {f"{9 - n}.dcm": ct(n, ImagePositionPatient=None, InstanceNumber=n) for n in (3, 1, 2)}
    imported(doctor, numbered)
    named = {f"n{n}.dcm": ct(50 + n, study="1.9", series="1.9.1", ImagePositionPatient=None) for n in (10, 9, 1)}
    imported(doctor, named)
    first, second = Study.objects.order_by("created_at")
    assert list(first.images.order_by("number").values_list("original_name", flat=True)) == ["8.dcm", "7.dcm", "6.dcm"]
    assert list(second.images.order_by("number").values_list("original_name", flat=True)) == [
        "n1.dcm",
        "n9.dcm",
        "n10.dcm",
    ]


def test_two_series_of_one_examination_follow_each_other(doctor, patient):
    files = {
        "lung1": ct(10, series="1.2.3.9", SeriesNumber=3),
        "soft1": ct(10, series="1.2.3.5", SeriesNumber=2),
        "lung2": ct(0, series="1.2.3.9", SeriesNumber=3),
        "soft2": ct(0, series="1.2.3.5", SeriesNumber=2),
    }
    imported(doctor, files)
    order = Study.objects.get().images.order_by("number").values_list("original_name", flat=True)
    assert list(order) == ["soft1", "soft2", "lung1", "lung2"]


def test_slices_that_come_later_join_their_study(doctor, patient):
    imported(doctor, {"1": ct(10)})
    imported(doctor, {"2": ct(0), "other": ct(5, study="1.7.7", series="1.7.7.1")})
    assert sorted(study.images.count() for study in Study.objects.all()) == [1, 2]


def test_a_study_that_may_only_be_read_is_not_added_to(doctor, patient):
    from studies.permissions import grant_study

    colleague = DoctorFactory(hospital=doctor.hospital)
    imported(doctor, {"1": ct(10)})
    grant_study(Study.objects.get(), to=colleague, can_change=False)
    imported(colleague, {"2": ct(0)})
    assert {study.created_by for study in Study.objects.all()} == {doctor, colleague}


def test_compressed_slices_are_read(doctor, patient):
    line = imported(doctor, {"1": ct(10, compress=JPEG_LOSSLESS)})["1"]
    assert line.state == State.ACCEPTED


def test_an_impossible_date_in_a_file_gives_way_to_the_form_s(doctor, patient):
    imported(doctor, {"1": ct(10, StudyDate="20991231")})
    assert Study.objects.get().study_date == STUDY_DATE


# --- whose is it ------------------------------------------------------------------------------------------------------


def asked(doctor, files, **options):
    batch = run(sent(doctor, files, **options))
    return batch, batch.groups.get()


def test_an_unknown_record_number_is_asked_for_and_the_answer_goes_on(doctor):
    batch, group = asked(doctor, {"1": ct(1, PatientName="Doe^Jane", PatientBirthDate="19570405"), "2": ct(2)})
    assert {line.state for line in lines(batch).values()} == {State.ASKED}
    assert (group.record_number, group.family_name, group.birth_date) == ("R-1", "Doe", datetime.date(1957, 4, 5))
    assert_sentence(group.question)
    assert Study.objects.count() == 0
    group.assign(PatientFactory(created_by=doctor, record_number="R-77"))
    found = lines(run(batch))
    assert {line.state for line in found.values()} == {State.ACCEPTED}
    group.refresh_from_db()
    assert (group.record_number, group.family_name, group.given_name, group.birth_date) == ("", "", "", None)
    assert Analysis.objects.filter(enqueued_at__isnull=False).count() == 2


def test_a_picture_without_patient_is_asked_for(doctor):
    batch, group = asked(doctor, {"a.png": slice_png()})
    assert lines(batch)["a.png"].state == State.ASKED
    assert_sentence(group.question)


def test_files_that_are_left_out_leave_nothing_behind(doctor, django_capture_on_commit_callbacks):
    batch, group = asked(doctor, {"1": ct(1, PatientName="Doe^Jane")})
    with django_capture_on_commit_callbacks(execute=True):
        group.leave_out()
    assert_sentence(lines(batch)["1"].sentence.replace("It was", "Please note that it was"))
    assert stored_files() == []
    group.refresh_from_db()
    assert group.family_name == ""


def test_the_second_answer_comes_too_late(doctor, patient):
    _, group = asked(doctor, {"1": ct(1, PatientID="R-2")})
    group.assign(patient)
    with pytest.raises(InvalidTransitionError):
        group.leave_out()
    with pytest.raises(InvalidTransitionError):
        group.assign(patient)


def test_the_number_of_a_patient_whom_the_doctor_does_not_see_opens_no_record(doctor):
    hidden = PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital), record_number="R-1")
    _, group = asked(doctor, {"1": ct(1)})
    assert group.patient is None
    assert not Patient.objects.visible_to(doctor).filter(id=hidden.id).exists()
    assert "do not see" in group.question


def test_the_number_of_another_hospital_s_patient_matches_nobody(doctor):
    PatientFactory(record_number="R-1")
    _, group = asked(doctor, {"1": ct(1)})
    assert group.patient is None
    assert "no patient" in group.question


@pytest.mark.parametrize("name", ["Lak^Zoe", "LAK", "ZOË", "R-1", "ANONYMOUS", ""])
def test_the_same_or_no_name_in_the_file_is_no_contradiction(doctor, patient, name):
    patient.family_name = "Lák"
    patient.save()
    line = imported(doctor, {"1": ct(1, PatientName=name, SpecificCharacterSet="ISO_IR 192")})["1"]
    assert (line.state, line.warning) == (State.ACCEPTED, "")


def test_another_name_in_the_file_is_warned_of_and_not_kept(doctor, patient):
    line = imported(doctor, {"1": ct(1, PatientName="Secretname^Jim")})["1"]
    assert line.state == State.ACCEPTED
    assert "name in the file" in line.warning
    assert "Secretname" not in line.warning


def test_another_name_and_another_birth_date_are_asked_about(doctor, patient):
    batch, group = asked(doctor, {"1": ct(1, PatientName="Doe^Jim", PatientBirthDate="20010101")})
    assert lines(batch)["1"].state == State.ASKED
    assert "another person" in group.question


def test_a_doctor_who_lost_the_patient_meanwhile_stores_nothing(doctor, patient):
    batch = sent(doctor, {"a.png": slice_png()}, patient=patient)
    while batch.state != Import.State.STORING:
        advance(batch)
        batch.refresh_from_db()
    User.objects.filter(id=doctor.id).update(approved_at=None)
    assert lines(run(batch))["a.png"].state == State.REJECTED
    assert Study.objects.count() == 0


# --- manifest ---------------------------------------------------------------------------------------------------------

HEAD = "file,record number,name,birth date,study date\n"


def test_a_manifest_files_pictures_under_their_patients_and_makes_new_ones(doctor, patient):
    manifest = HEAD + (
        'anna/1.png,R-1,"Łąk, Zoë",1960-05-17,2026-01-15\n'
        'bert/1.png,R-2,"Bauer, Bert",1950-01-02,2026-01-16\n'
        "bert/2.png,r-2,,,2026-01-16\n"
    )
    archive = zipped(
        {
            "manifest.csv": manifest.encode(),
            "bert/2.png": slice_png(seed=2),
            "anna/1.png": slice_png(seed=1),
            "bert/1.png": slice_png(seed=3),
        }
    )
    found = imported(doctor, {"both.zip": archive})
    assert found["both.zip"].state == found["manifest.csv"].state == State.OPENED
    new = Patient.objects.get(record_number__iexact="R-2")
    assert (new.full_name, new.birth_date, new.created_by) == ("Bert Bauer", datetime.date(1950, 1, 2), doctor)
    assert found["anna/1.png"].image.study.patient == patient
    study = found["bert/1.png"].image.study
    assert (study.patient, study.study_date) == (new, datetime.date(2026, 1, 16))
    assert list(study.images.order_by("number").values_list("original_name", flat=True)) == ["1.png", "2.png"]


def test_a_manifest_of_someone_unknown_without_a_birth_date_is_asked_about(doctor):
    _, group = asked(doctor, {"manifest.csv": b"file;record number\na.png;R-5\n", "a.png": slice_png()})
    assert group.record_number == "R-5"


def test_wrong_lines_of_a_manifest_refuse_their_files_only(doctor, patient):
    manifest = HEAD + "a.png,R-1,,31.02.1950,\nb.png,R-1,,,\nc.png,,,,\nmissing.png,R-1,,,\n"
    files = {
        "manifest.csv": manifest.encode(),
        "a.png": slice_png(seed=1),
        "b.png": slice_png(seed=2),
        "c.png": slice_png(seed=3),
    }
    batch = run(sent(doctor, files))
    found = lines(batch)
    assert "birth date" in found["a.png"].sentence
    assert found["b.png"].state == State.ACCEPTED
    assert "record number is missing" in found["c.png"].sentence
    missing = batch.files.get(sentence__contains="was not sent")
    assert "Line 5" in missing.sentence


def test_a_manifest_that_contradicts_the_dicom_file_is_followed_and_said(doctor, patient):
    PatientFactory(created_by=doctor, record_number="R-2")
    found = imported(doctor, {"manifest.csv": b"file,record number\n1.dcm,R-2\n", "1.dcm": ct(1)})
    assert found["1.dcm"].image.study.patient.record_number == "R-2"
    assert "another record number" in found["1.dcm"].warning


def test_a_file_that_the_manifest_names_twice_differently_is_refused(doctor, patient):
    PatientFactory(created_by=doctor, record_number="R-2")
    manifest = b"file,record number\na.png,R-1\na.png,R-2\n"
    assert "twice" in imported(doctor, {"manifest.csv": manifest, "a.png": slice_png()})["a.png"].sentence


def test_a_broken_manifest_is_refused_and_the_form_s_patient_counts(doctor, patient):
    found = imported(doctor, {"manifest.csv": b"what,is,this\n1,2,3\n", "a.png": slice_png()}, patient=patient)
    assert_sentence(found["manifest.csv"].sentence)
    assert found["a.png"].state == State.ACCEPTED


# --- sent twice, cut off, come back -----------------------------------------------------------------------------------


def test_the_same_form_twice_is_one_import(doctor, patient):
    token = uuid.uuid4()
    one = open_import(doctor, import_id=token, patient=patient, study_date=STUDY_DATE)
    assert open_import(doctor, import_id=token, patient=None, study_date=STUDY_DATE) == one
    for _ in range(2):
        receive_files(one, files=[ContentFile(slice_png())], paths=["a.png"], first=0)
    assert one.files.count() == 1
    assert stored_files() == ["imports"]


def test_a_started_import_takes_no_more_files(doctor, patient):
    batch = sent(doctor, {"a.png": slice_png()}, patient=patient)
    batch.refresh_from_db()
    with pytest.raises(IntakeError):
        receive_files(batch, files=[ContentFile(b"x")], paths=["b.png"], first=1)
    stale = Import.objects.get(id=batch.id)
    stale.state = Import.State.RECEIVING
    assert receive_files(stale, files=[ContentFile(b"x")], paths=["b.png"], first=1) == 0
    assert batch.files.count() == 1


def test_too_many_unfinished_uploads_are_refused(doctor):
    for _ in range(MAX_UNFINISHED):
        open_import(doctor, import_id=uuid.uuid4(), patient=None, study_date=STUDY_DATE)
    with pytest.raises(IntakeError, match="discard"):
        open_import(doctor, import_id=uuid.uuid4(), patient=None, study_date=STUDY_DATE)


def test_every_step_taken_twice_stores_everything_once(doctor, patient):
    batch = sent(doctor, {f"{n}.dcm": ct(n) for n in range(12)})
    while batch.is_active or batch.is_receiving:
        step = batch.step
        advance(batch)
        advance(batch)
        batch.refresh_from_db()
        assert batch.step == step + 1
    assert Image.objects.count() == Analysis.objects.count() == 12


def test_a_step_is_claimed_once(doctor):
    batch = sent(doctor, {"a.png": slice_png()})
    assert Import.objects.claim(batch.id, step=0) is not None
    assert Import.objects.claim(batch.id, step=0) is None
    assert Import.objects.claim(batch.id, step=1) is None, "its lease has not ended"


def test_a_worker_that_died_in_any_step_is_recovered_by_the_sweeper(doctor, patient):
    batch = sent(doctor, {f"{n}.dcm": ct(n) for n in range(3)})
    deaths = 0
    while True:
        batch.refresh_from_db()
        if not batch.is_active:
            break
        # Claimed, and never heard of again.
        assert Import.objects.claim(batch.id, step=batch.step) is not None
        Import.objects.filter(id=batch.id).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
        assert tasks.sweep()["requeued"] == 1
        deaths += 1
        batch.refresh_from_db()
        advance(batch)
    assert batch.state == Import.State.FINISHED
    assert deaths >= 5
    assert Image.objects.count() == 3


def test_a_worker_that_comes_back_from_the_dead_writes_nothing(doctor, patient):
    batch = sent(doctor, {"a.png": slice_png()}, patient=patient)
    zombie = Import.objects.claim(batch.id, step=0)
    assert zombie is not None
    Import.objects.filter(id=batch.id).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
    Import.objects.sweep()
    with pytest.raises(InvalidTransitionError):
        steps.take_step(zombie)
    assert batch.files.get().state == State.WAITING
    assert stored_files() == ["imports"]
    assert run(batch).state == Import.State.FINISHED


def test_a_lost_message_is_sent_again(doctor):
    batch = sent(doctor, {"a.png": slice_png()})
    Import.objects.filter(id=batch.id).update(touched_at=timezone.now() - datetime.timedelta(minutes=1))
    assert Import.objects.sweep().to_enqueue == (batch.id,)


def test_a_file_that_stops_the_worker_twice_is_left_out_and_the_others_go_on(doctor, patient, monkeypatch):
    real = steps.prepare_slice

    class Killed(BaseException):
        """What a kill looks like from inside: nothing catches it."""

    def prepare(upload):
        if upload.name == "killer.png":
            raise Killed
        return real(upload)

    monkeypatch.setattr(steps, "prepare_slice", prepare)
    batch = sent(
        doctor,
        {"a.png": slice_png(seed=1), "killer.png": slice_png(seed=2), "c.png": slice_png(seed=3)},
        patient=patient,
    )
    for _ in range(40):
        batch.refresh_from_db()
        if not batch.is_active:
            break
        try:
            advance(batch)
        except Killed:
            Import.objects.filter(id=batch.id).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
            Import.objects.sweep()
    found = lines(batch)
    assert batch.state == Import.State.FINISHED
    assert found["killer.png"].sentence == steps.KILLER
    assert found["a.png"].state == found["c.png"].state == State.ACCEPTED


def test_a_step_that_always_fails_ends_in_a_sentence(doctor, monkeypatch):
    def broken(batch):
        raise RuntimeError("a bug")

    monkeypatch.setattr(steps, "sort_files", broken)
    batch = sent(doctor, {"a.png": slice_png()})
    for _ in range(20):
        batch.refresh_from_db()
        advance(batch)
    assert batch.state == Import.State.FAILED
    assert_sentence(batch.error)


def test_analyses_are_held_back_and_the_sweeper_leaves_them_so(doctor, patient):
    batch = sent(doctor, {f"{n}.png": slice_png(seed=n) for n in range(steps.ANALYSE_AT_ONCE + 5)}, patient=patient)
    while batch.state != Import.State.ANALYSING:
        advance(batch)
        batch.refresh_from_db()
    Analysis.objects.update(queued_at=timezone.now() - datetime.timedelta(minutes=1))
    assert Analysis.objects.sweep().to_enqueue == ()
    Import.objects.filter(id=batch.id).update(state="failed", error="It failed.", finished_at=timezone.now())
    assert len(Analysis.objects.sweep().to_enqueue) == steps.ANALYSE_AT_ONCE + 5


def test_a_few_analyses_are_put_into_the_queue_at_a_time(doctor, patient, django_capture_on_commit_callbacks):
    batch = sent(doctor, {f"{n}.png": slice_png(seed=n) for n in range(steps.ANALYSE_AT_ONCE + 5)}, patient=patient)
    while batch.state != Import.State.ANALYSING:
        advance(batch)
        batch.refresh_from_db()
    with django_capture_on_commit_callbacks(execute=True):
        advance(batch)
    assert Analysis.objects.filter(enqueued_at__isnull=False).count() == steps.ANALYSE_AT_ONCE


def test_an_upload_that_nobody_finishes_is_discarded_with_its_files(doctor):
    batch = open_import(doctor, import_id=uuid.uuid4(), patient=None, study_date=STUDY_DATE)
    receive_files(batch, files=[ContentFile(b"x")], paths=["a"], first=0)
    Import.objects.update(touched_at=timezone.now() - UNFINISHED_FOR - datetime.timedelta(minutes=1))
    tasks.sweep()
    batch.refresh_from_db()
    assert batch.state == Import.State.ABANDONED


def test_questions_that_nobody_answers_end_with_the_names_forgotten(doctor):
    batch, group = asked(doctor, {"1": ct(1, PatientName="Doe^Jane")})
    Import.objects.update(touched_at=timezone.now() - UNANSWERED_FOR - datetime.timedelta(minutes=1))
    tasks.sweep()
    group.refresh_from_db()
    assert group.family_name == ""
    assert lines(batch)["1"].state == State.REJECTED


def test_who_made_the_study_is_on_record(doctor, patient):
    imported(doctor, {"1": ct(1)})
    imported(doctor, {"2": ct(2)})
    events = AccessEvent.objects.filter(target_type="studies.study").order_by("at")
    assert [(event.action, event.actor) for event in events] == [("created", doctor), ("changed", doctor)]


def test_an_import_is_seen_by_its_doctor_alone(doctor):
    batch = sent(doctor, {"a.png": slice_png()})
    colleague, stranger = DoctorFactory(hospital=doctor.hospital), DoctorFactory()
    for other in (colleague, stranger):
        assert not Import.objects.visible_to(other).exists()
    assert Import.objects.visible_to(doctor).get() == batch
    doctor.hospital = stranger.hospital
    assert not Import.objects.visible_to(doctor).exists()


def test_more_files_than_are_accepted_are_refused(doctor, settings):
    settings.IMPORT_MAX_FILES = 3
    batch = open_import(doctor, import_id=uuid.uuid4(), patient=None, study_date=STUDY_DATE)
    with pytest.raises(IntakeError, match="At most 3"):
        receive_files(batch, files=[ContentFile(b"x")] * 4, paths=list("abcd"), first=0)


def test_the_single_upload_orders_a_series_too(doctor, patient):
    from studies.intake import Upload, prepare_slices

    uploads = [Upload(content=ct(place), name=f"{place}.dcm") for place in (1, 3, 2)]
    assert [found.original_name for found in prepare_slices(uploads)] == ["3.dcm", "2.dcm", "1.dcm"]
    assert dicom()[128:132] == b"DICM"

"""`manage.py export_labels`: what teaches, what does not and why, and that nothing says whose it is."""

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from PIL import Image as PillowImage

from accounts.models import AccessEvent, User
from ml.data import PORTAL_PREFIX, read_chest_ctscan, read_whole_slices, split_few_patients
from ml.preprocessing import body_box
from portal.learning import labels
from portal.learning.labels import LeftOut, collect_labels, pseudonym
from reports.models import Report
from studies.models import Finding, Patient, Study, Teaching
from studies.reviewing import Judgement, add_finding, review_finding
from tests.factories import (
    DoctorFactory,
    PatientFactory,
    UserFactory,
    outline_png,
)
from tests.learning_slices import analysed_study, chest, judge_class, sign, teaching_doctor
from tests.sets import draw_all_layouts

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return teaching_doctor()


def judge(study: Study, **judgement: object) -> None:
    """Judge the model's one finding."""
    finding = Finding.objects.get(analysis__image__study=study)
    review_finding(
        finding.analysis.image,
        lesion_id=finding.id,
        by=study.created_by,
        judgement=Judgement(**judgement),  # type: ignore[arg-type]
        seen=None,
    )


def taught(doctor: User, **answer: object) -> Study:
    """Return a study whose outline was corrected and whose class was named, with a signed report."""
    study = analysed_study(doctor, **answer)
    judge(study, verdict="corrected", outline=outline_png(side_px=256, box=(100, 90, 30, 20)))
    judge_class(study, diagnosis="adenocarcinoma")
    sign(study)
    return study


def export(out: Path, *arguments: object) -> str:
    said = io.StringIO()
    call_command("export_labels", "--out", str(out), *map(str, arguments), stdout=said)
    return said.getvalue()


def reasons() -> list[str]:
    return [one.reason for one in collect_labels() if isinstance(one, LeftOut)]


class TestWhatTeaches:
    def test_a_corrected_outline_and_a_class_are_read_back_by_training(self, doctor, tmp_path):
        study = taught(doctor)
        said = export(tmp_path / "out")
        assert "1 slices of 1 patients" in said
        [picture] = read_chest_ctscan(tmp_path / "out/data/chest-ctscan-images")
        patient = pseudonym("patient", study.patient_id)
        assert (picture.split, picture.label, picture.patient_group_id) == ("train", 0, patient)
        [outlined] = read_whole_slices(tmp_path / "out/data/msd-lung-slices")
        assert outlined.patient == patient
        mask = np.asarray(PillowImage.open(outlined.mask))
        assert mask.shape == (256, 256)
        assert mask[90:110, 100:130].all()
        assert np.count_nonzero(mask) == 600

    def test_a_rejected_finding_leaves_an_empty_outline(self, doctor, tmp_path):
        study = analysed_study(doctor)
        judge(study, verdict="rejected")
        sign(study)
        export(tmp_path / "out")
        [outlined] = read_whole_slices(tmp_path / "out/data/msd-lung-slices")
        assert not np.asarray(PillowImage.open(outlined.mask)).any()
        assert not (tmp_path / "out/data/chest-ctscan-images").exists()

    def test_an_accepted_finding_keeps_the_models_outline_and_gives_its_diagnosis(self, doctor):
        study = analysed_study(doctor)
        judge(study, verdict="accepted", diagnosis="large_cell_carcinoma")
        sign(study)
        [label] = collect_labels()
        assert label.diagnosis == "large_cell_carcinoma"
        assert np.count_nonzero(label.mask) == 120

    def test_a_finding_with_a_diameter_alone_teaches_no_outline(self, doctor):
        study = analysed_study(doctor, findings=())
        add_finding(study.images.get(), by=doctor, judgement=Judgement(verdict="added", diameter_px=12.0))
        judge_class(study, diagnosis="adenocarcinoma")
        sign(study)
        [label] = collect_labels()
        assert label.mask is None

    def test_the_base_sets_stand_beside_and_stay_as_they_are(self, doctor, tmp_path):
        taught(doctor)
        draw_all_layouts(tmp_path / "sets", nodule_patients=3, pictures_a_class=1)
        before = {path: path.read_bytes() for path in (tmp_path / "sets").rglob("*") if path.is_file()}
        export(tmp_path / "out", "--with", tmp_path / "sets")
        pictures = read_chest_ctscan(tmp_path / "out/data/chest-ctscan-images")
        assert len(pictures) == 13
        assert all(one.patient_group_id for one in pictures)
        assert len(read_whole_slices(tmp_path / "out/data/msd-lung-slices")) == 4
        assert {path: path.read_bytes() for path in before} == before


class TestWhatDoesNot:
    def test_an_unsigned_report(self, doctor):
        judge_class(analysed_study(doctor), diagnosis="normal")
        assert reasons() == [labels.UNSIGNED]

    def test_a_slice_that_nobody_judged(self, doctor):
        sign(analysed_study(doctor))
        assert reasons() == [labels.UNJUDGED]

    def test_a_judgement_later_than_the_report(self, doctor):
        study = analysed_study(doctor)
        report = sign(study)
        Report.objects.filter(id=report.id).update(signed_at=report.signed_at - timedelta(minutes=1))
        judge_class(study, diagnosis="normal")
        assert reasons() == [labels.LATER]

    def test_an_unsure_doctor(self, doctor):
        study = analysed_study(doctor)
        judge_class(study, diagnosis="unsure")
        sign(study)
        assert reasons() == [labels.UNJUDGED]

    def test_a_hospital_that_has_not_switched_it_on(self):
        doctor = DoctorFactory()
        assert not doctor.hospital.teaches_model
        taught(doctor)
        assert reasons() == [labels.NOT_ALLOWED]

    @pytest.mark.parametrize(
        ("teaching", "is_own", "is_used"),
        [
            (Teaching.AS_HOSPITAL, False, True),
            (Teaching.ALLOWED, False, True),
            (Teaching.REFUSED, False, False),
            (Teaching.AS_HOSPITAL, True, False),
            (Teaching.ALLOWED, True, True),
            (Teaching.REFUSED, True, False),
        ],
    )
    def test_the_patients_word_goes_first_and_own_uploads_need_a_yes(self, doctor, teaching, is_own, is_used):
        study = taught(doctor)
        person = UserFactory()
        Patient.objects.filter(id=study.patient_id).update(teaching=teaching, user=person)
        if is_own:
            Study.objects.filter(id=study.id).update(created_by=person)
        assert reasons() == ([] if is_used else [labels.NOT_ALLOWED])

    def test_drawn_slices(self, doctor):
        study = taught(doctor)
        Study.objects.filter(id=study.id).update(is_synthetic=True)
        assert reasons() == [labels.SYNTHETIC]

    def test_a_file_that_is_gone(self, doctor):
        image = taught(doctor).images.get()
        image.file.storage.delete(image.file.name)
        assert reasons() == [labels.MISSING]


class TestNobodyIsNamed:
    def test_no_name_number_date_or_identifier_is_in_any_file(self, doctor, tmp_path):
        study = taught(doctor)
        patient = study.patient
        export(tmp_path / "out")
        secrets = {patient.family_name, patient.record_number, str(patient.id), str(study.id), doctor.family_name}
        secrets |= {str(study.images.get().id), str(study.study_date), doctor.hospital.name}
        for path in (tmp_path / "out").rglob("*"):
            content = path.read_bytes().decode("latin-1") if path.is_file() else ""
            assert not [one for one in secrets if one in content or one in str(path.relative_to(tmp_path))]

    def test_writing_beside_the_body_is_blackened_and_told(self, doctor, tmp_path):
        pixels = chest().copy()
        pixels[:8, :60:2] = 255
        assert body_box(pixels).top > 8
        study = analysed_study(doctor, pixels=pixels, findings=())
        judge_class(study, diagnosis="normal")
        sign(study)
        said = export(tmp_path / "out")
        assert "which may be writing" in said
        [picture] = read_chest_ctscan(tmp_path / "out/data/chest-ctscan-images")
        with PillowImage.open(picture.image) as image:
            assert image.info == {}
            assert not np.asarray(image)[:8].any()

    def test_two_records_of_one_person_are_one_patient(self, doctor):
        person, elsewhere = UserFactory(), teaching_doctor()
        for one in (doctor, elsewhere):
            study = analysed_study(one, patient=PatientFactory(created_by=one, user=person))
            judge_class(study, diagnosis="normal")
            sign(study)
        assert len({one.patient for one in collect_labels()}) == 1

    def test_a_pseudonym_depends_on_the_key(self, doctor, settings):
        before = pseudonym("patient", doctor.id)
        settings.AUDIT_KEY = "another"
        assert pseudonym("patient", doctor.id) != before
        assert before.startswith(PORTAL_PREFIX)


class TestVersions:
    def test_the_same_labels_have_the_same_fingerprint(self, doctor, tmp_path):
        taught(doctor)
        records = []
        for _ in range(2):
            export(tmp_path / "out")
            records.append(json.loads((tmp_path / "out/export.json").read_text()))
        assert records[0]["fingerprint"] == records[1]["fingerprint"]
        with (tmp_path / "out/manifest.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 3

    def test_what_is_erased_is_gone_from_the_next_export_and_listed(self, doctor, tmp_path, settings):
        settings.RETENTION_YEARS = 0
        study = taught(doctor)
        name = pseudonym("slice", study.images.get().id)
        export(tmp_path / "out")
        settings.RETENTION_YEARS, settings.RETENTION_MINIMUM_AGE_YEARS = 10, 28
        Patient.objects.filter(id=study.patient_id).update(teaching=Teaching.REFUSED)
        said = export(tmp_path / "out")
        assert f"Gone since the last export: {name}. {labels.NOT_ALLOWED}" in said
        assert "dvc gc" in said
        assert not list((tmp_path / "out/data").rglob("*.png"))
        [gone] = json.loads((tmp_path / "out/export.json").read_text())["gone"]
        assert gone == {"slice": name, "study": pseudonym("study", study.id), "reason": labels.NOT_ALLOWED}

    def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(self, doctor, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CommandError, match="cannot be written"):
            export(tmp_path / "file/out")
        with pytest.raises(CommandError, match="There is no folder"):
            export(tmp_path / "out", "--with", tmp_path / "none")


def test_taught_patients_are_never_held_out():
    patients = [f"p{number}" for number in range(5)]
    before = split_few_patients(patients, seed=0)
    after = split_few_patients([*patients, *(f"{PORTAL_PREFIX}{number}" for number in range(50))], seed=0)
    assert {name: split for name, split in after.items() if split != "train"} == {
        name: split for name, split in before.items() if split != "train"
    }


class TestThePatientsPage:
    @pytest.fixture
    def record(self, doctor) -> Patient:
        return PatientFactory(created_by=doctor, user=UserFactory())

    def test_a_patient_refuses_and_it_is_on_record(self, record):
        client = Client()
        client.force_login(record.user)
        page = client.get(reverse("teaching")).content.decode()
        assert record.hospital.name in page
        answer = client.post(reverse("teaching_change", args=[record.id]), {"teaching": "refused"}, follow=True)
        assert "no picture of this record teaches the model" in answer.content.decode()
        record.refresh_from_db()
        assert record.teaching == Teaching.REFUSED
        assert AccessEvent.objects.filter(actor=record.user, action=AccessEvent.Action.CHANGED).exists()

    def test_somebody_elses_record_does_not_exist(self, record):
        client = Client()
        client.force_login(UserFactory())
        assert client.post(reverse("teaching_change", args=[record.id]), {"teaching": "allowed"}).status_code == 404

    def test_nonsense_changes_nothing(self, record):
        client = Client()
        client.force_login(record.user)
        client.post(reverse("teaching_change", args=[record.id]), {"teaching": "perhaps"})
        record.refresh_from_db()
        assert record.teaching == Teaching.AS_HOSPITAL

    def test_a_doctor_notes_the_word_of_a_patient_without_a_log_in_only(self, doctor, record):
        client = Client()
        client.force_login(doctor)
        nobody = PatientFactory(created_by=doctor)
        for patient, is_shown in ((nobody, True), (record, False)):
            page = client.get(reverse("studies:patient_edit", args=[patient.id])).content.decode()
            assert ('name="teaching"' in page) is is_shown

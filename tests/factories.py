"""Factories that build through the real models, defaults and grants."""

import datetime
import hashlib
import io
from typing import Any

import factory
import numpy as np
from django.core.files.base import ContentFile
from django.utils import timezone
from PIL import Image as PillowImage

from accounts.models import Hospital, Role, User
from ml.inference import AnalysisResult, FindingResult
from ml.input_statistics import measure
from ml.runtime import Thresholds
from reports.drafting import draft_report
from reports.models import Opening, Report, ReportTemplate
from reports.signing import release_report, sign_report
from studies.consent import CURRENT
from studies.intake import Upload
from studies.models import Analysis, FirstImpression, Image, Patient, Study
from studies.own import submit_own_slice
from studies.permissions import grant_patient, grant_study
from studies.pictures import draw_pictures


class HospitalFactory(factory.django.DjangoModelFactory):
    """A hospital with a name of its own."""

    class Meta:
        model = Hospital

    name = factory.Sequence(lambda n: f"Hospital {n}")
    department = "Radiology"
    # Unlike a real hospital: most tests are about what is shown once the doctor has noted a first impression.
    reads_first = False


class UserFactory(factory.django.DjangoModelFactory):
    """A patient who may log in; the password is ``a-long-password``."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    given_name = factory.Sequence(lambda n: f"Given{n}")
    family_name = factory.Sequence(lambda n: f"Family{n}")
    role = Role.PATIENT

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(password=kwargs.pop("password", "a-long-password"), **kwargs)


class DoctorFactory(UserFactory):
    """An approved doctor of a hospital."""

    role = Role.DOCTOR
    licence_number = factory.Sequence(lambda n: f"L-{n:05}")
    hospital = factory.SubFactory(HospitalFactory)
    approved_at = factory.LazyFunction(timezone.now)


class AdministratorFactory(UserFactory):
    """An administrator of a hospital."""

    role = Role.ADMINISTRATOR
    is_staff = True
    hospital = factory.SubFactory(HospitalFactory)


BIRTH_DATE = datetime.date(1960, 5, 17)


# --- studies ----------------------------------------------------------------------------------------------------------


class PatientFactory(factory.django.DjangoModelFactory):
    """A record at the hospital of the doctor who made it, granted to that doctor."""

    class Meta:
        model = Patient

    created_by = factory.SubFactory(DoctorFactory)
    hospital = factory.LazyAttribute(lambda patient: patient.created_by.hospital)
    record_number = factory.Sequence(lambda n: f"R-{n:05}")
    given_name = factory.Sequence(lambda n: f"Given{n}")
    family_name = factory.Sequence(lambda n: f"Family{n}")
    birth_date = BIRTH_DATE

    @classmethod
    def _create(cls, model_class: type[Patient], *args: Any, **kwargs: Any) -> Patient:
        patient = super()._create(model_class, *args, **kwargs)
        grant_patient(patient, to=patient.created_by, can_change=True)
        return patient


class StudyFactory(factory.django.DjangoModelFactory):
    """A study without slices, granted to the doctor who made it."""

    class Meta:
        model = Study

    created_by = factory.SubFactory(DoctorFactory)
    patient = factory.SubFactory(PatientFactory, created_by=factory.SelfAttribute("..created_by"))
    study_date = datetime.date(2026, 3, 9)
    clinical_question = "Nodule in the left upper lobe?"

    @classmethod
    def _create(cls, model_class: type[Study], *args: Any, **kwargs: Any) -> Study:
        study = super()._create(model_class, *args, **kwargs)
        grant_study(study, to=study.created_by, can_change=True)
        return study


def slice_png(*, seed: int = 0, side_px: int = 96) -> bytes:
    """Return the PNG of a small grey picture that passes for a slice; another seed, another picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (side_px, side_px), dtype=np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(noise).save(stream, format="PNG")
    return stream.getvalue()


class OwnStudyFactory(factory.django.DjangoModelFactory):
    """What a patient uploaded alone: one slice in a record without a hospital; ``is_done`` analyses it."""

    class Meta:
        model = Study

    created_by = factory.SubFactory(UserFactory)
    study_date = datetime.date(2026, 2, 2)
    clinical_question = "What is the spot on the left?"

    @classmethod
    def _create(cls, model_class: type[Study], *args: Any, **kwargs: Any) -> Study:
        is_done, result = kwargs.pop("is_done", False), kwargs.pop("result", None)
        owner = kwargs.pop("created_by")
        study = submit_own_slice(
            owner,
            birth_date=BIRTH_DATE,
            study_date=kwargs["study_date"],
            question=kwargs["clinical_question"],
            upload=Upload(content=slice_png(seed=Study.objects.count()), name="mine.png"),
            consent_version=CURRENT,
        )
        if is_done:
            claimed = Analysis.objects.claim(Analysis.objects.get(image__study=study).id)
            assert claimed is not None
            finish(claimed, result=result or answer())
        return study


class ImageFactory(factory.django.DjangoModelFactory):
    """A stored slice without analysis."""

    class Meta:
        model = Image

    study = factory.SubFactory(StudyFactory)
    number = factory.LazyAttribute(lambda image: image.study.images.count() + 1)
    width = 96
    height = 96
    source_format = "PNG"
    original_name = factory.LazyAttribute(lambda image: f"slice{image.number}.png")
    uploaded_by = factory.LazyAttribute(lambda image: image.study.created_by)
    seed = factory.Sequence(lambda n: n)

    @classmethod
    def _create(cls, model_class: type[Image], *args: Any, **kwargs: Any) -> Image:
        png = slice_png(seed=kwargs.pop("seed"))
        kwargs |= {"sha256": hashlib.sha256(png).hexdigest(), "byte_size": len(png)}
        return super()._create(model_class, *args, file=ContentFile(png, name="slice.png"), **kwargs)


def answer(**changes: Any) -> AnalysisResult:
    """Return what the model might say about a slice of ``ImageFactory``: one malignant finding in its middle."""
    side_px = changes.pop("side_px", 96)
    mask = np.zeros((side_px, side_px), np.uint8)
    mask[40:52, 40:50] = 255
    finding = FindingResult(
        box=(40, 40, 10, 12),
        area_px=120,
        long_axis_px=15.6,
        short_axis_px=13.9,
        malignancy=0.82,
        area_mm2=None,
        long_axis_mm=None,
        short_axis_mm=None,
    )
    values: dict[str, Any] = {
        "model_version": "test-1",
        "probabilities": {
            "adenocarcinoma": 0.71,
            "large_cell_carcinoma": 0.12,
            "normal": 0.05,
            "squamous_cell_carcinoma": 0.12,
        },
        "malignant_probability": 0.885,
        "malignant_basis": "The mean of 0.95, the cancer classes together, and 0.82, the one outlined finding.",
        "findings": (finding,),
        "mask": mask,
        "activation": np.full((side_px, side_px), 128, np.uint8),
        "duration_ms": 96,
        "step_ms": {"read": 4.0, "classify": 60.0, "outline": 32.0},
        "thresholds": Thresholds.of_card({"outline": 0.5, "minimum_area_px": 20, "malignant": 0.5}),
        "width": side_px,
        "height": side_px,
        "input_statistics": measure(np.arange(side_px**2, dtype=np.uint8).reshape(side_px, -1), source_format="PNG"),
        "embedding": np.linspace(-1, 1, 512, dtype=np.float32),
    }
    return AnalysisResult(**(values | changes))


def finish(analysis: Analysis, *, result: AnalysisResult) -> None:
    """Have a running analysis succeed with this answer, as the worker does."""
    with analysis.image.file.open("rb") as stored:
        pictures = draw_pictures(stored.read(), result=result)
    analysis.succeed(result, overlay_png=pictures.overlay, mask_png=pictures.mask, activation_png=pictures.activation)


class AnalysisFactory(factory.django.DjangoModelFactory):
    """A queued analysis; ``is_running``, ``is_done`` or ``has_failed`` take it further, through the state machine."""

    class Meta:
        model = Analysis

    image = factory.SubFactory(ImageFactory)
    requested_by = factory.LazyAttribute(lambda analysis: analysis.image.uploaded_by)

    @classmethod
    def create(cls, **kwargs: Any) -> Analysis:
        """Create the row and take it as far as asked."""
        is_running, is_done, has_failed = (kwargs.pop(name, False) for name in ("is_running", "is_done", "has_failed"))
        result = kwargs.pop("result", None) or answer()
        analysis: Analysis = super().create(**kwargs)
        if not (is_running or is_done or has_failed):
            return analysis
        claimed = Analysis.objects.claim(analysis.id)
        assert claimed is not None
        if is_done:
            finish(claimed, result=result)
        elif has_failed:
            claimed.fail("The file is damaged. Please upload it again.")
        return claimed


class FirstImpressionFactory(factory.django.DjangoModelFactory):
    """What the study's own doctor thought before the software's answer was shown."""

    class Meta:
        model = FirstImpression

    study = factory.SubFactory(StudyFactory)
    doctor = factory.LazyAttribute(lambda impression: impression.study.created_by)
    diagnosis = "adenocarcinoma"
    suspicion = 4
    note = ""


def outline_png(
    *, side_px: int = 96, box: tuple[int, int, int, int] = (30, 20, 12, 8), mode: str = "L", value: int = 255
) -> bytes:
    """Return a drawn outline as a browser sends it: a filled rectangle (x, y, width, height) on a slice's square."""
    pixels = np.zeros((side_px, side_px), np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = value
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).convert(mode).save(stream, format="PNG")
    return stream.getvalue()


# --- reports ----------------------------------------------------------------------------------------------------------


class ReportFactory(factory.django.DjangoModelFactory):
    """The system's draft on a study with one analysed slice; ``is_signed`` and ``is_released`` take it further."""

    class Meta:
        model = Report

    study = factory.SubFactory(StudyFactory)
    created_by = factory.LazyAttribute(lambda report: report.study.created_by)

    @classmethod
    def create(cls, **kwargs: Any) -> Report:
        """Draft the report and take it as far as asked, through the acts that doctors do."""
        is_signed, is_released = kwargs.pop("is_signed", False), kwargs.pop("is_released", False)
        result = kwargs.pop("result", None)
        report: Report = super().create(result=result, **kwargs)
        doctor = report.created_by
        if is_signed or is_released:
            Opening.objects.note(report, doctor=doctor)
            evidence = report.content_for(doctor).evidence
            sign_report(report, by=doctor, revision=report.revision, evidence=evidence)
        if is_released:
            release_report(report, by=doctor, link="https://portal.example.org/reports/mine/")
        return report

    @classmethod
    def _create(cls, model_class: type[Report], *args: Any, **kwargs: Any) -> Report:
        study, doctor, result = kwargs["study"], kwargs["created_by"], kwargs.pop("result")
        if not study.images.exists():
            AnalysisFactory.create(image=ImageFactory(study=study), is_done=True, result=result)
        return draft_report(study, by=doctor)


class ReportTemplateFactory(factory.django.DjangoModelFactory):
    """A text of a hospital that its doctors may start from."""

    class Meta:
        model = ReportTemplate

    hospital = factory.SubFactory(HospitalFactory)
    name = factory.Sequence(lambda n: f"Template {n}")
    findings_text = "CT of {study_date}.\n{measurements}"
    impression = "{summary}"

"""Studies that doctors have judged, as exports and trainings are tried on them."""

import hashlib
import io

import numpy as np
from django.core.files.base import ContentFile
from PIL import Image as PillowImage

from accounts.models import Hospital, User
from ml.phantom import NoduleSpec, PhantomSpec, make_phantom
from reports.models import Report
from studies.models import Image, Patient, Study
from studies.reviewing import review_image
from tests.factories import AnalysisFactory, DoctorFactory, HospitalFactory, PatientFactory, ReportFactory, StudyFactory
from tests.factories import answer as model_answer

NODULE = NoduleSpec(24, "solid", "inner", "left")


def png_of(pixels: np.ndarray) -> bytes:
    """Return uint8 (H, W) as a PNG file."""
    stream = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue()


def chest(seed: int = 0, *, has_nodule: bool = True) -> np.ndarray:
    """Return a drawn whole slice, uint8 (256, 256)."""
    return make_phantom(seed, spec=PhantomSpec(nodules=(NODULE,) if has_nodule else ())).pixels


def store_slice(study: Study, *, pixels: np.ndarray) -> Image:
    """Store a slice as intake would."""
    png = png_of(pixels)
    return Image.objects.create(
        study=study,
        number=study.images.count() + 1,
        file=ContentFile(png, name="slice.png"),
        sha256=hashlib.sha256(png).hexdigest(),
        byte_size=len(png),
        width=pixels.shape[1],
        height=pixels.shape[0],
        source_format="PNG",
        uploaded_by=study.created_by,
    )


def teaching_doctor() -> User:
    """Return a doctor of a hospital that lets judgements teach the model."""
    hospital: Hospital = HospitalFactory(teaches_model=True)
    doctor: User = DoctorFactory(hospital=hospital)
    return doctor


def analysed_study(
    doctor: User, *, patient: Patient | None = None, seed: int = 0, pixels: np.ndarray | None = None, **answer: object
) -> Study:
    """Return a study with one whole slice and the model's answer: one finding in the middle."""
    study: Study = StudyFactory(created_by=doctor, patient=patient or PatientFactory(created_by=doctor))
    image = store_slice(study, pixels=chest(seed) if pixels is None else pixels)
    AnalysisFactory.create(image=image, is_done=True, result=model_answer(side_px=256, **answer))
    return study


def judge_class(study: Study, *, diagnosis: str) -> None:
    """Have the study's doctor name the class of its slice."""
    review_image(study.images.get(), by=study.created_by, diagnosis=diagnosis, seen=None)


def sign(study: Study) -> Report:
    """Have the study's doctor sign a report on it."""
    report: Report = ReportFactory.create(study=study, created_by=study.created_by, is_signed=True)
    return report

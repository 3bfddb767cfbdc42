"""What the tests of reports share: a doctor's draft, a stranger, a model card, texts of PDFs."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pypdf import PdfReader

from accounts.models import User
from ml.inference import FindingResult
from reports.models import Report
from studies.models import Patient
from tests.factories import DoctorFactory, PatientFactory, ReportFactory, StudyFactory, UserFactory

CARD = {
    "format": 1,
    "version": "test-1",
    "figures": {
        "official_test.accuracy": {"value": 0.81, "low": 0.76, "high": 0.86, "on": "315 official test pictures"},
        "test_unseen.accuracy": {"value": 0.67, "low": 0.60, "high": 0.74, "on": "214 pictures unlike any in training"},
        "whole_slices.sensitivity": {"value": 0.78, "low": 0.7, "high": 0.85, "on": "12 patients never trained on"},
        "whole_slices.false_positives_per_negative_slice": {"value": 0.21, "low": 0.15, "high": 0.28, "on": "the same"},
        "lidc_nodules.malignancy_auc": {"value": 0.91, "low": 0.88, "high": 0.94, "on": "patients never trained on"},
    },
}


@pytest.fixture(autouse=True)
def model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a model card in place; call it to replace the card (None removes it)."""
    folder = tmp_path / "model"
    folder.mkdir()
    monkeypatch.setenv("IRA_MODEL_DIR", str(folder))

    def write(card: Any) -> None:
        path = folder / "model.json"
        if card is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(card if isinstance(card, str) else json.dumps(card))

    write(CARD)
    return write


@pytest.fixture
def doctor() -> User:
    """The doctor who made study and draft."""
    return DoctorFactory(given_name="Robin", family_name="Hale", licence_number="L-77")


@pytest.fixture
def reader() -> User:
    """The patient's log-in."""
    return UserFactory(given_name="Ona", family_name="Reader")


@pytest.fixture
def patient(doctor: User, reader: User) -> Patient:
    """A record of the doctor's hospital, tied to the patient's log-in."""
    return PatientFactory(created_by=doctor, user=reader)


@pytest.fixture
def draft(doctor: User, patient: Patient) -> Report:
    """The system's draft about a patient who has a log-in."""
    return ReportFactory(study=StudyFactory(created_by=doctor, patient=patient))


@pytest.fixture
def signed(doctor: User, patient: Patient) -> Report:
    """A signed report that the patient does not see yet."""
    return ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_signed=True)


@pytest.fixture
def released(doctor: User, patient: Patient) -> Report:
    """A released report."""
    return ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_released=True)


@pytest.fixture
def log_in() -> Callable[[User], Client]:
    """Return a browser in which this person is logged in."""

    def open_browser(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return open_browser


def pdf_text(pdf: bytes) -> str:
    """Return the text of a PDF with white space folded."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).split())


def finding(*, millimetres: bool = False, **changes: Any) -> FindingResult:
    """Return a finding as the model gives it."""
    values: dict[str, Any] = {
        "box": (40, 40, 10, 12),
        "area_px": 120,
        "long_axis_px": 15.6,
        "short_axis_px": 13.9,
        "malignancy": 0.82,
        "area_mm2": 58.8 if millimetres else None,
        "long_axis_mm": 10.9 if millimetres else None,
        "short_axis_mm": 9.7 if millimetres else None,
    }
    return FindingResult(**(values | changes))


def stored_files(folder: Path) -> set[Path]:
    """Return every file below the private store."""
    return {path for path in folder.rglob("*") if path.is_file()}

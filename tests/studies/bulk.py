"""Helps for the tests of bulk imports: archives made by hand, and an import run to its end without a queue."""

import datetime
import io
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from django.core.files.base import ContentFile
from django.test import TestCase

from accounts.models import User
from studies import tasks
from studies.imports.receiving import open_import, receive_files
from studies.models import Import, ImportFile
from tests.dicom_files import GREY, dicom

STUDY_DATE = datetime.date(2026, 3, 9)


def zipped(files: Mapping[str, bytes], **options: Any) -> bytes:
    """Return a ZIP archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", options.pop("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def ct(place: int, *, study: str = "1.2.3", series: str = "1.2.3.4", **changes: Any) -> bytes:
    """Return one DICOM slice of a series, ``place`` millimetres above its lowest, with a picture of its own."""
    pixels = GREY.astype("uint16") * 8
    pixels[:8, :8] = 100 + (40 * place) % 1700  # far enough apart to be another grey
    pixels[8:16, :8] = zlib.crc32(f"{study} {series}".encode()) % 4096
    facts = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "ImagePositionPatient": [0, 0, place],
        "PatientID": "R-1",
        "PatientName": "",
        "StudyDate": "20260115",
    }
    return dicom(pixels=pixels, **(facts | changes))


def sent(doctor: User, files: Mapping[str, bytes], **options: Any) -> Import:
    """Send files as an import and start it."""
    batch = open_import(
        doctor,
        import_id=options.pop("import_id", None) or uuid.uuid4(),
        patient=options.pop("patient", None),
        study_date=options.pop("study_date", STUDY_DATE),
        **options,
    )
    contents = [ContentFile(content) for content in files.values()]
    receive_files(batch, files=contents, paths=list(files), first=0)
    batch.start()
    return batch


def run(batch: Import, *, most: int = 500) -> Import:
    """Take steps until nothing is left to do."""
    for _ in range(most):
        batch.refresh_from_db()
        if not batch.is_active:
            return batch
        advance(batch)
    raise AssertionError(f"The import is still {batch.state} after {most} steps.")


def advance(batch: Import) -> None:
    """Deliver the message of the import's present step, and do what waits for the commit."""
    with TestCase.captureOnCommitCallbacks(execute=True):
        tasks.advance_import(str(batch.id), batch.step)


def imported(doctor: User, files: Mapping[str, bytes], **options: Any) -> dict[str, ImportFile]:
    """Send files, run the import to its end, and return its lines by name."""
    batch = run(sent(doctor, files, **options))
    assert batch.state == Import.State.FINISHED, batch.error
    return lines(batch)


def lines(batch: Import) -> dict[str, ImportFile]:
    """Return the lines of an import by name."""
    return {line.name: line for line in batch.files.select_related("image__study__patient", "duplicate_of")}

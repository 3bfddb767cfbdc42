"""All data of one patient as an archive: ``data.json`` with its schema, pictures and PDFs.

It holds what the portal shows to the patient, and nothing that is not released: drafts, signed reports that wait, and
doctors' notes beside them stay where they are. What each field means stands in ``my_data.schema.json``, which lies in
the archive too.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipFile

from django.conf import settings
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from accounts.models import User
from reports.automatic import render_automatic
from reports.content import ReportContent, SlicePart
from reports.copies import copy_of
from reports.drawing import outlined_picture
from reports.errors import PdfError
from reports.models import AutomaticReport, BulkJob, Report, ShareLink
from studies.consent import wording
from studies.models import Consent, Handover, Image, Study

SCHEMA: Final = Path(__file__).with_name("my_data.schema.json")
# 2: the links by which reports were shown to others.
FORMAT: Final = 2

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Box:
    """An archive being filled. ``keep_alive`` is called before each file, so that the job is not given up meanwhile."""

    archive: ZipFile
    keep_alive: Callable[[], None]
    files: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: str, content: bytes) -> str:
        """Put a file in and return its path."""
        self.keep_alive()
        self.archive.writestr(path, content)
        self.files.append({"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})
        return path

    def add_stored(self, path: str, stored: FieldFile) -> list[str]:
        """Put a stored picture in; return its path, or nothing where it is missing."""
        try:
            with stored.open("rb") as file:
                return [self.add(path, file.read())]
        except (OSError, ValueError):
            logger.exception("A picture is missing from somebody's own data.")
            return []


def write_my_data(archive: ZipFile, *, user: User, reports: Sequence[Report], keep_alive: Callable[[], None]) -> None:
    """Write everything into an open archive. ``reports`` are the released ones that the person may read now."""
    box = Box(archive=archive, keep_alive=keep_alive)
    data = {
        "format": FORMAT,
        "made_at": _text(timezone.now()),
        "person": {
            "email": user.email,
            "given_name": user.given_name,
            "family_name": user.family_name,
            "signed_up_at": _text(user.created_at),
        },
        "records": [
            {
                "hospital": record.hospital.name if record.hospital else None,
                "record_number": record.record_number,
                "given_name": record.given_name,
                "family_name": record.family_name,
                "birth_date": _text(record.birth_date),
                "email": record.email,
            }
            for record in user.patient_records.select_related("hospital").order_by("created_at")
        ],
        "consents": [
            {
                "upload": str(consent.study_id),
                "version": consent.version,
                "wording": list(wording(consent.version)),
                "wording_sha256": consent.wording_sha256,
                "given_at": _text(consent.given_at),
                "withdrawn_at": _text(consent.withdrawn_at),
            }
            for consent in Consent.objects.filter(user=user)
        ],
        "uploads": [_upload(study, box=box) for study in _uploads_of(user)],
        "reports": [_report(report, box=box) for report in reports],
        "shares": [
            {
                "report": str(link.report_id),
                "recipient_email": link.recipient_email,
                "created_at": _text(link.created_at),
                "expires_at": _text(link.expires_at),
                "revoked_at": _text(link.revoked_at),
                "opened_count": link.opened_count,
                "last_opened_at": _text(link.last_opened_at),
            }
            for link in ShareLink.objects.visible_to(user)
        ],
        "accesses": [entry for path in settings.ACCESSES_OF_A_PATIENT for entry in import_string(path)(user)],
        "files": box.files,
    }
    archive.writestr("data.json", json.dumps(data, indent=2, ensure_ascii=False), compress_type=ZIP_DEFLATED)
    archive.writestr("schema.json", SCHEMA.read_bytes(), compress_type=ZIP_DEFLATED)
    archive.writestr("README.txt", _read_me(), compress_type=ZIP_DEFLATED)


def remove_archives_of(user: User) -> int:
    """Delete the archives of a person's own data that are still kept; return how many.

    Called through ``settings.AFTER_ERASURE``: what was erased must not lie in an archive for another day.
    """
    return BulkJob.objects.filter(requested_by=user, kind=BulkJob.Kind.MY_DATA).remove_archives()


def _uploads_of(user: User) -> Sequence[Study]:
    return list(Study.objects.uploaded_by(user).select_related("patient__hospital").order_by("created_at"))


def _upload(study: Study, *, box: Box) -> dict[str, Any]:
    folder = f"uploads/{study.study_date}-{str(study.id)[:8]}"
    images = Image.objects.filter(study=study, uploaded_by=study.created_by_id).order_by("number")
    report = AutomaticReport.objects.filter(study=study).first()
    return {
        "id": str(study.id),
        "study_date": _text(study.study_date),
        "question": study.clinical_question,
        "uploaded_at": _text(study.created_at),
        "kept_by": study.patient.hospital.name if study.patient.hospital else None,
        "pictures": [path for image in images for path in box.add_stored(f"{folder}/slice.png", image.file)],
        "report": _automatic(report, folder=folder, box=box) if report is not None else None,
        "handovers": [
            {
                "hospital": handover.hospital.name,
                "state": handover.state,
                "requested_at": _text(handover.requested_at),
                "decided_at": _text(handover.decided_at),
                "reason": handover.reason,
            }
            for handover in Handover.objects.filter(study=study).select_related("hospital").order_by("requested_at")
        ],
    }


def _automatic(report: AutomaticReport, *, folder: str, box: Box) -> dict[str, Any]:
    return {
        "made_at": _text(report.made_at),
        "content_sha256": report.content_sha256,
        "content": report.frozen,
        "pdf": _pdf(lambda: render_automatic(report), path=f"{folder}/automatic-report.pdf", box=box),
        "pictures": _pictures(report.content, folder=f"{folder}/automatic-report", box=box, has_slices=False),
    }


def _report(report: Report, *, box: Box) -> dict[str, Any]:
    content = report.content
    folder = f"reports/{content.study.study_date}-{str(report.id)[:8]}"
    return {
        "id": str(report.id),
        "version": report.version,
        "released_at": _text(report.released_at),
        "content_sha256": report.content_sha256,
        "content": report.signed_content,
        "addenda": [addendum.signed_content for addendum in report.addenda.order_by("number")],
        "pdf": _pdf(lambda: copy_of(report).pdf, path=f"{folder}/report.pdf", box=box),
        "pictures": _pictures(content, folder=folder, box=box, has_slices=True),
    }


def _pictures(content: ReportContent, *, folder: str, box: Box, has_slices: bool) -> list[str]:
    """Put in what a frozen content names: the slices, and those with the outlines that it was signed with."""
    images = {str(key): image for key, image in Image.objects.in_bulk([one.image_id for one in content.slices]).items()}
    paths: list[str] = []
    for one in content.slices:
        if has_slices and (image := images.get(one.image_id)) is not None:
            paths += box.add_stored(f"{folder}/slice-{one.number:03d}.png", image.file)
        if one.is_pictured:
            paths += _outlined(one, path=f"{folder}/slice-{one.number:03d}-outlined.png", box=box)
    return paths


def _outlined(slice_: SlicePart, *, path: str, box: Box) -> list[str]:
    try:
        picture = outlined_picture(slice_)
    except LookupError:
        # Erased: the archive comes without it.
        return []
    except (OSError, ValueError):
        logger.exception("A picture is missing from somebody's own data.")
        return []
    return [box.add(path, picture)]


def _pdf(make: Callable[[], bytes], *, path: str, box: Box) -> str | None:
    try:
        return box.add(path, make())
    except PdfError:
        logger.exception("A PDF is missing from somebody's own data.")
        return None


def _text(moment: datetime | date | None) -> str | None:
    if isinstance(moment, datetime):
        return timezone.localtime(moment).isoformat()
    return moment.isoformat() if moment is not None else None


def _read_me() -> str:
    return _(
        "These are your data as this portal keeps and shows them.\n\n"
        "data.json    everything in words and numbers, for computers and curious people\n"
        "schema.json  what each field of data.json means\n"
        "uploads/     slices that you uploaded yourself, with the automatic reports (read by no doctor)\n"
        "reports/     reports that doctors released to you, with their pictures\n\n"
        "What a hospital keeps beyond that, ask the hospital for. Keep this archive in a safe place: it is about your "
        "health, and it is not encrypted.\n"
    )

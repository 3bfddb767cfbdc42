"""What signed things have in common: a PDF in the private store, and a check against the recorded hashes."""

import hashlib
import uuid
from dataclasses import dataclass

from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils.translation import gettext as _

from reports.errors import PdfError


def report_pdf_path(instance: models.Model, filename: str) -> str:
    """Name the stored PDF of a signed report."""
    name = uuid.uuid4()
    return f"reports/{name.hex[:2]}/{name}.pdf"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What checking a signed report against its hashes found: full sentences, none if all is well."""

    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether content and PDF are those that were signed."""
        return not self.problems


def read_frozen_pdf(pdf: FieldFile, *, sha256: str) -> bytes:
    """Return the stored PDF. Raises ``PdfError`` where it is missing or not the one with the recorded hash."""
    damaged = PdfError(
        _("The stored PDF of this report is damaged, so it is not shown. Please tell your administrator at once.")
    )
    try:
        with pdf.open("rb") as file:
            content: bytes = file.read()
    except (OSError, ValueError) as error:
        raise damaged from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged
    return content

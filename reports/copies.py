"""The copy of a signed report that people get: the stored PDF with its addenda, marked where it is superseded.

What is stored stays byte for byte what was signed; pages are added and marked in the copy only.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from reports.models import Report

if TYPE_CHECKING:
    from pypdf import PageObject


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A PDF as it leaves the portal, and its file name, which names no patient."""

    pdf: bytes
    name: str


def copy_of(report: Report) -> Copy:
    """Return the copy of a signed report. Raises ``PdfError`` if any part of it is not the one that was signed."""
    pages = [report.read_pdf(), *(addendum.read_pdf() for addendum in report.addenda.all())]
    day = report.content.study.study_date
    version = f"-version-{report.version}" if report.version > 1 or report.is_superseded else ""
    if report.superseded_at is not None:
        at = date_format(timezone.localtime(report.superseded_at), "j F Y")
        mark = _("SUPERSEDED on %(at)s: version %(version)s is in force. Do not use this version.") % {
            "at": at,
            "version": report.version + 1,
        }
        return Copy(pdf=_bound(pages, mark=mark), name=f"report-{day:%Y-%m-%d}{version}-superseded.pdf")
    if len(pages) > 1:
        mark = ngettext(
            "This report has an addendum: see the last page.",
            "This report has %(count)d addenda: see the last pages.",
            len(pages) - 1,
        ) % {"count": len(pages) - 1}
        return Copy(pdf=_bound(pages, mark=mark), name=f"report-{day:%Y-%m-%d}{version}.pdf")
    return Copy(pdf=pages[0], name=f"report-{day:%Y-%m-%d}{version}.pdf")


def _bound(documents: list[bytes], *, mark: str) -> bytes:
    """Put documents behind each other, each page with the mark on its upper edge."""
    # As heavy as the renderer, and needed as rarely.
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter()
    for document in documents:
        writer.append(io.BytesIO(document))
    stamp: PageObject = PdfReader(io.BytesIO(_stamp(mark))).pages[0]
    for page in writer.pages:
        page.merge_page(stamp)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


def _stamp(mark: str) -> bytes:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.pdfgen.canvas import Canvas

    target = io.BytesIO()
    width, height = A4
    canvas = Canvas(target, pagesize=A4, invariant=1)
    canvas.setFillColor(HexColor("#a3242c"))
    canvas.rect(20 * mm, height - 14 * mm, width - 40 * mm, 8 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#ffffff"))
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawCentredString(width / 2, height - 11.2 * mm, mark)
    canvas.save()
    return target.getvalue()

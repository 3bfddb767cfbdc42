"""Reads ``manifest.csv``: which file shows whom, and when it was taken."""

import csv
import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

# A worker stores these sentences in English; studies.sentences translates them for whoever reads.
from django.utils.translation import gettext_noop as _

from studies.errors import IntakeError
from studies.forms import OLDEST_STUDY_DATE, check_birth_date
from studies.sentences import AND

MANIFEST_NAME = "manifest.csv"
MAX_BYTES = 1024 * 1024
COLUMNS = {
    "file": ("file", "file name", "filename", "path"),
    "record_number": ("record number", "record no", "patient id", "patientid"),
    "name": ("name", "patient name", "patient"),
    "family_name": ("family name", "last name", "surname"),
    "given_name": ("given name", "first name"),
    "birth_date": ("birth date", "date of birth", "birthdate"),
    "study_date": ("study date", "studydate", "examination date"),
}
DATE_FORMATS = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y")
TOO_LONG = _("The manifest has more than %(lines)d lines. Please split the import.")
WRONG_LINE = _("Line %(line)d of the manifest is wrong: %(wrong)s. Please correct it and send the file again.")
SENTENCES = (TOO_LONG, WRONG_LINE)


class ManifestError(IntakeError):
    """The manifest as a whole cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """What one line of the manifest says about one file; ``refusal`` is a sentence where the line is wrong.

    Texts are empty and dates None where the line is silent.
    """

    line: int
    file: str
    record_number: str
    family_name: str
    given_name: str
    birth_date: datetime.date | None
    study_date: datetime.date | None
    refusal: str


def is_manifest(name: str) -> bool:
    """Whether a file of this path is a manifest."""
    return name.rpartition("/")[2].lower() == MANIFEST_NAME


def read_manifest(content: bytes) -> list[ManifestRow]:
    """Return the lines of a manifest: comma, semicolon or tab between the columns, UTF-8 or Windows-1252.

    Raises ``ManifestError`` with a sentence if it cannot be read as a table with the columns needed. A wrong line
    is returned with its refusal.
    """
    if len(content) > MAX_BYTES:
        raise ManifestError(_("The manifest is larger than 1 MB, so it was not read. Please split the import."))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ManifestError(
            _("The manifest is no table that can be read. Please save it as CSV and send it again.")
        ) from error
    if not rows:
        raise ManifestError(_("The manifest is empty. Please fill it in, or leave it out."))
    if len(rows) > 2 * settings.IMPORT_MAX_FILES:
        raise ManifestError(TOO_LONG % {"lines": 2 * settings.IMPORT_MAX_FILES})
    columns = _columns(rows[0][1])
    return [_row(line, cells=cells, columns=columns) for line, cells in rows[1:]]


def _columns(header: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, title in enumerate(header):
        known = " ".join(title.strip().lower().replace("_", " ").split())
        for column, titles in COLUMNS.items():
            if known in titles:
                found.setdefault(column, place)
    if "file" not in found or "record_number" not in found:
        raise ManifestError(
            _(
                "The manifest needs a first line that names its columns: file, record number, name, birth date, study "
                "date. At least file and record number must be there. Please add them and send it again."
            )
        )
    return found


def _row(line: int, *, cells: Sequence[str], columns: dict[str, int]) -> ManifestRow:
    def cell(column: str, longest: int) -> str:
        place = columns.get(column)
        text = cells[place] if place is not None and place < len(cells) else ""
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest]

    wrong: list[str] = []
    family_name, given_name = cell("family_name", 80), cell("given_name", 80)
    if not (family_name or given_name):
        family_name, given_name = split_name(cell("name", 160))
    record_number = cell("record_number", 200)
    if not record_number:
        wrong.append(_("the record number is missing"))
    if len(record_number) > 40:
        wrong.append(_("the record number is longer than 40 characters"))
    birth_date = _date(
        cell("birth_date", 40),
        problem=_("the birth date is not written as year-month-day, such as 1957-04-05"),
        wrong=wrong,
    )
    study_date = _date(
        cell("study_date", 40),
        problem=_("the study date is not written as year-month-day, such as 1957-04-05"),
        wrong=wrong,
    )
    try:
        check_birth_date(birth_date)
    except ValidationError:
        wrong.append(_("nobody who lives was born on that birth date"))
    if study_date and not OLDEST_STUDY_DATE <= study_date <= timezone.localdate():
        wrong.append(_("there was no CT on that study date"))
    elif study_date and birth_date and study_date < birth_date:
        wrong.append(_("the study date lies before the birth date"))
    return ManifestRow(
        line=line,
        file=cell("file", 1024).replace("\\", "/").removeprefix("./"),
        record_number=record_number[:40],
        family_name=family_name,
        given_name=given_name,
        birth_date=birth_date,
        study_date=study_date,
        refusal=WRONG_LINE % {"line": line, "wrong": AND.join(wrong)} if wrong else "",
    )


def split_name(name: str) -> tuple[str, str]:
    """Return family and given name of ``Family, Given`` or ``Given Family`` (DICOM's ``Family^Given`` too)."""
    for mark in (",", "^"):
        if mark in name:
            family, _mark, given = name.partition(mark)
            return family.strip(), " ".join(given.replace("^", " ").split())
    given, _space, family = name.rpartition(" ")
    return family.strip(), given.strip()


def _date(text: str, *, problem: str, wrong: list[str]) -> datetime.date | None:
    if not text:
        return None
    for format_ in DATE_FORMATS:
        try:
            return datetime.datetime.strptime(text, format_).date()
        except ValueError:
            continue
    wrong.append(problem)
    return None

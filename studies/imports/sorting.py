"""Sorts the readable files of an import into examinations, and puts each examination into the order of its slices."""

import datetime
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

# A worker stores these sentences in English; studies.sentences translates them for whoever reads.
from django.utils.translation import gettext_noop as _

from studies.errors import RecordNumberTakenError
from studies.forms import OLDEST_STUDY_DATE
from studies.imports.manifest import ManifestRow
from studies.imports.matching import Match, Person, match_patient, remark
from studies.intake import NewPatient, create_patient
from studies.models import Import, ImportFile, ImportGroup, Patient
from studies.ordering import in_slice_order

if TYPE_CHECKING:
    from ml.dicom import DicomFacts

NAMED_TWICE = _(
    "The manifest names it twice, the second time in line %(line)d, and says different things. Please correct the "
    "manifest and send the file again."
)
AMBIGUOUS = _(
    "Line %(line)d of the manifest names a file of which there are several in different folders. Please write the "
    "folder too."
)
NOT_SENT = _("Line %(line)d of the manifest names a file that was not sent. Please send it, or take the line out.")
SENTENCES = (NAMED_TWICE, AMBIGUOUS, NOT_SENT)


@dataclass(frozen=True, kw_only=True)
class Filing:
    """Where one file is to go: ``key`` names the examination, ``person`` is whom its source names."""

    file: ImportFile
    key: tuple[str, ...]
    person: Person
    study_date: datetime.date
    study_uid: str
    origin: "DicomFacts | None"
    is_from_manifest: bool
    remark: str


def facts_to_json(facts: "DicomFacts") -> dict[str, Any]:
    """Return facts as they can be stored while a file waits."""
    return {name: value.isoformat() if isinstance(value, datetime.date) else value for name, value in _items(facts)}


def facts_from_json(stored: Mapping[str, Any]) -> "DicomFacts | None":
    """Return stored facts; None where there are none."""
    from ml.dicom import DicomFacts

    return DicomFacts(**_with_dates(stored)) if stored else None


def rows_to_json(rows: Sequence[ManifestRow]) -> list[dict[str, Any]]:
    """Return a manifest as it can be stored until the files are sorted."""
    return [
        {name: value.isoformat() if isinstance(value, datetime.date) else value for name, value in _items(row)}
        for row in rows
    ]


def sort_files(batch: Import) -> None:
    """Give every readable file its examination and rank, and every examination its patient, or the question for one.

    The caller holds the import in a transaction. What the files said about people is forgotten here, but for what the
    doctor needs to answer a question.
    """
    files = list(batch.files.filter(state=ImportFile.State.READ, group=None).order_by("position"))
    rows = _rows_of_files(batch, files=files)
    groups: dict[tuple[str, ...], list[Filing]] = defaultdict(list)
    for file in files:
        row = rows.get(file.id)
        if row is not None and row.refusal:
            file.reject(row.refusal)
            continue
        filing = _filing(batch, file=file, row=row)
        groups[filing.key].append(filing)
    for filings in groups.values():
        _make_group(batch, filings=filings)
    batch.files.exclude(facts={}).update(facts={})


def _items(facts: Any) -> list[tuple[str, Any]]:
    return list(asdict(facts).items())


def _with_dates(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.date.fromisoformat(value) if name.endswith("_date") and value else value
        for name, value in stored.items()
    }


def _filing(batch: Import, *, file: ImportFile, row: ManifestRow | None) -> Filing:
    origin = facts_from_json(file.facts)
    said = ""
    if row is not None:
        person = Person(
            record_number=row.record_number,
            family_name=row.family_name or (origin.family_name if origin else ""),
            given_name=row.given_name or (origin.given_name if origin else ""),
            birth_date=row.birth_date or (origin.birth_date if origin else None),
        )
        if origin and origin.record_number and origin.record_number.lower() != row.record_number.lower():
            said = _("The file itself names another record number than the manifest. Please check whose it is.")
            person = Person(
                record_number=row.record_number,
                family_name=row.family_name,
                given_name=row.given_name,
                birth_date=row.birth_date,
            )
    elif origin is not None:
        person = Person(
            record_number=origin.record_number,
            family_name=origin.family_name,
            given_name=origin.given_name,
            birth_date=origin.birth_date,
        )
    else:
        person = Person(record_number="", family_name="", given_name="", birth_date=None)
    study_date = (row.study_date if row else None) or _plausible(origin.study_date if origin else None)
    study_date = study_date or batch.study_date
    uid = origin.study_uid if origin else ""
    number = person.record_number.lower()
    # Without an identifier of its own an examination is a patient's files of one day.
    key = ("dicom", number, uid) if uid else ("day", number, study_date.isoformat())
    return Filing(
        file=file,
        key=key,
        person=person,
        study_date=study_date,
        study_uid=uid,
        origin=origin,
        is_from_manifest=row is not None,
        remark=said,
    )


def _plausible(day: datetime.date | None) -> datetime.date | None:
    """The day, unless no CT can be of it: scanners with a wrong clock exist."""
    return day if day and OLDEST_STUDY_DATE <= day <= timezone.localdate() else None


def _make_group(batch: Import, *, filings: Sequence[Filing]) -> None:
    first = filings[0]
    person = _together([filing.person for filing in filings])
    match = match_patient(batch, person=person)
    if match.patient is None and first.is_from_manifest:
        match = _new_patient(batch, person=person, match=match)
    patient = match.patient
    asked = person if patient is None else Person(record_number="", family_name="", given_name="", birth_date=None)
    uid = f"{batch.hospital_id}:{first.study_uid}"
    group = ImportGroup.objects.create(
        batch=batch,
        key=hashlib.sha256("\0".join(first.key).encode()).hexdigest(),
        source_key=hashlib.sha256(uid.encode()).hexdigest() if first.study_uid else "",
        study_date=first.study_date,
        patient=patient,
        question=match.question,
        **asdict(asked),
    )
    ordered = in_slice_order(filings, name=lambda filing: filing.file.name, origin=lambda filing: filing.origin)
    for rank, filing in enumerate(ordered):
        file = filing.file
        file.group, file.rank = group, rank
        file.state = ImportFile.State.ASKED if patient is None else ImportFile.State.READ
        said = remark(patient, person=filing.person, study_date=first.study_date) if patient else ""
        remarks = [filing.remark, said]
        file.warning = " ".join(part for part in remarks if part)
    ImportFile.objects.bulk_update(
        [filing.file for filing in ordered], ["group", "rank", "state", "warning"], batch_size=200
    )


def _together(people: Sequence[Person]) -> Person:
    """What the files of one examination say between them: each fact from the first file that has it."""
    return Person(
        record_number=next((one.record_number for one in people if one.record_number), ""),
        family_name=next((one.family_name for one in people if one.family_name), ""),
        given_name=next((one.given_name for one in people if one.given_name), ""),
        birth_date=next((one.birth_date for one in people if one.birth_date), None),
    )


def _new_patient(batch: Import, *, person: Person, match: Match) -> Match:
    """Make the record that a manifest describes in full, if the hospital has nobody under its number."""
    if not (person.family_name and person.given_name and person.birth_date):
        return match
    if Patient.objects.filter(hospital=batch.hospital_id, record_number__iexact=person.record_number).exists():
        return match
    new = NewPatient(
        record_number=person.record_number,
        family_name=person.family_name,
        given_name=person.given_name,
        birth_date=person.birth_date,
    )
    try:
        return Match(patient=create_patient(new, doctor=batch.created_by), question="")
    except RecordNumberTakenError:
        return match


# --- the manifest -----------------------------------------------------------------------------------------------------


def _rows_of_files(batch: Import, *, files: Sequence[ImportFile]) -> dict[Any, ManifestRow]:
    """Return the manifest's line for each file that one names; lines without a file become lines of the import."""
    found: dict[Any, ManifestRow] = {}
    opened = batch.files.filter(state=ImportFile.State.OPENED).exclude(facts={})
    known = list(batch.files.exclude(state=ImportFile.State.OPENED))
    for manifest in opened.order_by("position"):
        in_reach = [file for file in known if manifest.archive_id in (None, file.archive_id)]
        _apply(batch, manifest=manifest, files=in_reach, found=found)
    return {file.id: found[file.id] for file in files if file.id in found}


def _apply(batch: Import, *, manifest: ImportFile, files: Sequence[ImportFile], found: dict[Any, ManifestRow]) -> None:
    folder = manifest.name.rpartition("/")[0].lower()
    by_path = {file.name.lower(): file for file in files}
    by_name: dict[str, list[ImportFile]] = defaultdict(list)
    for file in files:
        by_name[file.short_name.lower()].append(file)
    missing: list[str] = []
    for stored in manifest.facts["rows"]:
        row = ManifestRow(**_with_dates(stored))
        path = row.file.lower()
        namesakes = by_name.get(path.rpartition("/")[2], [])
        only = namesakes[0] if len(namesakes) == 1 else None
        named = by_path.get(f"{folder}/{path}" if folder else path) or by_path.get(path) or only
        if named is None:
            missing.append(_refusal_of_missing(row, is_ambiguous=len(namesakes) > 1))
        elif named.id in found and _differs(found[named.id], row):
            found[named.id] = ManifestRow(**asdict(row) | {"refusal": NAMED_TWICE % {"line": row.line}})
        else:
            found.setdefault(named.id, row)
    _note_missing(batch, manifest=manifest, sentences=missing)


def _refusal_of_missing(row: ManifestRow, *, is_ambiguous: bool) -> str:
    return (AMBIGUOUS if is_ambiguous else NOT_SENT) % {"line": row.line}


def _differs(one: ManifestRow, other: ManifestRow) -> bool:
    return (one.record_number.lower(), one.study_date) != (other.record_number.lower(), other.study_date)


def _note_missing(batch: Import, *, manifest: ImportFile, sentences: Sequence[str]) -> None:
    last = batch.files.order_by("-position").values_list("position", flat=True).first() or 0
    ImportFile.objects.bulk_create(
        [
            ImportFile(
                batch=batch,
                position=position,
                name=manifest.name,
                archive=manifest.archive,
                state=ImportFile.State.REJECTED,
                sentence=sentence,
            )
            for position, sentence in enumerate(sentences, start=last + 1)
        ],
        batch_size=200,
    )

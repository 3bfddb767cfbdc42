"""The way in: what is uploaded is checked, re-encoded, stored privately and put into the analysis queue."""

import datetime
import hashlib
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ml.errors import MlError
from ml.images import Limits, read_facts, read_slice, reencode_png
from studies.errors import IntakeError, InvalidTransitionError, RecordNumberTakenError
from studies.models import Analysis, Image, Patient, Study
from studies.ordering import in_slice_order
from studies.permissions import grant_patient, grant_study
from studies.sentences import in_the_readers_language
from studies.storage import may_be_committed

if TYPE_CHECKING:
    from ml.dicom import DicomFacts

MAX_FILES = 40


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file as it came: its bytes, and the name that the uploader's machine gave it."""

    content: bytes
    name: str


@dataclass(frozen=True, kw_only=True)
class NewPatient:
    """A record to be made together with its first study; every field already cleaned by a form."""

    record_number: str
    given_name: str
    family_name: str
    birth_date: datetime.date
    email: str = ""


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What is to be known about a re-encoded slice besides its pixels; units as in the names, None where unknown."""

    sha256: str
    byte_size: int
    width: int
    height: int
    source_format: str
    row_spacing_mm: float | None
    column_spacing_mm: float | None
    black_hu: float | None
    white_hu: float | None


@dataclass(frozen=True, kw_only=True)
class PreparedSlice:
    """A checked slice, ready to be stored: the re-encoded PNG, what is to be known about it, and what a DICOM file said
    about itself.
    """

    png: bytes
    picture: PictureFacts
    original_name: str
    origin: "DicomFacts | None"


def prepare_slice(upload: Upload) -> PreparedSlice:
    """Check and re-encode one file; touches neither database nor store.

    Raises an ``MlError`` whose sentence says why the file is refused.
    """
    limits = Limits(max_bytes=settings.UPLOAD_MAX_BYTES, max_pixels=settings.UPLOAD_MAX_PIXELS)
    decoded = read_slice(upload.content, limits=limits)
    png = reencode_png(decoded)
    row_spacing_mm, column_spacing_mm = decoded.pixel_spacing_mm or (None, None)
    black_hu, white_hu = (decoded.window.black_hu, decoded.window.white_hu) if decoded.window else (None, None)
    return PreparedSlice(
        png=png,
        picture=PictureFacts(
            sha256=hashlib.sha256(png).hexdigest(),
            byte_size=len(png),
            width=decoded.width,
            height=decoded.height,
            source_format=decoded.format,
            row_spacing_mm=row_spacing_mm,
            column_spacing_mm=column_spacing_mm,
            black_hu=black_hu,
            white_hu=white_hu,
        ),
        original_name=clean_file_name(upload.name),
        origin=read_facts(upload.content),
    )


def prepare_slices(uploads: Sequence[Upload]) -> tuple[PreparedSlice, ...]:
    """Check and re-encode every file of one study, and put them into the order of the slices.

    Touches neither database nor store. Raises ``IntakeError`` with one sentence for each refused file if any is
    refused.
    """
    if not uploads:
        raise IntakeError(_("Please choose the file of the slice."))
    if len(uploads) > MAX_FILES:
        raise IntakeError(
            _("Please choose at most %(limit)d files at a time; you chose %(count)d.")
            % {"limit": MAX_FILES, "count": len(uploads)}
        )
    prepared: list[PreparedSlice] = []
    refusals: list[str] = []
    for upload in uploads:
        name = clean_file_name(upload.name)
        try:
            found = prepare_slice(upload)
            if twin := next((other for other in prepared if other.picture.sha256 == found.picture.sha256), None):
                raise IntakeError(
                    _("It shows the same picture as %(name)s. Please choose it only once.")
                    % {"name": twin.original_name}
                )
            prepared.append(found)
        except (MlError, IntakeError) as error:
            sentence = in_the_readers_language(str(error)) if isinstance(error, MlError) else str(error)
            refusals.append(sentence if len(uploads) == 1 else f"{name}: {sentence}")
    if refusals:
        raise IntakeError(*refusals)
    return tuple(in_slice_order(prepared, name=lambda found: found.original_name, origin=lambda found: found.origin))


def submit_study(
    doctor: User,
    *,
    patient: Patient | NewPatient,
    study_date: datetime.date,
    uploads: Sequence[Upload],
    clinical_question: str = "",
    accession_number: str = "",
    is_synthetic: bool = False,
    study_id: uuid.UUID | None = None,
) -> Study:
    """Store a study with its slices, grant it to the doctor, and queue an analysis of each slice.

    One transaction of its own (it cannot be nested in another, because files cannot be rolled back with it): either
    everything is stored or nothing is, files included. The caller has checked that the doctor may see ``patient``;
    ``study_id`` is the identifier that the study is to have, where somebody knows it beforehand.

    Raises ``IntakeError`` with a sentence for each refused file, ``RecordNumberTakenError`` for a new patient whose
    record number is taken.
    """
    slices = prepare_slices(uploads)
    with files_follow_the_transaction() as stored, transaction.atomic(durable=True):
        if isinstance(patient, NewPatient):
            patient = create_patient(patient, doctor=doctor)
        study = Study.objects.create(
            id=study_id or uuid.uuid4(),
            patient=patient,
            study_date=study_date,
            clinical_question=clinical_question,
            accession_number=accession_number,
            is_synthetic=is_synthetic,
            created_by=doctor,
        )
        grant_study(study, to=doctor, can_change=True)
        for number, prepared in enumerate(slices, start=1):
            store_slice(study, doctor=doctor, number=number, prepared=prepared, stored=stored)
    return study


def add_slices(study: Study, *, doctor: User, uploads: Sequence[Upload]) -> list[Image]:
    """Append slices to a study, in the order given, and queue an analysis of each.

    One transaction of its own, as in ``submit_study``. The caller has checked that the doctor may change the study.

    Raises ``IntakeError`` with a sentence for each refused file; a picture that the study holds already is refused.
    """
    slices = prepare_slices(uploads)
    with files_follow_the_transaction() as stored, transaction.atomic(durable=True):
        Study.objects.select_for_update().get(id=study.id)
        known = dict(study.images.values_list("sha256", "number"))
        if refusals := [
            _("%(name)s is already slice %(number)d of this study. Please leave it out.")
            % {"name": prepared.original_name, "number": number}
            for prepared in slices
            if (number := known.get(prepared.picture.sha256))
        ]:
            raise IntakeError(*refusals)
        last = study.images.aggregate(last=models.Max("number"))["last"] or 0
        return [
            store_slice(study, doctor=doctor, number=number, prepared=prepared, stored=stored)
            for number, prepared in enumerate(slices, start=last + 1)
        ]


def create_patient(new: NewPatient, *, doctor: User) -> Patient:
    """Make a record at the doctor's hospital and grant it to the doctor.

    Raises ``RecordNumberTakenError`` if the hospital has that record number already.
    """
    assert doctor.hospital is not None  # noqa: S101 - narrows the type: an approved doctor has a hospital
    try:
        with transaction.atomic():
            patient = Patient.objects.create(
                hospital=doctor.hospital,
                record_number=new.record_number,
                given_name=new.given_name,
                family_name=new.family_name,
                birth_date=new.birth_date,
                email=new.email,
                created_by=doctor,
            )
    except IntegrityError as error:
        raise RecordNumberTakenError(
            _(
                "Your hospital already has a patient with this record number. Please check the number, or choose that "
                "patient from the list."
            )
        ) from error
    grant_patient(patient, to=doctor, can_change=True)
    return patient


def request_analysis(image: Image, *, by: User, is_held_back: bool = False) -> Analysis:
    """Queue a new analysis of a slice; one that is held back gets its message later, from the import it belongs to.

    Raises ``InvalidTransitionError`` while another one of the same slice waits or runs.
    """
    try:
        with transaction.atomic():
            analysis = Analysis.objects.create(image=image, requested_by=by)
    except IntegrityError as error:
        raise InvalidTransitionError(
            _("This slice is already waiting to be analysed or being analysed. Please wait for that to finish.")
        ) from error
    # A queue that is out of order must not undo or hide what is stored: the sweeper sends the message later.
    if not is_held_back:
        transaction.on_commit(analysis.enqueue, robust=True)
    return analysis


def new_slice(study: Study, *, doctor: User, number: int, picture: PictureFacts, name: str) -> Image:
    """Return a slice of a study that is not stored yet and has no file yet."""
    return Image(study=study, number=number, original_name=name, uploaded_by=doctor, **asdict(picture))


def clean_file_name(name: str) -> str:
    """Return the last part of an uploader's file name without control characters, at most 255 characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    printable = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    return printable[-255:] if printable.strip(".") else "file"


def store_slice(study: Study, *, doctor: User, number: int, prepared: PreparedSlice, stored: list[Image]) -> Image:
    """Store a checked slice with its file, queue its analysis, and add it to ``stored``; the caller's transaction."""
    image = new_slice(study, doctor=doctor, number=number, picture=prepared.picture, name=prepared.original_name)
    stored.append(image)
    image.file.save("slice.png", ContentFile(prepared.png), save=False)
    image.save(force_insert=True)
    request_analysis(image, by=doctor)
    return image


@contextmanager
def files_follow_the_transaction() -> Iterator[list[Image]]:
    """Collect the slices written inside and remove their files again if the transaction does not commit."""
    stored: list[Image] = []
    try:
        yield stored
    except BaseException as error:
        for image in [] if may_be_committed(error) else stored:
            if image.file.name:
                image.file.storage.delete(image.file.name)
        raise

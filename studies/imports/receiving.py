"""Takes the files of an import as they come, and keeps them privately until a worker has read them."""

import datetime
import uuid
from collections.abc import Sequence

from django.conf import settings
from django.core.files.base import File
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from studies.errors import IntakeError
from studies.imports.archives import shown_path
from studies.intake import NewPatient, create_patient
from studies.models import Import, ImportFile, Patient

# Uploads that a doctor has begun and neither finished nor discarded.
MAX_UNFINISHED = 10


def open_import(
    doctor: User,
    *,
    import_id: uuid.UUID,
    patient: Patient | NewPatient | None,
    study_date: datetime.date,
    clinical_question: str = "",
    announced_files: int = 0,
) -> Import:
    """Begin an import, or return the one that was begun under this identifier: a form that is sent twice is one.

    ``patient`` and ``study_date`` are for files that do not say themselves whose they are, or from when. The caller
    has checked that the doctor may see the patient. Raises ``IntakeError`` with a sentence if the doctor has too many
    unfinished uploads, ``RecordNumberTakenError`` for a new patient whose record number is taken.
    """
    if begun := Import.objects.visible_to(doctor).filter(id=import_id).first():
        return begun
    unfinished = Import.objects.visible_to(doctor).filter(state=Import.State.RECEIVING).count()
    if unfinished >= MAX_UNFINISHED:
        raise IntakeError(
            _("You have %(count)d uploads that were never finished. Please finish or discard one of them first.")
            % {"count": unfinished}
        )
    assert doctor.hospital is not None  # noqa: S101 - narrows the type: an approved doctor has a hospital
    with transaction.atomic():
        if isinstance(patient, NewPatient):
            patient = create_patient(patient, doctor=doctor)
        return Import.objects.create(
            id=import_id,
            hospital=doctor.hospital,
            created_by=doctor,
            patient=patient,
            study_date=study_date,
            clinical_question=clinical_question,
            announced_files=announced_files,
        )


def receive_files(batch: Import, *, files: Sequence[File], paths: Sequence[str], first: int) -> int:
    """Keep files of an import, the first of them as number ``first`` (from 0); return how many are new.

    A number that has come already is not kept again, so a request may be repeated. ``paths`` are what the browser
    calls the files, with their folders where it knows them. Raises ``IntakeError`` with a sentence if the import takes
    no more files.
    """
    if not batch.is_receiving:
        raise IntakeError(
            _("This import has started already and takes no more files. Please start another one for them.")
        )
    if first < 0 or first + len(files) > settings.IMPORT_MAX_FILES:
        raise IntakeError(
            _("At most %(limit)d files are accepted at a time. Please import the rest afterwards.")
            % {"limit": settings.IMPORT_MAX_FILES}
        )
    kept = 0
    for position, (file, path) in enumerate(zip(files, paths, strict=True), start=first):
        kept += _keep(batch, file=file, path=path, position=position)
    Import.objects.filter(id=batch.id, state=Import.State.RECEIVING).update(touched_at=timezone.now())
    return kept


def _keep(batch: Import, *, file: File, path: str, position: int) -> bool:
    if batch.files.filter(position=position).exists():
        return False
    line = ImportFile(batch=batch, position=position, name=shown_path(path))
    line.content.save("content", file, save=False)
    try:
        with transaction.atomic():
            # Started meanwhile: the worker must not meet a file that nobody has counted.
            is_receiving = Import.objects.select_for_update().filter(id=batch.id, state=Import.State.RECEIVING).exists()
            if is_receiving:
                line.save(force_insert=True)
    except IntegrityError:
        is_receiving = False
    if not is_receiving:
        line.content.storage.delete(str(line.content.name))
    return is_receiving

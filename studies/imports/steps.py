"""The steps of an import that a worker takes one at a time: read a few files, sort all, store a few, hand a few to the
analysis. Each may be cut off anywhere and is safe to take again.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.db import models, transaction

# A worker stores these sentences in English; studies.sentences translates them for whoever reads.
from django.utils.translation import gettext_noop as _

from accounts.models import AccessEvent
from ml.errors import MlError
from studies.errors import IntakeError
from studies.imports.archives import NESTED, ArchiveError, Entry, is_archive, list_entries, read_entries
from studies.imports.manifest import is_manifest, read_manifest
from studies.imports.sorting import facts_to_json, rows_to_json, sort_files
from studies.intake import PictureFacts, PreparedSlice, Upload, new_slice, prepare_slice, request_analysis
from studies.models import Image, Import, ImportFile, ImportGroup, Patient, Study
from studies.models.bulk import held_back_analyses
from studies.permissions import grant_study
from studies.storage import may_be_committed

logger = logging.getLogger(__name__)

# A step stays far below the broker's time-out, so that another doctor's single slice gets its turn in between.
READ_AT_ONCE = 10
READ_FOR_S = 5.0
STORE_AT_ONCE = 50
ANALYSE_AT_ONCE = 10
# A file that was being read twice when the worker died is not read a third time.
MAX_READS = 2
SURPRISE = _(
    "Something went wrong inside the portal while this file was read. Please send it again; if it fails again, tell "
    "your administrator the time and that an import failed unexpectedly."
)
KILLER = _(
    "The portal stopped twice while this file was read, so it was left out. Please export the slice again, as an 8-bit "
    "PNG if you can."
)
SYSTEM_FILE = _(
    "It is a note that a computer keeps beside your files, not a slice, so it was left out. Please ignore it."
)
TOO_LARGE = _(
    "The file is larger than the %(megabytes)d MB that are accepted. Please export the slice as an 8-bit PNG or JPEG "
    "and send that."
)
NO_ROOM = _(
    "With the files of this archive the import would have more than %(limit)d files. Please import it by itself."
)
SENTENCES = (TOO_LARGE, NO_ROOM)
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini", "dicomdir"})


def take_step(batch: Import) -> None:
    """Take the step that the claimed import is at, and pass it on.

    Raises ``InvalidTransitionError`` if the step was given up while it was taken; nothing of it is stored then.
    """
    match batch.state:
        case Import.State.READING:
            _read_some(batch)
        case Import.State.SORTING:
            with transaction.atomic():
                batch.hold()
                sort_files(batch)
                batch.pass_on(to=Import.State.STORING)
        case Import.State.STORING:
            _store_some(batch)
        case Import.State.ANALYSING:
            _analyse_some(batch)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was found in one file: one of a refusal, a slice, an archive's entries or a manifest's lines."""

    file: ImportFile
    refusal: str = ""
    slice_: PreparedSlice | None = None
    entries: tuple[Entry, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    is_manifest: bool = False


def _read_some(batch: Import) -> None:
    files = _next_to_read(batch)
    if not files:
        with transaction.atomic():
            batch.hold()
            batch.pass_on(to=Import.State.SORTING)
        return
    ImportFile.objects.filter(id__in=[file.id for file in files]).update(attempt=models.F("attempt") + 1)
    started = time.monotonic()
    readings: list[Reading] = []
    for file, content in _contents(files):
        readings.append(_read(file, content=content))
        if time.monotonic() - started > READ_FOR_S:
            break
    with _pictures_follow_the_transaction() as written, transaction.atomic():
        batch.hold()
        for reading in readings:
            _note(batch, reading=reading, written=written)
        batch.files.filter(id__in=[file.id for file in files], state=ImportFile.State.WAITING).update(attempt=0)
        _drop_read_archives(batch)
        batch.pass_on(to=Import.State.READING)


def _next_to_read(batch: Import) -> list[ImportFile]:
    """The next few files of one archive, or of none. One that may have stopped a worker comes alone."""
    waiting = batch.files.filter(state=ImportFile.State.WAITING).select_related("archive").order_by("position")
    files = list(waiting[:READ_AT_ONCE])
    if not files or files[0].attempt:
        return files[:1]
    together = []
    for file in files:
        if file.attempt or file.archive_id != files[0].archive_id:
            break
        together.append(file)
    return together


def _contents(files: Sequence[ImportFile]) -> Iterator[tuple[ImportFile, bytes | str]]:
    """The bytes of each file, or the sentence that says why there are none; files of an archive share its opening."""
    archive = files[0].archive
    if archive is None:
        for file in files:
            yield file, _content(file)
        return
    sound = [file for file in files if file.attempt < MAX_READS]
    for file in files:
        if file.attempt >= MAX_READS:
            yield file, KILLER
    with archive.content.open("rb") as stream:
        numbers = [file.entry_number or 0 for file in sound]
        for file, content in zip(sound, read_entries(stream, numbers=numbers), strict=True):
            yield file, content if isinstance(content, bytes) else str(content)


def _content(file: ImportFile) -> bytes | str:
    if file.attempt >= MAX_READS:
        return KILLER
    with file.content.open("rb") as stream:
        head = stream.read(4)
        if is_archive(head):
            # Archives are larger than slices and are not read into memory.
            return head
        if file.content.size > settings.UPLOAD_MAX_BYTES:
            return TOO_LARGE % {"megabytes": round(settings.UPLOAD_MAX_BYTES / 1024**2)}
        return head + stream.read()


def _read(file: ImportFile, *, content: bytes | str) -> Reading:
    if isinstance(content, str):
        return Reading(file=file, refusal=content)
    try:
        if is_archive(content[:4]):
            return _read_archive(file)
        if file.short_name.lower() in SYSTEM_FILES or f"/{file.name}".find("/__MACOSX/") >= 0:
            return Reading(file=file, refusal=SYSTEM_FILE)
        if is_manifest(file.name):
            return Reading(file=file, rows=tuple(rows_to_json(read_manifest(content))), is_manifest=True)
        return Reading(file=file, slice_=prepare_slice(Upload(content=content, name=file.name)))
    except (MlError, IntakeError) as error:
        return Reading(file=file, refusal=str(error))
    except Exception:
        # The edge of one file: whatever is wrong with it, the others go on.
        logger.exception("Import %s: file %d failed unexpectedly.", file.batch_id, file.position)
        return Reading(file=file, refusal=SURPRISE)


def _read_archive(file: ImportFile) -> Reading:
    if file.archive is not None:
        raise ArchiveError(NESTED)
    with file.content.open("rb") as stream:
        return Reading(file=file, entries=tuple(list_entries(stream)))


def _note(batch: Import, *, reading: Reading, written: list[ImportFile]) -> None:
    file = reading.file
    if reading.refusal:
        file.reject(reading.refusal)
    elif reading.entries:
        _note_entries(batch, archive=file, entries=reading.entries)
    elif reading.is_manifest:
        file.drop_content()
        file.state, file.facts = ImportFile.State.OPENED, {"rows": list(reading.rows)}
        file.sentence = _("It tells whose the other files are.")
        file.save()
    elif reading.slice_ is not None:
        file.drop_content()
        file.state = ImportFile.State.READ
        written.append(file)
        file.picture.save("slice.png", ContentFile(reading.slice_.png), save=False)
        file.picture_facts = asdict(reading.slice_.picture)
        file.facts = facts_to_json(reading.slice_.origin) if reading.slice_.origin else {}
        file.save()


def _note_entries(batch: Import, *, archive: ImportFile, entries: Sequence[Entry]) -> None:
    room = settings.IMPORT_MAX_FILES - batch.files.count() + 1
    if len(entries) > room:
        archive.reject(NO_ROOM % {"limit": settings.IMPORT_MAX_FILES})
        return
    last = batch.files.aggregate(last=models.Max("position"))["last"] or 0
    ImportFile.objects.bulk_create(
        [
            ImportFile(
                batch=batch,
                position=position,
                name=entry.name,
                archive=archive,
                entry_number=entry.number,
                state=ImportFile.State.REJECTED if entry.refusal else ImportFile.State.WAITING,
                sentence=entry.refusal,
            )
            for position, entry in enumerate(entries, start=last + 1)
        ],
        batch_size=200,
    )
    archive.state = ImportFile.State.OPENED
    archive.sentence = _("It is an archive; its files have lines of their own.")
    archive.save()


def _drop_read_archives(batch: Import) -> None:
    """Delete the archives of which every file is read."""
    opened = batch.files.filter(state=ImportFile.State.OPENED).exclude(content="")
    for archive in opened:
        if not archive.entries.filter(state=ImportFile.State.WAITING).exists():
            archive.drop_content()


@contextmanager
def _pictures_follow_the_transaction() -> Iterator[list[ImportFile]]:
    """Collect the files whose pictures are written inside, and remove these again if nothing is committed."""
    written: list[ImportFile] = []
    try:
        yield written
    except BaseException as error:
        for file in [] if may_be_committed(error) else written:
            if file.picture.name:
                file.picture.storage.delete(file.picture.name)
        raise


# --- storing ----------------------------------------------------------------------------------------------------------


def _store_some(batch: Import) -> None:
    with transaction.atomic():
        batch.hold()
        ready = batch.files.filter(state=ImportFile.State.READ, group__patient__isnull=False)
        files = list(
            ready.select_related("group__patient", "group__study").order_by("group__study_date", "group_id", "rank")[
                :STORE_AT_ONCE
            ]
        )
        groups: dict[Any, ImportGroup] = {}
        for file in files:
            assert file.group is not None  # noqa: S101 - narrows the type: the queryset asks for a group
            file.group = groups.setdefault(file.group_id, file.group)
        for group in groups.values():
            _store_group(batch, group=group, files=[file for file in files if file.group_id == group.id])
        batch.pass_on(to=Import.State.STORING if files else Import.State.ANALYSING)


def _store_group(batch: Import, *, group: ImportGroup, files: Sequence[ImportFile]) -> None:
    doctor, patient = batch.created_by, group.patient
    assert patient is not None  # noqa: S101 - narrows the type: only groups with a patient are stored
    if not Patient.objects.visible_to(doctor).filter(id=patient.id).exists():
        for file in files:
            file.reject(_("You may not see this patient any more, so nothing was stored. Please ask a colleague."))
        return
    twins = _Twins(batch, patient=patient, files=files)
    study = _study_of(batch, group=group)
    number = 0
    if study is not None:
        Study.objects.select_for_update().get(id=study.id)
        number = study.images.aggregate(last=models.Max("number"))["last"] or 0
    for file in files:
        picture = PictureFacts(**file.picture_facts)
        if twin := twins.known.get(picture.sha256):
            file.duplicate(twin, warning=file.warning)
            continue
        if study is None:
            study = _new_study(batch, group=group, patient=patient)
        number += 1
        image = new_slice(study, doctor=doctor, number=number, picture=picture, name=file.short_name)
        image.file.name = file.picture.name
        image.save(force_insert=True)
        request_analysis(image, by=doctor, is_held_back=True)
        twins.known[picture.sha256] = image
        remarks = [file.warning, twins.remark(picture.sha256)]
        file.accept(image, warning=" ".join(part for part in remarks if part))


class _Twins:
    """Where the pictures of some files are stored already."""

    def __init__(self, batch: Import, *, patient: Patient, files: Sequence[ImportFile]) -> None:
        hashes = {file.picture_facts["sha256"] for file in files}
        stored = Image.objects.filter(sha256__in=hashes, study__patient__hospital=batch.hospital_id)
        of_patient = stored.filter(study__patient=patient)
        visible = Study.objects.visible_to(batch.created_by)
        self.known = {image.sha256: image for image in of_patient.filter(study__in=visible)}
        self._unseen = set(of_patient.exclude(study__in=visible).values_list("sha256", flat=True))
        self._of_others = set(stored.exclude(study__patient=patient).values_list("sha256", flat=True))

    def remark(self, sha256: str) -> str:
        """Say that the picture is stored elsewhere too; nothing about whose it is there."""
        if sha256 in self._of_others:
            return _(
                "The same picture is stored under another patient of your hospital. Please check whose it is, and tell "
                "your administrator if it is filed wrongly."
            )
        if sha256 in self._unseen:
            return _("The same picture is stored in a study of this patient that is not shared with you.")
        return ""


def _study_of(batch: Import, *, group: ImportGroup) -> Study | None:
    """The study that the group's files go to: begun by this import, or stored earlier from the same examination."""
    if group.study is not None:
        return group.study
    if not group.source_key:
        return None
    mine = Study.objects.changeable_by(batch.created_by).filter(patient=group.patient, source_key=group.source_key)
    found = mine.order_by("created_at").first()
    if found is not None:
        ImportGroup.objects.filter(id=group.id).update(study=found)
        group.study = found
        AccessEvent.note_of(action=AccessEvent.Action.CHANGED, target=found, actor=batch.created_by)
    return found


def _new_study(batch: Import, *, group: ImportGroup, patient: Patient) -> Study:
    study = Study.objects.create(
        patient=patient,
        study_date=group.study_date,
        clinical_question=batch.clinical_question,
        source_key=group.source_key,
        created_by=batch.created_by,
    )
    grant_study(study, to=batch.created_by, can_change=True)
    ImportGroup.objects.filter(id=group.id).update(study=study)
    group.study = study
    AccessEvent.note_of(action=AccessEvent.Action.CREATED, target=study, actor=batch.created_by)
    return study


# --- analysing --------------------------------------------------------------------------------------------------------


def _analyse_some(batch: Import) -> None:
    """Put a few analyses into the queue; the next message waits behind them, so the queue never fills up."""
    with transaction.atomic():
        batch.hold()
        analyses = list(held_back_analyses(batch)[:ANALYSE_AT_ONCE])
        for analysis in analyses:
            transaction.on_commit(analysis.enqueue, robust=True)
        batch.pass_on(to=Import.State.ANALYSING if analyses else Import.State.FINISHED)

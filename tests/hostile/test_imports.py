"""Hostile archives and manifests through the real bulk import: a sentence for each, and nothing outside the store."""

import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from ml.images import read_slice
from studies.imports.steps import SURPRISE
from studies.models import Image, Import, ImportFile, Patient
from tests.factories import DoctorFactory, PatientFactory, slice_png
from tests.hostile.archives import archives, manifests, sound_archive
from tests.hostile.test_uploads import STORED_NAME
from tests.studies.bulk import run
from tests.tools import ROOT

ARCHIVES_AN_IMPORT = 6
# One slice of 20 MB and what unpacking it takes.
LARGEST_PEAK_MB = 100

Importer = Callable[[list[SimpleUploadedFile]], Import]


@pytest.fixture
def send(client: Client, tmp_path: Path, settings) -> Importer:
    """Send files through the form as a browser without JavaScript does, and take every step of the import."""
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    settings.FILE_UPLOAD_TEMP_DIR.mkdir()
    doctor = DoctorFactory()
    patient = PatientFactory(created_by=doctor, record_number="R-1", family_name="Known")
    client.force_login(doctor)
    client.raise_request_exception = False

    def sent(files: list[SimpleUploadedFile]) -> Import:
        token = uuid.uuid4()
        data = {"token": str(token), "patient": str(patient.id), "study_date": "2026-03-09", "loose_files": files}
        response = client.post(reverse("studies:import_create"), data)
        assert response.status_code == 302, f"{response.status_code} for {[file.name for file in files]}"
        return run(Import.objects.get(id=token))

    return sent


def upload(name: str, content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def problems_of(batch: Import, *, label: str, client: Client) -> list[str]:
    """Return what is wrong with a finished import: surprises, lines without a sentence, pages that fail or run code."""
    found = [] if batch.state == Import.State.FINISHED else [f"{label}: the import is {batch.state}: {batch.error}"]
    for line in batch.files.all():
        if line.sentence == SURPRISE:
            found.append(f"{label}: {line.name!r} was a surprise")
        if line.state == ImportFile.State.REJECTED and not line.sentence.endswith("."):
            found.append(f"{label}: {line.name!r} has no sentence: {line.sentence!r}")
        if line.state in (ImportFile.State.WAITING, ImportFile.State.READ):
            found.append(f"{label}: {line.name!r} is still {line.state}")
        if not is_plain(line.name) or line.name.startswith("/"):
            found.append(f"{label}: the line is called {line.name!r}")
    page = client.get(reverse("studies:import_detail", args=[batch.id]))
    if page.status_code != 200:
        found.append(f"{label}: the page answers {page.status_code}")
    if any(code in page.content for code in (b"<script>alert", b"<img src=x", b"<svg><script>")):
        found.append(f"{label}: foreign code on the page")
    return found


def is_plain(text: str) -> bool:
    """Whether a text holds no control, direction or other invisible character."""
    return not any(unicodedata.category(character)[0] == "C" for character in text)


def check_store(folder: Path) -> None:
    """Nothing lies anywhere but in the store, under names of ours, and is a plain picture."""
    media = folder / "media"
    found = {path for path in folder.rglob("*") if path.is_file()}
    assert {path for path in found if not path.is_relative_to(media)} == set()
    names = {path.relative_to(media).as_posix() for path in found}
    assert [name for name in names if not STORED_NAME.match(name)] == []
    asked = ImportFile.objects.exclude(picture="").values_list("picture", flat=True)
    assert set(Image.objects.values_list("file", flat=True)) | set(asked) == names
    for name in sorted(names)[:40]:
        assert read_slice((media / name).read_bytes()).format == "PNG"


def test_the_corpus_is_large_and_the_same_each_time() -> None:
    found = [*archives(), *manifests()]
    assert len({file.content for file in found}) >= 220
    assert [file.label for file in found] == [file.label for file in [*archives(), *manifests()]]
    assert len({file.label for file in found}) == len(found)


@pytest.mark.django_db
def test_the_sound_archive_behind_the_corpus_is_accepted(send: Importer) -> None:
    batch = send([upload("sound.zip", sound_archive())])
    assert batch.files.filter(state=ImportFile.State.ACCEPTED).count() == 2


@pytest.mark.django_db
def test_every_hostile_archive_gets_its_sentences(send: Importer, client: Client, tmp_path: Path) -> None:
    problems: list[str] = []
    files = archives()
    for start in range(0, len(files), ARCHIVES_AN_IMPORT):
        some = files[start : start + ARCHIVES_AN_IMPORT]
        batch = send([upload(file.name, file.content) for file in some])
        problems += problems_of(batch, label=" / ".join(file.label for file in some), client=client)
        lines = {line.name: line for line in batch.files.filter(archive__isnull=True)}
        problems += [f"{file.label}: no line of its own" for file in some if file.name not in lines]
    assert problems == []
    # Neither everything nor nothing got through, and nothing but the two pictures of the sound archive.
    assert set(Image.objects.values_list("sha256", flat=True).distinct())
    assert Image.objects.values("sha256").distinct().count() <= 3
    check_store(tmp_path)


@pytest.mark.django_db
def test_every_hostile_manifest_gets_its_sentences(send: Importer, client: Client, tmp_path: Path) -> None:
    problems: list[str] = []
    pictures = pictures_of_their_own()
    for number, file in enumerate(manifests()):
        batch = send([upload("manifest.csv", file.content), upload("good.png", pictures[number])])
        problems += problems_of(batch, label=file.label, client=client)
        picture = batch.files.get(name="good.png")
        if picture.state == ImportFile.State.WAITING:
            problems.append(f"{file.label}: the slice beside it was never read")
        for page in batch.groups.filter(files__state=ImportFile.State.ASKED).distinct():
            answer = client.get(reverse("studies:import_answer", args=[page.id]))
            if answer.status_code != 200 or b"<script>alert" in answer.content:
                problems.append(f"{file.label}: the question about it answers {answer.status_code}")
    assert problems == []
    # What a table says makes records of the doctor's own hospital at most, with plain words in them.
    assert {patient.hospital_id for patient in Patient.objects.all()} == {batch.hospital_id}
    assert {patient.created_by_id for patient in Patient.objects.all()} == {batch.created_by_id}
    for patient in Patient.objects.all():
        assert is_plain(patient.record_number + patient.family_name + patient.given_name), patient.record_number
        assert 0 < len(patient.record_number) <= 40
    # The record that was there is as it was, whatever a table said about its number.
    assert Patient.objects.get(record_number="R-1").family_name == "Known"
    check_store(tmp_path)


def pictures_of_their_own() -> list[bytes]:
    """Return a picture of its own for each manifest, so that none is a duplicate."""
    return [slice_png(seed=2000 + number) for number in range(len(manifests()))]


def test_memory_stays_bounded(tmp_path: Path) -> None:
    # Written out first: making the bombs takes more memory than refusing them may.
    for number, file in enumerate(archives()):
        (tmp_path / f"{number:04}.packed").write_bytes(file.content)
    for number, file in enumerate(manifests()):
        (tmp_path / f"{number:04}.table").write_bytes(file.content)
    script = tmp_path / "unpack.py"
    script.write_text(
        "import contextlib, pathlib, resource\n"
        "import django\n"
        "django.setup()\n"
        "from studies.errors import IntakeError\n"
        "from studies.imports.archives import list_entries, read_entries\n"
        "from studies.imports.manifest import read_manifest\n"
        "folder = pathlib.Path(__file__).parent\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(folder.glob('*.packed')):\n"
        "    with contextlib.suppress(IntakeError), path.open('rb') as stream:\n"
        "        for content in read_entries(stream, numbers=[entry.number for entry in list_entries(stream)]):\n"
        "            pass\n"
        "for path in sorted(folder.glob('*.table')):\n"
        "    with contextlib.suppress(IntakeError):\n"
        "        read_manifest(path.read_bytes())\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "portal.settings.test", "IRA_VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < LARGEST_PEAK_MB

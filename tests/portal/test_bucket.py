"""The private store in a bucket: the same bytes as in a folder, never an address, and the main job on it."""

import io
import logging
import os
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from cryptography.fernet import Fernet
from django.core.exceptions import SuspiciousOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from moto.server import ThreadedMotoServer

from portal.backups import database
from portal.backups.making import make_backup
from portal.backups.restoring import problems_of, read_backup, restore
from portal.bucket import BLOCK, PrivateBucket, StoreUnavailableError
from portal.storage import MAGIC, PIECE, StoredFileError
from reports.models import BulkJob, Report
from reports.tasks import run_bulk_job
from studies import tasks
from studies.intake import Upload, submit_study
from studies.models import Analysis, Import
from tests.factories import BIRTH_DATE, DoctorFactory, PatientFactory, ReportFactory, UserFactory, slice_png
from tests.portal.test_backup import portal_of
from tests.studies.bulk import run, zipped

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
NAME = "radiology-pictures"


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """An S3-compatible service of our own on a free port; its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client_of_service(service: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Amazon's client, with keys as an installation gives them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests-only")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    return boto3.client("s3", endpoint_url=service)


@pytest.fixture(params=[[], [OLD]], ids=["plain", "encrypted"])
def bucket(request: pytest.FixtureRequest, settings: Any, service: str, client_of_service: Any) -> Iterator[Any]:
    """An empty bucket as the portal's store."""
    settings.PICTURE_KEYS = request.param
    client_of_service.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    options = settings.S3_STORE["OPTIONS"] | {"bucket_name": NAME, "endpoint_url": service, "location": "portal"}
    settings.STORAGES = settings.STORAGES | {"default": settings.S3_STORE | {"OPTIONS": options}}
    yield client_of_service
    for key in keys_in(client_of_service):
        client_of_service.delete_object(Bucket=NAME, Key=key)
    client_of_service.delete_bucket(Bucket=NAME)


def keys_in(client: Any) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=NAME).get("Contents", [])]


def kept(client: Any, name: str) -> bytes:
    return bytes(client.get_object(Bucket=NAME, Key=f"portal/{name}")["Body"].read())


@pytest.mark.parametrize("size", [0, 1, PIECE, BLOCK - 1, BLOCK, BLOCK + 1, 8 * PIECE + 77])
def test_what_is_stored_is_read_back_from_any_place(bucket: Any, settings: Any, size: int) -> None:
    content = os.urandom(size)
    name = default_storage.save("images/a.png", ContentFile(content))
    assert kept(bucket, name).startswith(MAGIC) == bool(settings.PICTURE_KEYS)
    assert default_storage.size(name) == size
    with default_storage.open(name) as file:
        assert file.read() == content
        for start in (0, size // 2, max(0, size - 3)):
            file.seek(start)
            assert file.read(5) == content[start : start + 5]
    with file.open("rb") as again:
        assert again.read(10) == content[:10]


def test_a_picture_is_one_request(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = default_storage.save("a.png", ContentFile(os.urandom(300_000)))
    asked: list[str] = []
    default_storage.connection.meta.client.meta.events.register(
        "before-call.s3", lambda model, **_: asked.append(model.name)
    )
    with default_storage.open(name) as file:
        file.seek(0, io.SEEK_END)
        file.seek(0)
        file.read()
    assert asked == ["GetObject"]


def test_memory_holds_one_block_of_a_large_file(bucket: Any) -> None:
    name = default_storage.save("a.zip", ContentFile(bytes(5 * PIECE)))
    asked: list[int] = []

    def note(model: Any, params: Any, **_: Any) -> None:
        first, last = params["headers"]["Range"].removeprefix("bytes=").split("-")
        asked.append(int(last) - int(first) + 1)

    default_storage.connection.meta.client.meta.events.register("before-call.s3.GetObject", note)
    with default_storage.open(name) as file:
        assert sum(len(chunk) for chunk in file.chunks()) == 5 * PIECE
    assert 4 <= len(asked) <= 9
    assert max(asked) <= BLOCK


def test_a_missing_file_is_missing_and_deleting_it_is_no_error(bucket: Any) -> None:
    with pytest.raises(FileNotFoundError):
        default_storage.open("images/none.png")
    with pytest.raises(FileNotFoundError):
        default_storage.changed_at("images/none.png")
    default_storage.delete("images/none.png")
    assert not default_storage.exists("images/none.png")


def test_nothing_has_an_address_and_nothing_is_public(bucket: Any) -> None:
    name = default_storage.save("a.png", ContentFile(b"content"))
    with pytest.raises(ValueError, match="no address"):
        default_storage.url(name)
    grants = bucket.get_object_acl(Bucket=NAME, Key=f"portal/{name}")["Grants"]
    assert not [grant for grant in grants if grant["Grantee"]["Type"] == "Group"]


def test_a_name_does_not_lead_out_of_the_portal_s_part_of_the_bucket(bucket: Any) -> None:
    with pytest.raises(SuspiciousOperation):
        default_storage.save("../elsewhere.png", ContentFile(b"content"))
    assert keys_in(bucket) == []


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(bucket: Any, settings: Any) -> None:
    name = default_storage.save("a.zip", ContentFile(os.urandom(4 * PIECE)))
    with default_storage.open(name) as file:
        file.read(10)
        default_storage.write_raw(name, [os.urandom(6 * PIECE)])
        file.seek(2 * PIECE)
        with pytest.raises((StoreUnavailableError, StoredFileError)):
            file.read(PIECE)


def test_keys_are_rotated_in_the_bucket(bucket: Any, settings: Any, capsys: pytest.CaptureFixture) -> None:
    names = [default_storage.save(f"images/{number}.png", ContentFile(b"content")) for number in range(3)]
    settings.PICTURE_KEYS = [NEW, OLD]
    call_command("rotate_picture_keys")
    assert "0 files have the newest key, 3 rewritten" in capsys.readouterr().out
    settings.PICTURE_KEYS = [NEW]
    for name in names:
        assert kept(bucket, name).startswith(MAGIC)
        with default_storage.open(name) as file:
            assert file.read() == b"content"


def test_a_service_that_is_away_is_a_sentence_and_no_missing_file(client_of_service: Any) -> None:
    away = PrivateBucket(
        bucket_name=NAME,
        endpoint_url="http://127.0.0.1:9",
        client_config=Config(connect_timeout=1, retries={"max_attempts": 0}),
    )
    for ask in (away.open, away.exists, away.delete, away.changed_at):
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            ask("a.png")


def test_a_backup_of_a_bucket_goes_back_into_a_bucket(
    bucket: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODELS_DIR = tmp_path / "models"
    names = [default_storage.save(f"images/{number}.png", ContentFile(bytes(5000))) for number in range(3)]
    portal_of([frozenset(names)], monkeypatch)
    made = make_backup(tmp_path / "backups", passphrase="")
    before = {name: kept(bucket, name) for name in names}
    for name in names:
        default_storage.delete(name)
    default_storage.save("images/later.png", ContentFile(b"later"))
    content = read_backup(made.folder, passphrase="")
    assert problems_of(content) == []
    monkeypatch.setattr(database, "put_back", list)
    restore(content)
    assert {name: kept(bucket, name) for name in default_storage.names()} == before


@pytest.mark.django_db(transaction=True)
def test_the_main_job_runs_on_a_bucket(bucket: Any, client: Client, settings: Any, tmp_path: Path) -> None:
    doctor, reader = DoctorFactory(), UserFactory()
    patient = PatientFactory(created_by=doctor, user=reader)
    study = submit_study(
        doctor, patient=patient, study_date=BIRTH_DATE, uploads=[Upload(content=slice_png(), name="slice.png")]
    )
    analysis = Analysis.objects.get()
    tasks.analyse_image(str(analysis.id))
    analysis.refresh_from_db()
    assert analysis.state == Analysis.State.SUCCEEDED, analysis.error
    report: Report = ReportFactory(study=study, is_released=True)
    assert report.verify().is_intact
    client.force_login(doctor)
    picture = client.get(reverse("studies:image_file", args=[analysis.image_id]))
    assert b"".join(picture.streaming_content).startswith(b"\x89PNG")
    assert int(picture.headers["Content-Length"]) == analysis.image.byte_size
    client.force_login(reader)
    pdf = client.get(reverse("reports:report_pdf", args=[report.id]))
    assert pdf.content.startswith(b"%PDF-")
    job = BulkJob.objects.start(kind=BulkJob.Kind.PDF, studies=[study], by=doctor)
    run_bulk_job(str(job.id))
    job.refresh_from_db()
    with job.archive.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        assert len(archive.namelist()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing is left on this machine's disk"


@pytest.mark.django_db(transaction=True)
def test_an_archive_is_imported_through_a_bucket(bucket: Any, client: Client, tmp_path: Path) -> None:
    doctor = DoctorFactory()
    patient = PatientFactory(created_by=doctor)
    client.force_login(doctor)
    content = zipped({f"slice-{number}.png": slice_png(seed=number) for number in range(3)})
    form = {"token": str(uuid.uuid4()), "patient": str(patient.id), "study_date": "2026-03-09"}
    response = client.post(
        reverse("studies:import_create"), form | {"loose_files": [SimpleUploadedFile("slices.zip", content)]}
    )
    assert response.status_code == 302
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "another machine may go on with it"
    batch = run(Import.objects.get())
    assert batch.state == Import.State.FINISHED, batch.error
    assert batch.files.filter(state="accepted").count() == 3
    assert {key.split("/")[1] for key in keys_in(bucket)} == {"images"}

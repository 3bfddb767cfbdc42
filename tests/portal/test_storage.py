"""Stored files can be encrypted at rest: readable with every key of the ring, never in part, never plain on disk."""

import io
import os
import tracemalloc
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from portal import checks
from portal.storage import FULL_TOKEN, MAGIC, PIECE, PrivateStorage, StoredFileError, token_bytes
from reports.models import Report
from studies.intake import Upload, submit_study
from tests.factories import BIRTH_DATE, DoctorFactory, PatientFactory, ReportFactory, slice_png

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
SIZES = (0, 1, 15, 16, 17, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 12_345)


@pytest.fixture
def store(settings) -> PrivateStorage:
    settings.PICTURE_KEYS = [OLD]
    return PrivateStorage()


def content_of(store: PrivateStorage, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


def on_disk(store: PrivateStorage, name: str) -> bytes:
    return Path(store.path(name)).read_bytes()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_stored_is_read_back_and_its_size_is_the_plain_one(store: PrivateStorage, size: int) -> None:
    content = os.urandom(size)
    name = store.save("images/a.png", ContentFile(content))
    assert on_disk(store, name).startswith(MAGIC)
    # A byte or two stand in any cipher text by chance.
    assert size < 8 or content[:64] not in on_disk(store, name)
    assert content_of(store, name) == content
    assert store.size(name) == size


@pytest.mark.parametrize("plain_bytes", [0, 1, 15, 16, 4096])
def test_the_length_of_a_token_is_known_beforehand(plain_bytes: int) -> None:
    assert len(Fernet(OLD).encrypt(bytes(plain_bytes))) == token_bytes(plain_bytes)


def test_any_place_of_a_file_is_reached(store: PrivateStorage) -> None:
    content = os.urandom(3 * PIECE + 77)
    name = store.save("a.png", ContentFile(content))
    with store.open(name) as file:
        for start, length in ((PIECE - 3, 6), (0, 5), (3 * PIECE, 77), (2 * PIECE + 9, PIECE), (len(content), 1)):
            file.seek(start)
            assert file.read(length) == content[start : start + length]
        assert file.seek(-10, io.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]


@pytest.mark.parametrize("keys", [[], [OLD]])
def test_a_file_that_was_closed_is_opened_again(settings, store: PrivateStorage, keys: list[str]) -> None:
    settings.PICTURE_KEYS = keys
    file = store.open(store.save("a.png", ContentFile(b"content")))
    for _ in range(2):
        with file.open("rb") as again:
            assert again.read() == b"content"
        assert file.closed


def test_plain_files_from_before_stay_readable(settings, store: PrivateStorage) -> None:
    settings.PICTURE_KEYS = []
    name = store.save("a.png", ContentFile(b"plain"))
    assert on_disk(store, name) == b"plain"
    settings.PICTURE_KEYS = [OLD]
    assert content_of(store, name) == b"plain"
    assert store.size(name) == 5


def test_older_keys_are_read_and_a_lost_key_is_a_sentence(settings, store: PrivateStorage) -> None:
    name = store.save("a.png", ContentFile(b"content"))
    settings.PICTURE_KEYS = [NEW, OLD]
    assert content_of(store, name) == b"content"
    for keys in ([NEW], []):
        settings.PICTURE_KEYS = keys
        with pytest.raises(StoredFileError, match="cannot be decrypted"):
            store.open(name)


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "cut a piece", "exchange", "double", "only the head", "foreign head"]
)
def test_a_damaged_file_is_never_read_in_part(store: PrivateStorage, damage: str) -> None:
    name = store.save("a.png", ContentFile(os.urandom(2 * PIECE + 5)))
    path = Path(store.path(name))
    raw = path.read_bytes()
    head = len(raw) - 2 * FULL_TOKEN - token_bytes(25 + 5)
    first, second = raw[head : head + FULL_TOKEN], raw[head + FULL_TOKEN : head + 2 * FULL_TOKEN]
    path.write_bytes(
        {
            "flip": raw[: head + 500] + bytes([raw[head + 500] ^ 1]) + raw[head + 501 :],
            "cut": raw[:-1],
            "cut a piece": raw[: head + 2 * FULL_TOKEN],
            "exchange": raw[:head] + second + first + raw[head + 2 * FULL_TOKEN :],
            "double": raw + first,
            "only the head": raw[:head],
            "foreign head": raw[: head - 1] + bytes([raw[head - 1] ^ 1]) + raw[head:],
        }[damage]
    )
    with pytest.raises(StoredFileError), store.open(name) as file:
        file.read()


def test_stored_files_are_not_opened_for_writing(store: PrivateStorage) -> None:
    name = store.save("a.png", ContentFile(b"content"))
    with pytest.raises(ValueError, match="saved as a whole"):
        store.open(name, "wb")


def test_memory_does_not_grow_with_the_file(store: PrivateStorage, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(48 * PIECE)
    tracemalloc.start()
    with large.open("rb") as stream:
        name = store.save("a.zip", File(stream))
    with store.open(name) as file:
        while file.read(PIECE):
            pass
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * PIECE


def test_rotation_takes_plain_and_old_files_to_the_newest_key(settings, store: PrivateStorage, capsys) -> None:
    old = store.save("images/aa/old.png", ContentFile(b"old"))
    settings.PICTURE_KEYS = []
    plain = store.save("images/bb/plain.png", ContentFile(b"plain"))
    settings.PICTURE_KEYS = [NEW, OLD]
    new = store.save("reports/new.pdf", ContentFile(b"new"))
    left_over = Path(store.path("images/aa/x.png.unfinished"))
    left_over.write_bytes(b"half")
    os.utime(left_over, (0, 0))
    before = on_disk(store, new)
    call_command("rotate_picture_keys", dry_run=True)
    assert "1 files have the newest key, 2 to rewrite, 0 cannot" in capsys.readouterr().out
    assert on_disk(store, plain) == b"plain"
    call_command("rotate_picture_keys")
    assert "1 files have the newest key, 2 rewritten, 0 cannot" in capsys.readouterr().out
    settings.PICTURE_KEYS = [NEW]
    assert [content_of(store, name) for name in (old, plain, new)] == [b"old", b"plain", b"new"]
    assert on_disk(store, new) == before
    assert not left_over.exists()
    assert Path(store.path(old)).stat().st_mode & 0o777 == 0o600
    call_command("rotate_picture_keys")
    assert "3 files have the newest key, 0 rewritten" in capsys.readouterr().out


def test_rotation_leaves_what_no_key_reads_and_says_so(settings, store: PrivateStorage) -> None:
    name = store.save("a.png", ContentFile(b"content"))
    raw = on_disk(store, name)
    settings.PICTURE_KEYS = [NEW]
    with pytest.raises(CommandError, match=r"keep the old keys\. a\.png"):
        call_command("rotate_picture_keys")
    assert on_disk(store, name) == raw
    settings.PICTURE_KEYS = []
    with pytest.raises(CommandError, match="There are no keys"):
        call_command("rotate_picture_keys")


def test_a_key_that_is_none_fails_the_check(settings) -> None:
    assert checks.check_picture_keys(None) == []
    settings.PICTURE_KEYS = [OLD, "not-a-key"]
    assert [message.id for message in checks.check_picture_keys(None)] == ["portal.E005"]


@pytest.mark.django_db(transaction=True)
def test_the_portal_works_with_encrypted_pictures(client: Client, settings) -> None:
    settings.PICTURE_KEYS = [OLD]
    doctor = DoctorFactory()
    study = submit_study(
        doctor,
        patient=PatientFactory(created_by=doctor),
        study_date=BIRTH_DATE,
        uploads=[Upload(content=slice_png(), name="slice.png")],
    )
    image = study.images.get()
    client.force_login(doctor)
    response = client.get(reverse("studies:image_file", args=[image.id]))
    body = b"".join(response.streaming_content)
    assert body.startswith(b"\x89PNG")
    assert int(response.headers["Content-Length"]) == len(body) == image.byte_size
    report: Report = ReportFactory(is_signed=True)
    assert report.verify().is_intact
    assert report.read_pdf().startswith(b"%PDF-")
    for path in Path(default_storage.location).rglob("*"):
        assert path.is_dir() or path.read_bytes().startswith(MAGIC)

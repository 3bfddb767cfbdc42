"""Files that no row names are deleted, once they are too old to be on their way into one."""

import os
import time
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command

from tests.factories import AnalysisFactory, ReportFactory

pytestmark = pytest.mark.django_db


def age(name: str, *, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(default_storage.path(name), (then, then))


def test_only_what_no_row_names_is_deleted_and_only_after_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    ReportFactory(is_signed=True)
    AnalysisFactory(is_done=True)
    named = set(default_storage.names())
    assert len(named) > 6
    old, young = (default_storage.save(f"analyses/{name}.png", ContentFile(b"left")) for name in ("old", "young"))
    for name in default_storage.names():
        age(name, hours=1 if name == young else 25)
    call_command("clean_store", dry_run=True)
    assert f"{len(named) + 2} stored files; 1 that no row names would be deleted" in capsys.readouterr().out
    call_command("clean_store")
    assert set(default_storage.names()) == named | {young}
    assert not default_storage.exists(old)


def test_an_upload_that_was_cut_off_is_no_stored_file_and_does_not_stay(settings) -> None:
    incoming = Path(settings.MEDIA_ROOT) / "incoming"
    incoming.mkdir(parents=True)
    old, young = incoming / "old", incoming / "young"
    for path in (old, young):
        path.write_bytes(b"half a slice")
    os.utime(old, (0, 0))
    call_command("clean_store")
    assert list(default_storage.names()) == []
    assert not old.exists()
    assert young.exists(), "somebody is sending it"

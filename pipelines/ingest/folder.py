"""A folder that appears complete or not at all, whatever happens while it is filled."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.ingest.errors import BusyError

PARTIAL, FORMER, LOCK = "partial", "former", "lock"


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place once the block ends without an error.

    What a killed run left behind is removed first. Raises BusyError while another process fills the same target.
    """
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    with _only_one(parent / f".{target.name}.{LOCK}", target=target):
        _clear_up(target)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.{PARTIAL}-", dir=parent))
        # mkdtemp's folders are for their owner alone; the finished one is an ordinary folder.
        partial.chmod(0o755)
        try:
            yield partial
            _sync(partial)
            _put_in_place(partial, target=target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _only_one(path: Path, *, target: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BusyError(f"Another run is writing {target}. Wait until it has ended, or name another folder.") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _clear_up(target: Path) -> None:
    former = _former(target)
    if former.exists() and not target.exists():
        # Killed between the two renames: the folder of before is still the valid one.
        former.rename(target)
    for rest in (former, *target.parent.glob(f".{target.name}.{PARTIAL}-*")):
        shutil.rmtree(rest, ignore_errors=True)


def _put_in_place(partial: Path, *, target: Path) -> None:
    former = _former(target)
    if target.exists():
        target.rename(former)
    partial.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _former(target: Path) -> Path:
    return target.with_name(f".{target.name}.{FORMER}")


def _sync(folder: Path) -> None:
    """Have the names on disk before the rename that makes them count."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

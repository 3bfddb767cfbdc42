"""A killed stage goes on where it was, but never with checkpoints of other data, other parameters or a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

PARAMS = Path("params.yaml")


@contextmanager
def resumable(
    folder: Path, *, pattern: str, sections: Sequence[str], inputs: Sequence[Path], record: str
) -> Iterator[None]:
    """Keep the checkpoints `pattern` in `folder` only while they stem from these parameters and `inputs`.

    They go when the block ends well: a stage that is asked for again, because its code or parameters changed, would
    otherwise find its former self complete and train nothing. The table of epochs `record` stays until then.
    """
    stamp = folder / f".{pattern.strip('*-.')}.made-of"
    now = _digest(sections, inputs=inputs)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != now:
        _forget(folder, pattern=pattern)
        _forget(folder, pattern=record)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(now, encoding="utf-8")
    yield
    _forget(folder, pattern=pattern)
    stamp.unlink()


def _forget(folder: Path, *, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def _digest(sections: Sequence[str], *, inputs: Sequence[Path]) -> str:
    parameters = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    digest = hashlib.sha256(repr([(name, parameters[name]) for name in sections]).encode())
    for path in inputs:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()

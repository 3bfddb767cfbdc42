"""The event log: what happened in the model's life, as JSON lines (logger ``ira.events``) and as rows of ``ml.Event``.

Works with a database, without one, and without Django. An event names a run or a study by its identifier. It never
holds what would identify a person: of the details only numbers, switches, times, identifiers and plain words are
kept; whatever looks like an address, a path or the name of a file is left out, as is everything that is not a value
(arrays, bytes).
"""

import json
import logging
import math
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from ml.errors import MlError

logger = logging.getLogger("ira.events")
problems = logging.getLogger(__name__)

LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
KINDS: Final = ("ingestion", "base_model", "training", "evaluation", "inference", "deployment", "monitoring")
LEFT_OUT: Final = "(left out)"
LONGEST_TEXT: Final = 200
LONGEST_MESSAGE: Final = 500
MOST_VALUES: Final = 50
# Slashes of both kinds, an @, or the ending of a file: 2026.11.24.0210 is a version, scan.dcm a file.
_NAMES_A_FILE: Final = re.compile(r"[/\\@]|\.[A-Za-z][A-Za-z0-9]{1,5}\b")


def record(
    kind: str,
    *,
    message: str,
    run_id: str | uuid.UUID | None = None,
    study_id: str | uuid.UUID | None = None,
    hospital_id: str | uuid.UUID | None = None,
    level: str = "info",
    problem: str = "",
    **details: Any,
) -> None:
    """Write one event: a JSON line always, a row where a database is configured and reachable.

    ``kind`` is one of ``KINDS``, ``level`` one of ``LEVELS``; ``message`` is an English sentence without names.
    ``problem`` names the class of the error, where it is one. Never raises: what it tells about has happened anyway.
    """
    try:
        if kind not in KINDS or level not in LEVELS:
            raise ValueError(f"An event has a known kind and level. Received: kind={kind!r} level={level!r}")
        event = {
            "at": datetime.now(UTC),
            "kind": kind,
            "level": level,
            "message": _without_files(message)[:LONGEST_MESSAGE],
            "problem": problem[:60],
            "run_id": str(run_id or "")[:80],
            "study_id": _identifier(study_id),
            "hospital_id": _identifier(hospital_id),
            "details": {str(name)[:60]: _plain(value) for name, value in list(details.items())[:MOST_VALUES]},
        }
        logger.log(LEVELS[level], "%s", _line(event))
        _store(event)
    except Exception:  # noqa: BLE001 - an event must never stop the work that it tells about
        problems.warning("An event could not be recorded.", exc_info=True)


def record_problem(kind: str, *, error: BaseException, message: str, level: str = "error", **more: Any) -> None:
    """Write the event of something that went wrong; ``problem`` is the name of the error's class."""
    record(kind, message=message, level=level, problem=type(error).__name__, **more)


@contextmanager
def watched(kind: str, *, what: str, run_id: str | None = None, **details: Any) -> Iterator[str]:
    """Write that something began and how it ended; yield the identifier of the run (a new one unless given).

    ``what`` begins a sentence, such as "The training". An error is written with its class and passed on.
    """
    run = run_id or uuid.uuid4().hex
    started = time.monotonic()
    record(kind, message=f"{what} began.", run_id=run, **details)
    try:
        yield run
    except Exception as error:
        spent = round(time.monotonic() - started, 1)
        # Only our own errors say something that was written for people to read.
        why = str(error) if isinstance(error, MlError) else "It ended with an unexpected error; the log has more."
        record_problem(kind, error=error, message=f"{what} failed. {why}", run_id=run, seconds=spent, **details)
        raise
    except BaseException:
        spent = round(time.monotonic() - started, 1)
        record(kind, message=f"{what} was interrupted.", level="warning", run_id=run, seconds=spent, **details)
        raise
    spent = round(time.monotonic() - started, 1)
    record(kind, message=f"{what} ended well.", run_id=run, seconds=spent, **details)


def _line(event: Mapping[str, Any]) -> str:
    """One line of JSON; what is empty is left out."""
    kept = {name: value for name, value in event.items() if value not in (None, "", {})}
    return json.dumps(kept, default=str, ensure_ascii=False, allow_nan=False)


def _store(event: Mapping[str, Any]) -> None:
    from django.conf import settings

    if not settings.configured or not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    from django.apps import apps
    from django.db import DatabaseError, transaction

    database = settings.DATABASES.get("default", {})
    if not apps.ready or not database.get("ENGINE"):
        return
    # A training machine has no portal: asking SQLite would make an empty file there.
    name = str(database.get("NAME", ""))
    if database["ENGINE"].endswith("sqlite3") and "memory" not in name and not Path(name).is_file():
        return
    from ml.models import Event, Problem

    try:
        # A point to return to: an insert that fails must not spoil the transaction that it happens in.
        with transaction.atomic():
            Event.objects.create(**event)
            if event["problem"] and event["level"] == "error":
                Problem.objects.count_up(
                    event["problem"], hospital_id=event["hospital_id"], message=event["message"], at=event["at"]
                )
    except DatabaseError as error:
        problems.info("An event stands in the log only, not in the table: %s.", type(error).__name__)


def _identifier(value: str | uuid.UUID | None) -> uuid.UUID | None:
    if value is None or isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


def _without_files(text: str) -> str:
    """Return a sentence in which every word that names a file, a path or an address is an ellipsis."""
    return " ".join("…" if _NAMES_A_FILE.search(word.rstrip(".,;:!?)”")) else word for word in text.split())


def _plain(value: Any, *, depth: int = 0) -> Any:
    """Return what may stand in a detail; see the module's first lines."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    if isinstance(value, uuid.UUID | datetime | date):
        return str(value)
    if isinstance(value, str):
        return LEFT_OUT if _NAMES_A_FILE.search(value) else value[:LONGEST_TEXT]
    if isinstance(value, Mapping) and depth < 2:
        kept = list(value.items())[:MOST_VALUES]
        return {str(_plain(str(name)))[:60]: _plain(inner, depth=depth + 1) for name, inner in kept}
    if isinstance(value, list | tuple) and depth < 2:
        return [_plain(inner, depth=depth + 1) for inner in value[:MOST_VALUES]]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return _plain(value.item(), depth=depth)  # a number of NumPy's
    return LEFT_OUT

"""What ``/readyz`` looks at: everything that a slice needs on its way from the upload to the answer.

Each check is cheap, says in a sentence what is wrong and what to do, and none can hang the others for long. The answer
is kept for ``KEPT_S`` seconds in each process, so that whoever asks often costs nothing.
"""

import datetime
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django_q.models import OrmQ

from ml import registry, runtime
from studies.cluster import HEARTBEAT_KEY
from studies.models import Analysis

logger = logging.getLogger(__name__)

KEPT_S: Final = 5
STORAGE_TRIED_EVERY_S: Final = 60
OLDEST_HEARTBEAT_S: Final = 60
PROBE: Final = b"written by /readyz, deleted at once\n"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found: whether it is fine, figures, and otherwise what is wrong and what to do."""

    name: str
    is_ok: bool
    # Without it this web process can do nothing; of the rest, somebody else is out of order.
    is_needed_by_web: bool
    took_ms: int = 0
    problem: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """All findings of one look."""

    findings: tuple[Finding, ...]

    @property
    def is_ready(self) -> bool:
        """Whether a slice that arrives now will be analysed."""
        return all(finding.is_ok for finding in self.findings)

    @property
    def web_is_ready(self) -> bool:
        """Whether this web process can serve pages, whatever the workers do."""
        return all(finding.is_ok for finding in self.findings if finding.is_needed_by_web)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the findings for whoever may know them."""
        return [asdict(finding) for finding in self.findings]


class NotReadyError(Exception):
    """Something is wrong; the message says what, and what to do."""


_kept: tuple[float, Readiness] | None = None
_lock = threading.Lock()
# Until when (monotonic) the store counts as writable, and whether all migrations were found applied: neither changes
# from one moment to the next, and finding out costs a file or half a second.
_store_tried_until = 0.0
_is_migrated = False


def look() -> Readiness:
    """Return how the installation stands, at most ``KEPT_S`` seconds old."""
    global _kept
    with _lock:
        if _kept is None or time.monotonic() - _kept[0] > KEPT_S:
            _kept = (time.monotonic(), look_again())
        return _kept[1]


def look_again() -> Readiness:
    """Run every check now."""
    database = _run("database", _database, is_needed_by_web=True)
    rest: list[Finding] = []
    for name, check, is_needed_by_web in CHECKS:
        if not database.is_ok and name in NEED_DATABASE:
            problem = "Not checked, because the database does not answer."
            rest.append(Finding(name=name, is_ok=False, is_needed_by_web=is_needed_by_web, problem=problem))
        else:
            rest.append(_run(name, check, is_needed_by_web=is_needed_by_web))
    return Readiness(findings=(database, *rest))


def _run(name: str, check: Callable[[], dict[str, Any]], *, is_needed_by_web: bool) -> Finding:
    start, problem, figures = time.perf_counter(), "", {}
    try:
        figures = check()
    except NotReadyError as error:
        problem = str(error)
    except Exception as error:
        logger.warning("/readyz: the check of %s failed.", name, exc_info=True)
        problem = f"The check itself failed ({type(error).__name__}); the log says more."
    took_ms = round((time.perf_counter() - start) * 1000)
    return Finding(
        name=name,
        is_ok=not problem,
        is_needed_by_web=is_needed_by_web,
        took_ms=took_ms,
        problem=problem,
        figures=figures,
    )


def _database() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"kind": connection.vendor}


def _migrations() -> dict[str, Any]:
    global _is_migrated
    if not _is_migrated:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        if missing:
            raise NotReadyError(f"{missing} migrations are not applied. Run: python manage.py migrate")
        _is_migrated = True
    return {}


def _queue() -> dict[str, Any]:
    """Say how long the oldest message has waited; on another broker than the database, the oldest analysis."""
    now = timezone.now()
    if settings.Q_CLUSTER.get("orm"):
        waiting = OrmQ.objects.filter(lock__lte=now)
        oldest = waiting.order_by("lock").values_list("lock", flat=True).first()
    else:
        waiting = Analysis.objects.filter(state=Analysis.State.QUEUED)
        oldest = waiting.order_by("queued_at").values_list("queued_at", flat=True).first()
    age_s = round((now - oldest).total_seconds()) if oldest else 0
    figures = {"waiting": waiting.count(), "oldest_waits_s": age_s}
    if age_s > settings.READY_QUEUE_AGE_S:
        raise NotReadyError(
            f"The oldest of {figures['waiting']} messages has waited for {age_s} seconds. Start more workers "
            "(python manage.py qcluster), or look at what the workers log."
        )
    return figures


def _worker() -> dict[str, Any]:
    beaten_at: datetime.datetime | None = cache.get(HEARTBEAT_KEY)
    if beaten_at is None:
        raise NotReadyError("No worker has shown itself within a day. Start one: python manage.py qcluster")
    age_s = round((timezone.now() - beaten_at).total_seconds())
    if age_s > OLDEST_HEARTBEAT_S:
        raise NotReadyError(f"The last sign of a worker is {age_s} seconds old. Start one: python manage.py qcluster")
    return {"last_sign_s": age_s}


def _storage() -> dict[str, Any]:
    """Write a small file, read it back and delete it; once a minute, because it may be a bucket that costs money."""
    global _store_tried_until
    if time.monotonic() < _store_tried_until:
        return {}
    try:
        name = default_storage.save(f"readyz/{uuid.uuid4()}", ContentFile(PROBE))
        try:
            with default_storage.open(name) as stored:
                is_same = stored.read() == PROBE
        finally:
            default_storage.delete(name)
    except Exception as error:
        raise NotReadyError(
            f"The store of pictures cannot be written ({type(error).__name__}). Look at its rights, its space and, "
            "for a bucket, its address and credentials."
        ) from error
    if not is_same:
        raise NotReadyError("The store of pictures gives back something else than was written. Look at its disk.")
    _store_tried_until = time.monotonic() + STORAGE_TRIED_EVERY_S
    return {}


def _disk() -> dict[str, Any]:
    folder = Path(settings.VAR_DIR)
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < settings.READY_FREE_MB:
        raise NotReadyError(f"Only {free_mb} MB are free where IRA_VAR_DIR lies. Make room, or enlarge the volume.")
    return {"free_mb": free_mb}


_checked_model: tuple[Any, ...] = ()


def _model() -> dict[str, Any]:
    """Hold the serving model's files against their hashes; again only when one of them has changed on the disk."""
    global _checked_model
    folder = registry.serving_directory()
    try:
        card = runtime.read_card(folder)
        names = sorted(card.get("files", {}))
        files = [folder / Path(card["files"][name]["path"]).name for name in names]
        seen = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        if seen != _checked_model:
            for name in names:
                runtime.read_checked(folder, card=card, name=name)
            _checked_model = seen
    except (runtime.ModelFileError, OSError, KeyError, TypeError) as error:
        raise NotReadyError(
            f"The model that serves cannot be loaded ({type(error).__name__}). Restore its folder, or go back to the "
            "version before: python manage.py rollback"
        ) from error
    return {"version": card.get("version", "")}


NEED_DATABASE: Final = ("migrations", "queue", "worker", "model")
CHECKS: Final[tuple[tuple[str, Callable[[], dict[str, Any]], bool], ...]] = (
    ("migrations", _migrations, True),
    ("storage", _storage, True),
    ("disk", _disk, True),
    ("queue", _queue, False),
    ("worker", _worker, False),
    ("model", _model, False),
)

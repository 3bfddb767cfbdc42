"""One slice, analysed while somebody waits, in the web process; nothing of it is stored.

The worker's way is the rule (``studies.tasks``), because it survives crashes and bursts. This one has a fixed number
of places a process, and a time after which nobody waits any longer. The model is loaded with the first slice.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from functools import cache
from typing import Final

from django.conf import settings
from django.utils.translation import gettext as _

from ml.inference import AnalysisResult, analyse
from ml.registry import serving_model
from ml.runtime import Model
from studies.errors import StudiesError
from studies.intake import PreparedSlice, Upload, prepare_slice

WAIT_S: Final = 5


class BusyError(StudiesError):
    """No place is free, or the answer takes too long; ``wait_s`` says after how many seconds to ask again."""

    wait_s = WAIT_S


@dataclass(frozen=True, kw_only=True)
class Classified:
    """An answer, and the fingerprint of the slice as the portal would store it."""

    result: AnalysisResult
    sha256: str


class _Places:
    """So many slices at once; a place is given back when its work has ended, whether or not somebody still waits."""

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)
        self._threads = ThreadPoolExecutor(max_workers=number, thread_name_prefix="classify")

    def run(self, upload: Upload, *, is_allowed: Callable[[str], None]) -> Classified:
        if not self._free.acquire(blocking=False):
            raise BusyError(_("Another slice is being classified. Please ask again in a few seconds."))
        work: Future[AnalysisResult] | None = None
        try:
            # Decoding is quick, and what a refused file says concerns nobody else.
            prepared = prepare_slice(upload)
            is_allowed(prepared.picture.sha256)
            # The registry is asked here, because a thread of the pool has no connection to the database.
            work = self._threads.submit(_analyse, prepared, serving_model())
        finally:
            if work is None:
                self._free.release()
            else:
                work.add_done_callback(lambda _work: self._free.release())
        try:
            result = work.result(timeout=settings.API_CLASSIFY_TIMEOUT_S)
        except TookTooLong as error:
            raise BusyError(
                _("The answer takes too long. Please upload the slice as a study; it is then analysed in its turn.")
            ) from error
        return Classified(result=result, sha256=prepared.picture.sha256)


def classify(upload: Upload, *, is_allowed: Callable[[str], None]) -> Classified:
    """Return what the model says about one slice, checked and prepared as for a study.

    ``is_allowed`` gets the slice's fingerprint before the model is asked, and raises what forbids it. Raises
    ``MlError`` with a sentence for a refused file, ``BusyError`` where no place is free or the answer takes too long.
    """
    return _places().run(upload, is_allowed=is_allowed)


@cache
def _places() -> _Places:
    return _Places(settings.API_CLASSIFY_AT_ONCE)


def _analyse(prepared: PreparedSlice, model: Model) -> AnalysisResult:
    picture = prepared.picture
    spacing = None
    if picture.row_spacing_mm is not None and picture.column_spacing_mm is not None:
        spacing = picture.row_spacing_mm, picture.column_spacing_mm
    return analyse(prepared.png, pixel_spacing_mm=spacing, model=model)

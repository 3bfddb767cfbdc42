"""What the worker does: analyse one slice, take one step of an import, and sweep up what a crash left behind.

Enqueue by dotted string (``Analysis.enqueue``, ``Import.enqueue``). All tasks may run twice, at the same time and
in any order.
"""

import logging
import uuid
from contextlib import suppress
from typing import Any

from django.db import InterfaceError, OperationalError, models
from django.utils import timezone
from django.utils.translation import gettext_noop

from ml import events
from ml.errors import MlError, ModelFileError
from ml.inference import AnalysisResult, analyse
from ml.registry import serving_model
from studies import shadowing, stopping
from studies.broker import oldest_message_sent_at
from studies.errors import (
    AbandonedAnalysisError,
    InvalidTransitionError,
    StoredPictureError,
    UnexpectedAnalysisError,
)
from studies.imports.steps import take_step
from studies.models import Analysis, Import, ImportFile, ImportGroup, Study
from studies.models.bulk import UNANSWERED_FOR, UNFINISHED_FOR
from studies.pictures import draw_pictures

logger = logging.getLogger(__name__)

SURPRISE = gettext_noop(
    "Something went wrong inside the portal while this slice was analysed. Please try again; if it fails again, tell "
    "your administrator the time and that the analysis failed unexpectedly."
)

NO_STORE = gettext_noop(
    "The stored slice could not be read, or the answer could not be stored, although it was tried several times. "
    "Please tell your administrator that the store of pictures has failed, and run the analysis again later."
)

# A store that is away comes back within minutes or not at all: the second attempt starts after so many seconds at the
# earliest, each later one after twice as many as the one before.
FIRST_PAUSE_S = 20

NO_MODEL = gettext_noop(
    "The model of this portal cannot be loaded, so the slice was not analysed. Please tell your administrator, and try "
    "again once the model is in place."
)

# The database is restarted, or a network broke: nothing is wrong with what was to be done.
OUT_OF_REACH = (OperationalError, InterfaceError)


def analyse_image(analysis_id: str) -> None:
    """Analyse the slice of one queued analysis and record the answer, or the sentence that says why there is none.

    A queue message of an analysis that somebody else has, or that waits no more, does nothing. The broker's time-out
    arrives as a ``SystemExit``, which is not caught here on purpose: such an analysis stays RUNNING until the sweeper
    finds its lease expired, exactly as after a crash. A worker that has to stop hands its analysis back.
    """
    if stopping.is_over():
        _send_elsewhere(analysis_id)
        return
    analysis = Analysis.objects.claim(uuid.UUID(analysis_id))
    if analysis is None:
        logger.debug("Analysis %s is not waiting any more; nothing to do.", analysis_id)
        return
    try:
        try:
            _run(analysis)
        except stopping.WorkIsOver:
            _hand_back(analysis)
    except InvalidTransitionError:
        logger.warning("Analysis %s: attempt %d was given up meanwhile.", analysis_id, analysis.attempt)
    else:
        shadowing.after_analysis(analysis)


def answer_in_shadow(answer_id: str) -> None:
    """Let the challenger repeat one analysis, if nobody waits for an answer of the champion."""
    shadowing.answer(uuid.UUID(answer_id))


def advance_import(import_id: str, step: int) -> None:
    """Take one step of an import and send the message of the next.

    A message of a step that somebody else has taken does nothing. A step that goes wrong unexpectedly is given up, and
    the sweeper sends it again, up to the cap; the broker's time-out leaves it to the sweeper as after a crash.
    """
    batch = Import.objects.claim(uuid.UUID(import_id), step=step)
    if batch is None:
        logger.debug("Import %s: step %d is taken already; nothing to do.", import_id, step)
        return
    try:
        take_step(batch)
    except InvalidTransitionError:
        logger.warning("Import %s: step %d was given up meanwhile.", import_id, step)
    except Exception:
        logger.exception("Import %s: step %d failed unexpectedly.", import_id, step)
        batch.stumble()


def sweep() -> dict[str, int]:
    """Recover analyses and imports that a crash, a time-out or a lost message left behind; return counts of both.

    A message that was sent after the oldest one that the broker still holds may only be waiting behind it; what is
    older than that has no message any more. So a long queue does not fill up with copies of itself, and in a queue that
    is never empty nothing is lost.
    """
    result = Analysis.objects.sweep()
    for given_up in Analysis.objects.filter(id__in=result.given_up):
        _record(
            given_up,
            message="An analysis was started as often as allowed and never finished.",
            level="error",
            problem=AbandonedAnalysisError,
        )
    waiting = Analysis.objects.filter(id__in=result.to_enqueue)
    if oldest := oldest_message_sent_at():
        waiting = waiting.filter(models.Q(enqueued_at__isnull=True) | models.Q(enqueued_at__lt=oldest))
    enqueued = 0
    for analysis in waiting.order_by("queued_at", "id"):
        analysis.enqueue()
        enqueued += 1
    imports = _sweep_imports()
    shadowing.sweep()
    counts = {
        "failed": result.failed + imports["failed"],
        "requeued": result.requeued + imports["requeued"],
        "enqueued": enqueued + imports["enqueued"],
    }
    if any(counts.values()):
        logger.warning("Swept: %(failed)d failed, %(requeued)d requeued, %(enqueued)d enqueued.", counts)
    return counts


def _of(analysis: Analysis) -> dict[str, str]:
    """Return the fields of their own that lines about an analysis have in the JSON log."""
    return {"study_id": str(analysis.image.study_id)}


def _send_elsewhere(analysis_id: str) -> None:
    analysis = Analysis.objects.filter(id=uuid.UUID(analysis_id), state=Analysis.State.QUEUED).first()
    if analysis is not None:
        analysis.enqueue()


def _hand_back(analysis: Analysis) -> None:
    analysis.hand_back()
    analysis.enqueue()
    logger.warning("Analysis %s: handed back, because the worker stops.", analysis.id)


def _sweep_imports() -> dict[str, int]:
    result = Import.objects.sweep()
    for batch in Import.objects.filter(id__in=result.to_enqueue).order_by("touched_at"):
        batch.enqueue()
    now = timezone.now()
    for batch in Import.objects.filter(state=Import.State.RECEIVING, touched_at__lt=now - UNFINISHED_FOR):
        with suppress(InvalidTransitionError):
            batch.abandon()
    unanswered = ImportFile.objects.filter(state=ImportFile.State.ASKED, batch__touched_at__lt=now - UNANSWERED_FOR)
    for group in ImportGroup.objects.filter(id__in=unanswered.values("group_id")):
        with suppress(InvalidTransitionError):
            group.leave_out()
    return {"failed": result.failed, "requeued": result.recovered, "enqueued": len(result.to_enqueue)}


def _run(analysis: Analysis) -> None:
    try:
        result = _answer(analysis)
    except InvalidTransitionError:
        raise
    except OUT_OF_REACH:
        # Not the slice's fault: it stays RUNNING, and the sweeper gives it another attempt as after a crash.
        logger.warning("Analysis %s: the database is out of reach.", analysis.id)
        raise
    except FileNotFoundError:
        # What is gone does not come back by waiting.
        _give_up(analysis, sentence=SURPRISE, problem=StoredPictureError, message="A stored slice is missing.")
    except OSError:
        _try_again(analysis)
    except ModelFileError:
        # Its sentence names folders and variables, for whoever installs the portal: it belongs into the log.
        _give_up(analysis, sentence=NO_MODEL, problem=ModelFileError, message="The model cannot be loaded.")
    except MlError as error:
        analysis.fail(str(error))
        logger.info("Analysis %s: failed with a reason for the user.", analysis.id, extra=_of(analysis))
        _record(analysis, message="A slice could not be analysed.", level="warning", problem=type(error))
    except Exception as error:  # noqa: BLE001 - the edge of the task; _give_up logs the traceback
        message = f"An analysis failed unexpectedly ({type(error).__name__})."
        _give_up(analysis, sentence=SURPRISE, problem=UnexpectedAnalysisError, message=message)
    else:
        done = (analysis.id, result.duration_ms, len(result.findings))
        logger.info("Analysis %s: done in %d ms, %d findings.", *done, extra=_of(analysis))
        _record(
            analysis,
            message="A slice was analysed.",
            model_version=result.model_version,
            top_class=result.top_class,
            confidence=result.confidence,
            malignant_probability=result.malignant_probability,
            findings=len(result.findings),
            duration_ms=result.duration_ms,
            step_ms=dict(result.step_ms),
        )


def _answer(analysis: Analysis) -> AnalysisResult:
    """Ask the model and store what it says."""
    # Only what takes time may be left half-way; recording the answer may not.
    with stopping.interruptible():
        with analysis.image.file.open("rb") as stored:
            content = stored.read()
        result = analyse(content, pixel_spacing_mm=analysis.image.pixel_spacing_mm, load=serving_model)
        pictures = draw_pictures(content, result=result)
    analysis.succeed(result, overlay_png=pictures.overlay, mask_png=pictures.mask, activation_png=pictures.activation)
    return result


def _give_up(analysis: Analysis, *, sentence: str, problem: type[Exception], message: str) -> None:
    """Let the analysis fail with a sentence for the user; the log gets the traceback, the administrators the event."""
    logger.exception("Analysis %s: %s", analysis.id, message, extra=_of(analysis))
    analysis.fail(sentence)
    _record(analysis, message=message, level="error", problem=problem)


def _try_again(analysis: Analysis) -> None:
    """Leave what the store of pictures refused to a later attempt; fail after the last."""
    pause_s = FIRST_PAUSE_S * 2 ** (analysis.attempt - 1)
    if not analysis.leave_to_sweeper(after_s=pause_s):
        _give_up(
            analysis, sentence=NO_STORE, problem=StoredPictureError, message="The store of pictures does not answer."
        )
        return
    logger.warning("Analysis %s: the store does not answer; tried again in %d s.", analysis.id, pause_s, exc_info=True)
    _record(
        analysis,
        message="The store of pictures did not answer; the analysis is tried again.",
        level="warning",
        problem=StoredPictureError,
        pause_s=pause_s,
    )


def _record(
    analysis: Analysis, *, message: str, level: str = "info", problem: type[Exception] | None = None, **details: Any
) -> None:
    """Write an event of the log about one analysis."""
    study = Study.objects.filter(images=analysis.image_id).values_list("id", "patient__hospital_id")
    study_id, hospital_id = study.get()
    events.record(
        "inference",
        message=message,
        study_id=study_id,
        hospital_id=hospital_id,
        level=level,
        problem=problem.__name__ if problem is not None else "",
        analysis_id=analysis.id,
        attempt=analysis.attempt,
        **details,
    )

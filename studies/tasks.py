"""What the worker does: analyse one slice, take one step of an import, and sweep up what a crash left behind.

Enqueue by dotted string (``Analysis.enqueue``, ``Import.enqueue``). All tasks may run twice, at the same time and
in any order.
"""

import logging
import uuid
from contextlib import suppress

from django.utils import timezone
from django.utils.translation import gettext_noop
from django_q.brokers import get_broker

from ml.errors import MlError, ModelFileError
from ml.inference import analyse
from studies import stopping
from studies.errors import InvalidTransitionError
from studies.imports.steps import take_step
from studies.models import Analysis, Import, ImportFile, ImportGroup
from studies.models.bulk import UNANSWERED_FOR, UNFINISHED_FOR
from studies.pictures import draw_pictures

logger = logging.getLogger(__name__)

SURPRISE = gettext_noop(
    "Something went wrong inside the portal while this slice was analysed. Please try again; if it fails again, tell "
    "your administrator the time and that the analysis failed unexpectedly."
)

NO_MODEL = gettext_noop(
    "The model of this portal cannot be loaded, so the slice was not analysed. Please tell your administrator, and try "
    "again once the model is in place."
)


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

    While messages wait in the broker the worker is merely busy, so messages are sent again only to analyses that
    never got one; otherwise a long queue would fill up with copies of itself.
    """
    result = Analysis.objects.sweep()
    waiting = Analysis.objects.filter(id__in=result.to_enqueue)
    if get_broker().queue_size():
        waiting = waiting.filter(enqueued_at__isnull=True)
    enqueued = 0
    for analysis in waiting.order_by("queued_at", "id"):
        analysis.enqueue()
        enqueued += 1
    imports = _sweep_imports()
    counts = {
        "failed": result.failed + imports["failed"],
        "requeued": result.requeued + imports["requeued"],
        "enqueued": enqueued + imports["enqueued"],
    }
    if any(counts.values()):
        logger.warning("Swept: %(failed)d failed, %(requeued)d requeued, %(enqueued)d enqueued.", counts)
    return counts


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
        # Only what takes time may be left half-way; recording the answer may not.
        with stopping.interruptible():
            with analysis.image.file.open("rb") as stored:
                content = stored.read()
            result = analyse(content, pixel_spacing_mm=analysis.image.pixel_spacing_mm)
            pictures = draw_pictures(content, result=result)
        analysis.succeed(
            result, overlay_png=pictures.overlay, mask_png=pictures.mask, activation_png=pictures.activation
        )
        logger.info("Analysis %s: done in %d ms, %d findings.", analysis.id, result.duration_ms, len(result.findings))
    except InvalidTransitionError:
        raise
    except ModelFileError:
        # Its sentence names folders and variables, for whoever installs the portal: it belongs into the log.
        logger.exception("Analysis %s: the model cannot be loaded.", analysis.id)
        analysis.fail(NO_MODEL)
    except MlError as error:
        analysis.fail(str(error))
        logger.info("Analysis %s: failed with a reason for the user.", analysis.id)
    except Exception:
        logger.exception("Analysis %s: failed unexpectedly.", analysis.id)
        analysis.fail(SURPRISE)

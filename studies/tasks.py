"""What the worker does: analyse one slice, and sweep up what a crash left behind.

Enqueue by dotted string (``Analysis.enqueue``). Both tasks may run twice, at the same time and in any order.
"""

import logging
import uuid

from django_q.brokers import get_broker

from ml.errors import MlError, ModelFileError
from ml.inference import analyse
from studies.errors import InvalidTransitionError
from studies.models import Analysis
from studies.pictures import draw_pictures

logger = logging.getLogger(__name__)

SURPRISE = (
    "Something went wrong inside the portal while this slice was analysed. Please try again; if it fails again, tell "
    "your administrator the time and that the analysis failed unexpectedly."
)

NO_MODEL = (
    "The model of this portal cannot be loaded, so the slice was not analysed. Please tell your administrator, and try "
    "again once the model is in place."
)


def analyse_image(analysis_id: str) -> None:
    """Analyse the slice of one queued analysis and record the answer, or the sentence that says why there is none.

    A queue message of an analysis that somebody else has, or that waits no more, does nothing. The broker's time-out
    arrives as a ``SystemExit``, which is not caught here on purpose: such an analysis stays RUNNING until the sweeper
    finds its lease expired, exactly as after a crash.
    """
    analysis = Analysis.objects.claim(uuid.UUID(analysis_id))
    if analysis is None:
        logger.debug("Analysis %s is not waiting any more; nothing to do.", analysis_id)
        return
    try:
        _run(analysis)
    except InvalidTransitionError:
        logger.warning("Analysis %s: attempt %d was given up meanwhile.", analysis_id, analysis.attempt)


def sweep() -> dict[str, int]:
    """Recover analyses that a crash, a time-out or a lost message left behind; return what was done, as counts.

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
    counts = {"failed": result.failed, "requeued": result.requeued, "enqueued": enqueued}
    if any(counts.values()):
        logger.warning("Swept: %(failed)d failed, %(requeued)d requeued, %(enqueued)d enqueued.", counts)
    return counts


def _run(analysis: Analysis) -> None:
    try:
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

"""The challenger in shadow: which analyses it repeats, and when. It never delays or fails what a doctor waits for.

An answer in shadow is asked for once the champion's is stored, and worked on only while no analysis waits, one at a
time: what comes in meanwhile waits for one slice at most. What is left is sent again with each analysis that ends, and
by the sweeper.
"""

import hashlib
import logging
import uuid
from typing import Final

from django_q.tasks import async_task

from ml import registry
from ml.errors import MlError
from ml.inference import analyse
from studies import stopping
from studies.models import Analysis, ShadowAnswer

logger = logging.getLogger(__name__)

TASK: Final = "studies.tasks.answer_in_shadow"
BROKEN: Final = "The challenger went wrong unexpectedly; the log says how."


def is_chosen(analysis_id: uuid.UUID, *, version: str, share: float) -> bool:
    """Return whether a challenger repeats an analysis: always the same for the same two, for this share of all."""
    digest = hashlib.sha256(f"{version}:{analysis_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def ask_challenger(analysis: Analysis) -> ShadowAnswer | None:
    """Note that the challenger is to repeat an analysis that has succeeded, if it is one of its share."""
    row = registry.challenger()
    if row is None or row.challenge_share is None or row.version == analysis.model_version:
        return None
    if not is_chosen(analysis.id, version=row.version, share=row.challenge_share):
        return None
    answer, _is_new = ShadowAnswer.objects.get_or_create(analysis=analysis, version=row.version)
    return answer


def send_next() -> bool:
    """Send the worker a message about the oldest waiting answer, unless somebody waits or one is being worked on.

    Returns whether a message was sent. One too many does no harm.
    """
    state = ShadowAnswer.State
    if _is_anybody_waiting() or ShadowAnswer.objects.filter(state=state.RUNNING).exists():
        return False
    waiting = ShadowAnswer.objects.filter(state=state.WAITING).order_by("asked_at", "id").values_list("id", flat=True)
    answer_id = waiting.first()
    if answer_id is None:
        return False
    async_task(TASK, str(answer_id), group="shadow")
    return True


def after_analysis(analysis: Analysis) -> None:
    """Do what a challenge needs once an analysis has ended. Nothing of it goes wrong for whoever waits."""
    try:
        if analysis.has_answer:
            ask_challenger(analysis)
        send_next()
    except Exception:
        logger.exception("Analysis %s: the challenger could not be asked.", analysis.id)


def answer(answer_id: uuid.UUID) -> None:
    """Let the challenger look at one slice, then send the next; leave it waiting while analyses wait."""
    if stopping.is_over() or _is_anybody_waiting():
        return
    shadow = ShadowAnswer.objects.claim(answer_id)
    if shadow is None:
        return
    try:
        _look(shadow)
    except MlError as error:
        logger.exception("Answer in shadow %s: failed.", shadow.id)
        shadow.fail(str(error))
    except Exception:
        logger.exception("Answer in shadow %s: failed unexpectedly.", shadow.id)
        shadow.fail(BROKEN)
    send_next()


def sweep() -> int:
    """Recover what a crash left behind, drop what nobody asks for any more, and send the next; return counts."""
    row = registry.challenger()
    changed = ShadowAnswer.objects.sweep(challenger=row.version if row is not None else None)
    send_next()
    return changed


def _look(shadow: ShadowAnswer) -> None:
    model = registry.challenger_model()
    if model is None or model.version != shadow.version:
        shadow.drop()
        return
    image = shadow.analysis.image
    with image.file.open("rb") as stored:
        content = stored.read()
    shadow.answer(analyse(content, pixel_spacing_mm=image.pixel_spacing_mm, model=model))


def _is_anybody_waiting() -> bool:
    return Analysis.objects.filter(state=Analysis.State.QUEUED, enqueued_at__isnull=False).exists()

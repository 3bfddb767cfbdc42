"""What the worker does for reports: bulk jobs, and sweeping up what a crash left of them.

Enqueue by dotted string (``BulkJob.enqueue``). Both tasks may run twice, at the same time and in any order.
"""

import logging
import uuid

from django.utils.translation import gettext_noop

from reports.bulk import take_turn
from reports.errors import InvalidTransitionError
from reports.models import BulkJob

logger = logging.getLogger(__name__)

SURPRISE = gettext_noop(
    "Something went wrong inside the portal. What is done stays done; please start the rest again, and tell your "
    "administrator if it fails again."
)


def run_bulk_job(job_id: str) -> None:
    """Take one turn of a bulk job; the broker's time-out leaves it to the sweeper, as after a crash."""
    job = BulkJob.objects.claim(uuid.UUID(job_id))
    if job is None:
        logger.debug("Bulk job %s is not waiting any more; nothing to do.", job_id)
        return
    try:
        is_done = take_turn(job)
    except InvalidTransitionError:
        logger.warning("Bulk job %s: attempt %d was given up meanwhile.", job_id, job.attempt)
    except Exception:
        logger.exception("Bulk job %s failed unexpectedly.", job_id)
        job.fail(SURPRISE)
    else:
        if not is_done:
            job.enqueue()


def sweep() -> dict[str, int]:
    """Recover bulk jobs, and delete archives whose time is over; return what was done, as counts."""
    to_enqueue = BulkJob.objects.sweep()
    for job in BulkJob.objects.filter(id__in=to_enqueue).order_by("queued_at", "id"):
        job.enqueue()
    counts = {"enqueued": len(to_enqueue), "removed": BulkJob.objects.remove_expired_archives()}
    if any(counts.values()):
        logger.warning("Swept bulk jobs: %(enqueued)d enqueued, %(removed)d archives removed.", counts)
    return counts

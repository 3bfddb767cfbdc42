"""What a run of the sweeper tells its caller."""

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What one run of the sweeper did: counts, the identifiers to enqueue again, and those that failed for good."""

    failed: int
    requeued: int
    to_enqueue: tuple[uuid.UUID, ...]
    given_up: tuple[uuid.UUID, ...] = ()

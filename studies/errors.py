"""Errors of the studies app. Their messages are sentences that a user may read."""


class StudiesError(Exception):
    """Base of this app's errors; the message is a full sentence that says what to do next."""


class InvalidTransitionError(StudiesError):
    """A state machine was asked for a step that its present state does not allow."""


class AnalysisError(StudiesError):
    """An analysis went wrong for a reason that lies in the portal, not in the picture."""


class StoredPictureError(AnalysisError):
    """A stored slice cannot be read or the answer's pictures cannot be stored, perhaps for the moment only."""


class UnexpectedAnalysisError(AnalysisError):
    """An analysis ended with an error that nobody has foreseen."""


class AbandonedAnalysisError(AnalysisError):
    """An analysis was started as often as allowed and never finished: crashes or time-outs."""


class GrantError(StudiesError):
    """A grant was asked for somebody who may not have one."""


class ClaimLockedError(StudiesError):
    """Too many wrong guesses; the person has to wait ``wait_s`` seconds before the next try."""

    def __init__(self, sentence: str, *, wait_s: int) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class QuotaError(StudiesError):
    """A patient has uploaded as much as the portal takes from one person for now."""


class OwnStudyError(StudiesError):
    """A patient's own upload cannot be deleted at this moment, or not by the patient."""


class ErasureError(StudiesError):
    """An erasure was asked for or decided on where that is not possible (any more)."""


class HandoverError(StudiesError):
    """A hand-over was asked for what cannot be handed over, or somebody else was faster."""


class InvitationError(StudiesError):
    """A patient cannot be invited to claim the record."""


class IntakeError(StudiesError):
    """An upload was refused; nothing of it was stored.

    ``sentences`` holds one full sentence for each file that was refused, in the order of the files.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


class RecordNumberTakenError(IntakeError):
    """The hospital has another patient under this record number."""


class FirstImpressionNotedError(StudiesError):
    """A doctor has noted a first impression of this study already, another one than this."""


class OutlineError(StudiesError):
    """An outline was refused; nothing of it was stored."""


class ReviewError(StudiesError):
    """A judgement was refused, because it does not say what it has to."""


class StaleReviewError(StudiesError):
    """Somebody else has judged the same thing since the page was opened; nothing was overwritten."""

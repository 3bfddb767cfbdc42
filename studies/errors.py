"""Errors of the studies app. Their messages are sentences that a user may read."""


class StudiesError(Exception):
    """Base of this app's errors; the message is a full sentence that says what to do next."""


class InvalidTransitionError(StudiesError):
    """A state machine was asked for a step that its present state does not allow."""


class IntakeError(StudiesError):
    """An upload was refused; nothing of it was stored."""

"""Errors of the reports app. Their messages are sentences that a user may read."""


class ReportsError(Exception):
    """Base of this app's errors; the message is a full sentence that says what to do next."""


class InvalidTransitionError(ReportsError):
    """A report was asked for a step that its present state does not allow."""


class StaleDraftError(ReportsError):
    """Somebody else has changed the draft since it was opened; nothing was overwritten."""


class UnreadReportError(ReportsError):
    """Somebody was to sign a text that they have not had on the screen."""


class NothingToReportError(ReportsError):
    """A report was asked for before any analysis of the study had an answer."""


class FirstImpressionMissingError(NothingToReportError):
    """A report was asked for by a doctor who has not noted a first impression of the study yet."""


class ReportExistsError(ReportsError):
    """The study has its one report already."""


class PdfError(ReportsError):
    """The PDF of a report could not be made, or the stored one is not the one that was signed."""


class MailError(ReportsError):
    """A mail without which an act makes no sense could not be sent; the act did not happen."""

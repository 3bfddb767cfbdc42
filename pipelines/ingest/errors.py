"""Errors of ingestion; the message of each is a sentence that says what to do next."""

from ml.errors import MlError


class IngestError(MlError):
    """Nothing could be ingested."""


class ArchiveError(IngestError):
    """The archive is damaged, or larger than any set of slices."""


class DownloadError(IngestError):
    """The set could not be fetched."""


class BusyError(IngestError):
    """Another run writes the same folder."""

"""Where pictures and masks live: private files named by random UUIDs, never by what the uploader called them."""

import uuid

from django.db import InterfaceError, OperationalError, models


def _random_name(*, folder: str, suffix: str) -> str:
    name = uuid.uuid4()
    return f"{folder}/{name.hex[:2]}/{name}{suffix}"


def image_path(instance: models.Model, filename: str) -> str:
    """Name a stored slice."""
    return _random_name(folder="images", suffix=".png")


def analysis_path(instance: models.Model, filename: str) -> str:
    """Name a picture made by an analysis (mask, overlay, activation)."""
    return _random_name(folder="analyses", suffix=".png")


def review_path(instance: models.Model, filename: str) -> str:
    """Name an outline that a doctor drew."""
    return _random_name(folder="reviews", suffix=".png")


def import_path(instance: models.Model, filename: str) -> str:
    """Name a file of an import as it came; it is deleted as soon as it is read."""
    return _random_name(folder="imports", suffix="")


def may_be_committed(error: BaseException) -> bool:
    """Whether a transaction that ended with this error may have been committed all the same.

    A connection that breaks while COMMIT is on its way tells nothing about what became of it. Files that its rows name
    must stay then: one too many is removed by ``clean_store``, one too few is lost.
    """
    return isinstance(error, OperationalError | InterfaceError)

"""Deleting for good: which rows mean nothing without another one, and which stored files go along with them."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.core.files.storage import default_storage
from django.db import models

OURS: Final = ("studies", "reports")
# Relations whose rows mean nothing without what they point to. Others (SET_NULL) live on by themselves.
_DEPENDENT: Final = (models.PROTECT, models.RESTRICT, models.CASCADE)


def rows_below(row: models.Model) -> Iterator[models.Model]:
    """Yield what depends on a row, the furthest first, and the row itself last."""
    for relation in row._meta.related_objects:
        model: Any = relation.related_model
        if model._meta.app_label in OURS and relation.on_delete in _DEPENDENT:
            for child in model._base_manager.filter(**{relation.field.name: row}):
                yield from rows_below(child)
    yield row


def delete_rows(rows: Iterable[models.Model]) -> None:
    """Delete rows in the order given, by the plain manager: models that people may not change refuse ``delete()``."""
    for row in rows:
        type(row)._base_manager.filter(pk=row.pk).delete()


def files_of(row: models.Model) -> list[str]:
    """Return the names of the stored files that a row points to."""
    fields = (field for field in row._meta.concrete_fields if isinstance(field, models.FileField))
    return [file.name for file in (getattr(row, field.name) for field in fields) if file]


def remove_files(names: Iterable[str]) -> None:
    """Delete stored files; call it after the commit."""
    for name in names:
        default_storage.delete(name)

"""Pages by key instead of by number: the next page starts after the last row shown, however long the list is."""

import base64
import binascii
import datetime
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

PAGE_SIZE = 25


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows of one page; ``next_key`` is the address of the following one, empty on the last."""

    rows: tuple[Any, ...]
    next_key: str
    is_first: bool


class _Row(models.Func):
    """Several values as one, compared as a whole: ``(a, b, c)``. An index on a, b, c serves such a comparison."""

    template = "(%(expressions)s)"


class _RowFollows(models.Func):
    """Whether a row stands behind another one."""

    template = "%(expressions)s"
    output_field = models.BooleanField()


def page_of(queryset: models.QuerySet[Any], *, order: Sequence[str], after: str = "", size: int = PAGE_SIZE) -> Page:
    """Return the rows that follow the key ``after``, in ``order`` (field names, ``-`` for descending; unique together).

    All fields run in the same direction and none is ever NULL: so the key is one comparison of rows, and an index on
    the fields leads to the first row of a page without passing the rows of the pages before it.

    A key that does not read is taken as none: somebody has cut an address in two, and sees the first page.
    """
    if len({name.startswith("-") for name in order}) != 1:
        raise ValueError(f"The fields of an order run in one direction. Received: order={order!r}.")
    start = _read_key(queryset.model, after, order=order) if after else None
    rows = queryset.order_by(*order)
    if start is not None:
        rows = rows.filter(_after(queryset.model, start, order=order))
    found = list(rows[: size + 1])
    shown = found[:size]
    next_key = key_of(shown[-1], order=order) if len(found) > size else ""
    return Page(rows=tuple(shown), next_key=next_key, is_first=start is None)


def _after(model: type[models.Model], start: Sequence[Any], *, order: Sequence[str]) -> _RowFollows:
    names = [name.removeprefix("-") for name in order]
    values = [models.Value(value, output_field=_field(model, name)) for name, value in zip(names, start, strict=True)]
    return _RowFollows(
        _Row(*map(models.F, names)), _Row(*values), arg_joiner=" < " if order[0].startswith("-") else " > "
    )


def key_of(row: Any, *, order: Sequence[str]) -> str:
    """Return the key of a row: ``page_of`` goes on behind it."""
    values = [getattr(row, name.removeprefix("-")) for name in order]
    texts = [value.isoformat() if isinstance(value, datetime.datetime) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).decode().rstrip("=")


def _read_key(model: type[models.Model], key: str, *, order: Sequence[str]) -> list[Any] | None:
    try:
        texts = json.loads(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))
        if not isinstance(texts, list) or len(texts) != len(order) or not all(isinstance(text, str) for text in texts):
            return None
        return [_read_value(model, name.removeprefix("-"), text) for name, text in zip(order, texts, strict=True)]
    except (binascii.Error, ValueError, ValidationError):
        return None


def _read_value(model: type[models.Model], name: str, text: str) -> Any:
    field = _field(model, name)
    if isinstance(field, models.DateTimeField):
        value = datetime.datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise ValueError("A moment without a time zone.")
        return value
    if isinstance(field, models.DateField):
        return datetime.date.fromisoformat(text)
    if isinstance(field, models.FloatField):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError("A number without an end.")
        return number
    if isinstance(field, models.UUIDField):
        return uuid.UUID(text)
    if isinstance(field, models.IntegerField):
        return int(text)
    return text.replace("\x00", "")


def _field(model: type[models.Model], name: str) -> "models.Field[Any, Any]":
    """Return the field; of a column that the database computes, the kind of value in it."""
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)  # noqa: S101 - narrows the type: an order names columns
    computed = field.output_field if isinstance(field, models.GeneratedField) else None
    return computed or field

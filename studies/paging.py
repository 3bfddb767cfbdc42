"""Pages by key instead of by number: the next page starts after the last row shown, however long the list is."""

import base64
import binascii
import datetime
import json
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


def page_of(queryset: models.QuerySet[Any], *, order: Sequence[str], after: str = "", size: int = PAGE_SIZE) -> Page:
    """Return the rows that follow the key ``after``, in ``order`` (field names, ``-`` for descending; unique together).

    A key that does not read is taken as none: somebody has cut an address in two, and sees the first page.
    """
    start = _read_key(queryset.model, after, order=order) if after else None
    rows = queryset.order_by(*order)
    if start is not None:
        rows = rows.filter(_after(start, order=order))
    found = list(rows[: size + 1])
    shown = found[:size]
    next_key = _write_key(shown[-1], order=order) if len(found) > size else ""
    return Page(rows=tuple(shown), next_key=next_key, is_first=start is None)


def _after(start: Sequence[Any], *, order: Sequence[str]) -> models.Q:
    condition = models.Q()
    equal: dict[str, Any] = {}
    for name, value in zip(order, start, strict=True):
        field = name.removeprefix("-")
        lookup = "lt" if name.startswith("-") else "gt"
        condition |= models.Q(**equal, **{f"{field}__{lookup}": value})
        equal[field] = value
    return condition


def _write_key(row: Any, *, order: Sequence[str]) -> str:
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
    field = model._meta.get_field(name)
    if isinstance(field, models.DateTimeField):
        value = datetime.datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise ValueError("A moment without a time zone.")
        return value
    if isinstance(field, models.UUIDField):
        return uuid.UUID(text)
    return text.replace("\x00", "")

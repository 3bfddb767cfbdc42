"""What a page of figures is made of: panels with a chart, the table behind it, and a sentence about both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from portal.dashboard.charts import Chart
from portal.dashboard.estimates import ENOUGH, Estimate

TEXT, COUNT, SHARE, FIGURE, MS, SECONDS, HOURS, MOMENT = (
    "text",
    "count",
    "share",
    "figure",
    "ms",
    "seconds",
    "hours",
    "moment",
)
DECIMALS: Final = {COUNT: 0, FIGURE: 3, MS: 0, SECONDS: 1, HOURS: 1}
UNITS: Final = {MS: "ms", SECONDS: "s", HOURS: "h"}


@dataclass(frozen=True)
class Column:
    """A column of a table: what stands above it, and of what kind its values are."""

    label: str
    kind: str = COUNT

    @property
    def is_number(self) -> bool:
        """Whether its values are aligned as numbers."""
        return self.kind not in (TEXT, MOMENT)

    @property
    def heading(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({UNITS[self.kind]})" if self.kind in UNITS else self.label

    def shown(self, value: Any) -> str:
        """Return a value as people read it; a dash where there is none."""
        if value is None:
            return "–"
        if self.kind == MOMENT and isinstance(value, datetime):
            return date_format(timezone.localtime(value), "j M Y, H:i")
        if self.kind == SHARE:
            return f"{number_format(100 * value, decimal_pos=1, use_l10n=True)} %"
        if self.kind in DECIMALS:
            return number_format(value, decimal_pos=DECIMALS[self.kind], use_l10n=True, force_grouping=True)
        return str(value)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values as they were counted; the first column names the row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def shown_rows(self) -> list[list[tuple[Column, str]]]:
        """The rows as people read them."""
        return [
            [(column, column.shown(value)) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One question and its answer. ``note`` says what the figures do not say, ``empty`` why there are none."""

    key: str
    title: str
    intro: str
    table: Table
    chart: Chart | None = None
    note: str = ""
    empty: str = ""
    is_wide: bool = field(default=False)


def estimate_row(label: str, estimate: Estimate) -> tuple[Any, ...]:
    """Return a row of name, value, interval and count."""
    return (label, estimate.value, estimate.low, estimate.high, estimate.count)


def too_few_note(estimates: Sequence[Estimate]) -> str:
    """Return the sentence that says where nothing can be said, empty where everything can."""
    if all(one.value is not None for one in estimates):
        return ""
    return _("A dash means too few to say: fewer than %(enough)d cases.") % {"enough": ENOUGH}

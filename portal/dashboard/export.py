"""Tables as CSV files that a spreadsheet opens without executing anything."""

import csv
import io
from datetime import datetime
from typing import Any, Final

from portal.dashboard.panels import Table

# What makes a spreadsheet take a text for a formula (OWASP, "CSV injection"); tab and carriage return hide one.
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_csv(table: Table) -> str:
    """Return a table as CSV: numbers as they were counted, moments in ISO 8601, texts harmless; a BOM for Excel."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([harmless(column.heading) for column in table.columns])
    for row in table.rows:
        writer.writerow([_cell(value) for value in row])
    return "\ufeff" + stream.getvalue()


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe stands before what might begin one."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, int) else harmless(str(value))

"""A training's row in the portal's database (`ml.models.TrainingRun`), written while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.history import OnEpoch
from ml.runtime import read_card
from ml.tracking import Run, code_tags, flattened

if TYPE_CHECKING:
    from ml.models import TrainingRun


class RowFollower:
    """Follows a training for the portal's page. `row` is what a trainer has claimed, or a new one begun by hand."""

    def __init__(self, row: TrainingRun, *, parameters: object, mlflow_run: Run | None, is_ended_here: bool) -> None:
        self._row, self._parameters = row, parameters
        self._mlflow_run, self._is_ended_here = mlflow_run, is_ended_here
        self._curves: dict[str, list[dict[str, float]]] = {}

    def __enter__(self) -> RowFollower:
        facts: dict[str, Any] = {"parameters": _plain(flattened(self._parameters))}
        facts["git_commit"] = code_tags().get("git_commit", "")
        if self._mlflow_run is not None:
            facts |= {"mlflow_run_id": self._mlflow_run.run_id, "mlflow_url": self._mlflow_run.url}
        self._row.note(**facts)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        if not self._is_ended_here:
            return
        if kind is None:
            self._row.finish()
        else:
            self._row.fail(str(error) or kind.__name__)

    def data(self, *, fingerprint: str, labels_version: str = "") -> None:
        """Note which data it is taught on."""
        self._row.note(data_fingerprint=fingerprint, labels_version=labels_version)

    def epochs(self, stage: str) -> OnEpoch:
        """Return what adds the epochs of a stage to its curve."""

        def add(step: int, figures: Mapping[str, float]) -> None:
            self._curves.setdefault(stage, []).append({"step": step, **_plain(figures)})
            self._row.note(curves=self._curves)
            if self._is_ended_here:
                self._row.beat()

        return add

    def figures(self, figures: Mapping[str, float]) -> None:
        """Note figures of the whole training."""
        self._row.note(figures={**self._row.figures, **_plain(figures)})

    def file(self, path: Path, *, folder: str) -> None:
        """Files stay where they are: the database holds none."""

    def model(self, directory: Path) -> None:
        """Note version and figures of the exported model."""
        card = read_card(directory)
        self.figures({name: figure["value"] for name, figure in card["figures"].items()})
        self._row.note(model_version=card["version"])


def row_of(run_id: str | None, *, name: str) -> TrainingRun | None:
    """Return the row to write: the trainer's, or a new one where a portal's database is there; else None."""
    from django.apps import apps
    from django.conf import settings
    from django.db import DatabaseError

    if not apps.ready:
        return None
    from ml.models import TrainingRun

    if run_id is not None:
        return TrainingRun.objects.get(id=run_id)
    database = settings.DATABASES["default"]
    path = str(database.get("NAME", ""))
    # A training machine has no portal: asking SQLite would make an empty file there.
    if database["ENGINE"].endswith("sqlite3") and "memory" not in path and not Path(path).is_file():
        return None
    try:
        row: TrainingRun = TrainingRun.objects.begin(name=name)
    except DatabaseError:
        return None
    return row


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, words and lists as JSON can hold them; what is no number becomes text."""
    return {
        name: value if isinstance(value, bool | int | str) or value is None else _number(value)
        for name, value in values.items()
    }


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return round(number, 6) if number - number == 0 else str(number)

"""The figures of every epoch of a training as a CSV table, for `dvc plots`, MLflow and the portal's curve."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ml.runtime import CARD_NAME

OnEpoch = Callable[[int, Mapping[str, float]], None]


class History:
    """The epochs of one stage ("outline" or "classifier") in `folder/STAGE-history.csv`, replaced after each.

    A stage trains in phases, and each phase counts its steps from 0; `step` counts on over all of them, `phase_step` is
    the phase's own. A training that goes on from a checkpoint goes on in its table.
    """

    def __init__(self, folder: Path, *, stage: str, is_resumed: bool) -> None:
        self.path = folder / history_name(stage)
        self.rows: list[dict[str, float]] = read_history(self.path) if is_resumed else []
        self._followers: list[OnEpoch] = []

    def follow(self, follower: OnEpoch) -> None:
        """Have `follower` called with every epoch's step (counted over all phases) and figures."""
        self._followers.append(follower)

    def epoch(self, phase_step: int, figures: Mapping[str, float]) -> None:
        """Add an epoch: what `ml.training.loop.fit` calls."""
        last = self.rows[-1] if self.rows else {"step": 0.0, "phase_step": 0.0}
        # A step that is not beyond the last one belongs to the next phase.
        started = last["step"] - (last["phase_step"] if phase_step > last["phase_step"] else 0.0)
        step = started + phase_step
        self.rows.append({"step": step, "phase_step": float(phase_step), **figures})
        self._write()
        for follower in self._followers:
            follower(int(step), figures)

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.path)


def history_name(stage: str) -> str:
    """Return the file name of a stage's table."""
    return f"{stage}-history.csv"


def read_history(path: Path) -> list[dict[str, float]]:
    """Return the epochs written to `path`, oldest first; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def put_into_card(model: Path, *, folder: Path) -> None:
    """Write the epochs in `folder` into the model's card as `training.history`, by stage, where the portal draws them.

    The card is replaced by one rename. A stage that was not trained in `folder` is left as the card has it.
    """
    path = model / CARD_NAME
    card = json.loads(path.read_text(encoding="utf-8"))
    found = {stage: read_history(folder / history_name(stage)) for stage in ("outline", "classifier")}
    history = {stage: rows for stage, rows in found.items() if rows}
    if not history:
        return
    training = card.setdefault("training", {})
    training["history"] = training.get("history", {}) | history
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)

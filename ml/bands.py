"""The bands in which figures of an evaluation are expected to lie, and what lies outside of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ml.errors import EvaluationError, OutOfBandError


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A figure whose whole 95 % interval lies outside its band; ``name`` is its place in the report."""

    name: str
    value: float
    low: float
    high: float
    expected: tuple[float, float]

    @property
    def sentence(self) -> str:
        """What is wrong with it."""
        side = "below" if self.high < self.expected[0] else "above"
        return (
            f"{self.name} is {self.value:.3f} ({self.low:.3f} to {self.high:.3f}), {side} the expected "
            f"{self.expected[0]:g} to {self.expected[1]:g}."
        )


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Expected bands by layout and figure; blocks of fewer than ``images`` pictures are not judged."""

    images: int
    by_layout: Mapping[str, Mapping[str, tuple[float, float]]]

    @classmethod
    def read(cls, path: Path) -> "Bands":
        """Read a file such as ``bands.yaml``. Raises ``EvaluationError`` where it cannot be used."""
        try:
            raw = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
            images = int(raw.pop("images", 0))
            by_layout = {
                str(layout): {str(name): _band(ends) for name, ends in figures.items()}
                for layout, figures in raw.items()
            }
        except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise EvaluationError(
                f"The bands in {path} cannot be used: {error}. Write a layout, and below it lines such as "
                "“test_unseen.accuracy: [0.5, 0.98]”."
            ) from error
        return cls(images=images, by_layout=by_layout)

    def outside(self, report: Mapping[str, Any]) -> tuple[Outside, ...]:
        """Return the figures of an evaluation's report that lie outside; what was not measured is not judged."""
        found = []
        for name, (lowest, highest) in self.by_layout.get(str(report.get("layout")), {}).items():
            figure = _figure(report, name=name, images=self.images)
            if figure is None:
                continue
            value, low, high = figure
            if high < lowest or low > highest:
                found.append(Outside(name=name, value=value, low=low, high=high, expected=(lowest, highest)))
        return tuple(found)

    def check(self, report: Mapping[str, Any]) -> None:
        """Raise ``OutOfBandError`` with a sentence for each figure that lies outside its band."""
        if outside := self.outside(report):
            raise OutOfBandError(
                " ".join(one.sentence for one in outside)
                + " Too low: look at training and data. Too high: look for pictures that were trained on. Do not use "
                "this model before that is explained; if the new figure is right, change the band."
            )


def _band(ends: Any) -> tuple[float, float]:
    lowest, highest = (float(end) for end in ends)
    if not lowest <= highest:
        raise ValueError(f"a band runs from the lowest to the highest, not {ends}")
    return lowest, highest


def _figure(report: Mapping[str, Any], *, name: str, images: int) -> tuple[float, float, float] | None:
    """Return value and interval of a figure; None where it was not measured, or on too few pictures."""
    *blocks, last = name.split(".")
    block: Any = report
    for part in blocks:
        block = block.get(part) if isinstance(block, Mapping) else None
    if not isinstance(block, Mapping) or not isinstance(figure := block.get(last), Mapping):
        return None
    if figure.get("value") is None or int(block.get("images") or 0) < images:
        return None
    value = float(figure["value"])
    low, high = figure.get("low"), figure.get("high")
    return value, value if low is None else float(low), value if high is None else float(high)

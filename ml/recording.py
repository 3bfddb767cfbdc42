"""What a training leaves behind: a table of its epochs on disk, and whoever else follows it, such as MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

from ml.history import History, OnEpoch


class Follower(AbstractContextManager[Any], Protocol):
    """Somebody who is told of a training while it runs. Its `with` block is the training."""

    def data(self, *, fingerprint: str, labels_version: str = "") -> None:
        """Be told which data it is taught on."""

    def epochs(self, stage: str) -> OnEpoch:
        """Return what is called with each epoch of a stage."""

    def figures(self, figures: Mapping[str, float]) -> None:
        """Be told figures of the training as a whole."""

    def file(self, path: Path, *, folder: str) -> None:
        """Be given a file."""

    def model(self, directory: Path) -> None:
        """Be given the exported model."""


class Recorder:
    """Hands on to every follower what happens, and keeps the epochs of each stage in `out`."""

    def __init__(self, out: Path, *, is_resumed: bool, followers: Sequence[Follower] = ()) -> None:
        self._out, self._is_resumed, self._followers = out, is_resumed, tuple(followers)
        self._histories: dict[str, History] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Recorder:
        # One that cannot begin ends those that have.
        with ExitStack() as stack:
            for follower in self._followers:
                stack.enter_context(follower)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        with self._stack as stack:
            self._draw_histories()
            stack.__exit__(*details)

    def data(self, *, fingerprint: str, labels_version: str = "") -> None:
        """Say which data the training is taught on, and with which export of doctors' labels."""
        for follower in self._followers:
            follower.data(fingerprint=fingerprint, labels_version=labels_version)

    def epochs(self, stage: str) -> OnEpoch:
        """Return what records the epochs of a stage; `ml.training.loop.fit` calls it."""
        history = History(self._out, stage=stage, is_resumed=self._is_resumed)
        for follower in self._followers:
            history.follow(follower.epochs(stage))
        self._histories[stage] = history
        return history.epoch

    def figures(self, figures: Mapping[str, float]) -> None:
        """Say figures of the training as a whole."""
        for follower in self._followers:
            follower.figures(figures)

    def model(self, directory: Path) -> None:
        """Hand on the exported model."""
        for follower in self._followers:
            follower.model(directory)

    def _draw_histories(self) -> None:
        """Also after a failure: the curves up to it say most about why."""
        for stage, history in self._histories.items():
            if not history.rows:
                continue
            from ml.plots import draw_history

            picture = draw_history(history.rows, path=history.path.with_suffix(".png"), title=stage)
            for follower in self._followers:
                follower.file(picture, folder="curves")
                follower.file(history.path, folder="curves")

"""Where versions of the model lie: one folder each, copied in whole, never changed, checked by its hashes."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from django.utils.translation import gettext as _

from ml.errors import ModelFileError, RegistryError
from ml.runtime import CARD_NAME, forget_models, load_model, read_card, read_checked

NETWORKS: Final = ("classifier", "outline")
# A folder has this name: nothing that leads elsewhere, nothing that is hidden.
VERSION_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")
PARTIAL: Final = ".partial"
# Made from a version and put beside it, perhaps later (ml/reference.py): no part of what was registered.
MADE_LATER: Final = ("reference.npz",)
# What an interrupted copy left behind is nobody's any more after a day.
ABANDONED_AFTER_S: Final = 24 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a folder holds: SHA-256 over its files and their names, and of the card alone."""

    folder: str
    card: str


def fingerprint(folder: Path) -> Fingerprint:
    """Return the fingerprint of a model folder. Raises ``ModelFileError`` for one that cannot be read."""
    whole = hashlib.sha256()
    card = ""
    try:
        for path in _files(folder):
            if path.name in MADE_LATER:
                continue
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if path.name == CARD_NAME:
                card = digest
            whole.update(f"{digest}  {path.name}\n".encode())
    except OSError as error:
        raise ModelFileError(_("The model folder %(folder)s cannot be read.") % {"folder": folder}) from error
    return Fingerprint(folder=whole.hexdigest(), card=card)


def read_whole(folder: Path) -> dict[str, Any]:
    """Return the card of a model folder whose networks are those that it names. Raises ``ModelFileError``."""
    card = read_card(folder)
    for name in NETWORKS:
        read_checked(folder, card=card, name=name)
    return card


def check(folder: Path, *, sha256: str) -> None:
    """Raise ``ModelFileError`` unless a version's folder is, file by file, what was registered."""
    if fingerprint(folder).folder != sha256:
        raise ModelFileError(
            _(
                "The folder %(folder)s is not what was registered: a file is missing, was changed or was added. "
                "Restore it from a backup, or register the version anew under another name."
            )
            % {"folder": folder}
        )


def is_card_of(folder: Path, *, card_sha256: str) -> bool:
    """Return whether a folder's card is the registered one: cheap enough for every analysis."""
    try:
        return hashlib.sha256((folder / CARD_NAME).read_bytes()).hexdigest() == card_sha256
    except OSError:
        return False


def try_out(folder: Path) -> None:
    """Load a model and let it look at one made-up picture. Raises ``ModelFileError`` for one that cannot answer."""
    model = load_model(folder)
    try:
        pixels = np.add.outer(np.arange(96), np.arange(96)).astype(np.uint8)
        probabilities, outline = model.classify(pixels).probabilities, model.outline(pixels)
        is_sound = (
            len(probabilities) == len(model.classes)
            and bool(np.isfinite(probabilities).all())
            and bool(np.isfinite(outline).all())
        )
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
        raise ModelFileError(
            _("The model in %(folder)s does not answer: %(error)s. Export the model again.")
            % {"folder": folder, "error": error}
        ) from error
    finally:
        forget_models(folder)
    if not is_sound:
        raise ModelFileError(
            _("The model in %(folder)s answers with values that are no probabilities. Export the model again.")
            % {"folder": folder}
        )


def version_of(card: dict[str, Any]) -> str:
    """Return the version that a card names. Raises ``RegistryError`` for a name that cannot be a folder's."""
    version = str(card.get("version") or "")
    if not VERSION_NAME.fullmatch(version):
        raise RegistryError(
            _(
                "The card names the version “%(version)s”. A version has at most 60 letters, digits, dots, dashes, "
                "plus signs and underscores, and starts with a letter or digit. Export the model again."
            )
            % {"version": version[:80]}
        )
    return version


def copy_in(source: Path, *, target: Path) -> Fingerprint:
    """Copy a model folder to a place that is still free: all of it or nothing, and on the disk when this returns.

    A folder that is there already is kept where it holds the same. Raises ``RegistryError`` where it holds something
    else, ``ModelFileError`` for a damaged source or copy.
    """
    read_whole(source)
    wanted = fingerprint(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent))
        try:
            partial.chmod(0o755)
            for path in _files(source):
                _copy(path, target=partial / path.name)
            _sync_folder(partial)
            read_whole(partial)
            try:
                partial.rename(target)
            except OSError:
                # Somebody else was faster; what they put there is judged below.
                if not target.exists():
                    raise
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    if fingerprint(target) != wanted:
        raise holds_something_else(target.name)
    return wanted


def holds_something_else(version: str) -> RegistryError:
    """Return the refusal of a version that exists with other content."""
    return RegistryError(
        _(
            "There is a version “%(version)s” already, and it holds something else. A version never changes: export "
            "the model under a new version."
        )
        % {"version": version}
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelFileError(_("There is no model folder %(folder)s. Please check the path.") % {"folder": folder})
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise ModelFileError(
                _("The model folder %(folder)s holds “%(name)s”, which is no plain file. It was not taken.")
                % {"folder": folder, "name": path.name}
            )
    return paths


def _copy(source: Path, *, target: Path) -> None:
    with source.open("rb") as reading, target.open("xb") as writing:
        shutil.copyfileobj(reading, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f".*{PARTIAL}"):
        if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)


def trained_at(card: dict[str, Any]) -> str:
    """Return when a card says that its model was made, as text; empty where it does not say."""
    return str(card.get("created_at") or "")


def data_fingerprint(card: dict[str, Any]) -> str:
    """Return the fingerprint of the training data that a card names; empty where it names none."""
    training = card.get("training")
    return str(training.get("fingerprint") or "")[:64] if isinstance(training, dict) else ""


def figures_of(card: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that a card names; none where it has none."""
    figures = card.get("figures")
    return json.loads(json.dumps(figures)) if isinstance(figures, dict) else {}

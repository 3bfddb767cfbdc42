"""The exported model as serving uses it: two LiteRT networks and model.json, loaded once a process."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np

from ml.errors import ModelFileError
from ml.preprocessing import (
    Box,
    body_box,
    check_grey,
    classifier_slice,
    outline_slice,
    pad_to_stride,
    resize,
    stretch,
    to_input,
)

STARTER_DIRECTORY = Path(__file__).resolve().parent / "starter"
CARD_NAME = "model.json"
FORMAT = 1
# Pictures up to this side are crops from inside a chest (LIDC's have 128), larger ones whole slices.
LARGEST_CROP_SIDE_PX = 160
# A crop larger than this is shrunk before it is outlined: time and memory stay bounded.
LARGEST_OUTLINED_CROP_SIDE_PX = 512
# How a crop is looked at, scale and mirroring, before its outlines are averaged; chosen by the Dice of validation
# patients. The network was taught on nodules at 0.45 to 1.15 of the CT's own scale, and outlines those at 0.9 best.
AS_IT_IS = (slice(None), slice(None))
CROP_VIEWS = (
    (1.0, AS_IT_IS),
    (0.9, AS_IT_IS),
    (0.9, (slice(None), slice(None, None, -1))),
    (0.9, (slice(None, None, -1), slice(None))),
    (0.8, AS_IT_IS),
)
# The malignancy map was taught on crops of about 0.7 mm a pixel; a body is about 380 mm wide.
FINDING_CROP_SIDE_PX = 64
FINDING_CROP_BODY_SHARE = 0.12

Scale = Literal["auto", "slice", "crop"]


@dataclass(frozen=True)
class Cut:
    """What makes a finding: pixels from `outline` on that touch, one of them from `peak` on, so many in all.

    Two thresholds, because they answer two questions: how far a tumour reaches, and whether there is one (hysteresis,
    Canny 1986). One alone either invents tumours or shrinks them.
    """

    outline: float
    peak: float
    minimum_area_px: int


@dataclass(frozen=True)
class Thresholds:
    """Probabilities, and smallest areas in pixels; `crop_…` hold for crops from inside a chest, the others for slices.

    A crop is made around something that somebody saw, a slice is not: what is likely enough differs.
    `minimum_area_px` is meant for a slice whose body is 256 pixels long.
    """

    outline: float
    minimum_area_px: int
    malignant: float
    peak: float
    crop_outline: float
    crop_peak: float
    crop_minimum_area_px: int

    @classmethod
    def of_card(cls, values: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds of a model card; a card from before `peak` used one threshold for everything."""
        outline, area = values["outline"], values["minimum_area_px"]
        former = {"peak": outline, "crop_outline": outline, "crop_peak": outline, "crop_minimum_area_px": area}
        return cls(**{**former, **values})

    def cut(self, *, is_crop: bool) -> Cut:
        """Return what makes a finding on a crop, or on a whole slice of 256 pixels."""
        if is_crop:
            return Cut(outline=self.crop_outline, peak=self.crop_peak, minimum_area_px=self.crop_minimum_area_px)
        return Cut(outline=self.outline, peak=self.peak, minimum_area_px=self.minimum_area_px)


def is_crop(pixels: np.ndarray) -> bool:
    """Return whether a picture (H, W) is taken for a crop from inside a chest, by its size."""
    return max(pixels.shape) <= LARGEST_CROP_SIDE_PX


@dataclass(frozen=True)
class SliceClass:
    """What the classifier says about a slice.

    `probabilities` float32 (classes,), calibrated by temperature, sum 1; `activation_maps` float32 (h, w, classes):
    each is exactly Grad-CAM of its class over `box`, the body's box in the picture; `embedding` float32 (512,).
    """

    probabilities: np.ndarray
    activation_maps: np.ndarray
    embedding: np.ndarray
    box: Box

    def activation_over(self, class_index: int, *, height: int, width: int) -> np.ndarray:
        """Return the activation map of a class over the whole picture, float32 (height, width), 0 outside the body."""
        area = np.zeros((height, width), dtype=np.float32)
        area_of_box = np.ascontiguousarray(self.activation_maps[:, :, class_index])
        self.box.cut(area)[:] = resize(area_of_box, width=self.box.width, height=self.box.height)
        return area


class Network:
    """A LiteRT file with one input float32 (1, h, w, 3) and named outputs; safe to call from several threads."""

    def __init__(self, content: bytes, *, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._lock = threading.Lock()
        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._runner = self._interpreter.get_signature_runner()
        self._input_name = next(iter(self._runner.get_input_details()))

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        with self._lock:
            return {name: np.array(value) for name, value in self._runner(**{self._input_name: inputs}).items()}


class Runnable(Protocol):
    """A network as serving runs it: float32 (1, h, w, 3) in, named arrays out."""

    def __call__(self, inputs: np.ndarray, /) -> dict[str, np.ndarray]: ...


class Model:
    """A loaded model; get one from `load_model`."""

    def __init__(self, *, card: Mapping[str, Any], classifier: Runnable, outline: Runnable) -> None:
        self.card = MappingProxyType(dict(card))
        self.version: str = card["version"]
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.thresholds = Thresholds.of_card(card["thresholds"])
        self._temperature = float(card["temperature"])
        self._malignancy = card["malignancy"]
        self._sides = card["input"]
        self._classifier, self._outline = classifier, outline

    def classify(self, pixels: np.ndarray) -> SliceClass:
        """Return class probabilities and activation maps of a slice uint8 (H, W)."""
        small, box = classifier_slice(pixels, side=self._sides["classifier_side_px"])
        outputs = self._classifier(to_input(small)[np.newaxis])
        scaled = outputs["logits"][0].astype(np.float64) / self._temperature
        shares = np.exp(scaled - scaled.max())
        maps = outputs["activation_maps"][0]
        return SliceClass(
            probabilities=(shares / shares.sum()).astype(np.float32),
            activation_maps=maps / np.float32(maps.shape[0] * maps.shape[1]),
            embedding=outputs["embedding"][0],
            box=box,
        )

    def outline(self, pixels: np.ndarray, *, scale: Scale = "auto") -> np.ndarray:
        """Return the tumour probability of every pixel, float32 (H, W), of a picture uint8 (H, W).

        `scale` says what the picture is: a whole slice (brought to 256 pixels around the body) or a crop from inside
        the chest at the CT's own resolution; "auto" goes by size.
        """
        check_grey(pixels)
        if scale == "auto":
            scale = "crop" if is_crop(pixels) else "slice"
        height, width = pixels.shape
        if scale == "crop":
            factor = min(1.0, LARGEST_OUTLINED_CROP_SIDE_PX / max(height, width))
            small = resize(pixels, width=max(1, round(width * factor)), height=max(1, round(height * factor)))
            return resize(self._crop_outline(stretch(small)), width=width, height=height)
        small, box = outline_slice(pixels, side=self._sides["slice_side_px"])
        whole = np.zeros((height, width), dtype=np.float32)
        box.cut(whole)[:] = resize(self.outline_maps(small)[0], width=box.width, height=box.height)
        return whole

    def _crop_outline(self, pixels: np.ndarray) -> np.ndarray:
        """Return the mean outline float32 (h, w) of a crop as `CROP_VIEWS` show it.

        A crop is small, so that looking at it several times costs little; a larger picture is looked at once.
        """
        if max(pixels.shape) > LARGEST_CROP_SIDE_PX:
            return self.outline_maps(pixels)[0]
        height, width = pixels.shape
        total = np.zeros((height, width), np.float32)
        for scale, mirror in CROP_VIEWS:
            small = resize(pixels, width=max(1, round(scale * width)), height=max(1, round(scale * height)))
            outline = self.outline_maps(np.ascontiguousarray(small[mirror]))[0][mirror]
            total += resize(np.ascontiguousarray(outline), width=width, height=height)
        return total / np.float32(len(CROP_VIEWS))

    def malignancy(self, pixels: np.ndarray, *, mask: np.ndarray) -> float:
        """Return the probability in [0, 1] that the finding `mask` (bool (H, W)) in `pixels` is malignant.

        Raises ValueError for an empty mask or one of another shape.
        """
        check_grey(pixels)
        if mask.shape != pixels.shape or not mask.any():
            raise ValueError(f"Expected a non-empty mask of shape {pixels.shape}. Received: shape={mask.shape}")
        crop, crop_mask = _crop_of_finding(pixels, mask.astype(bool))
        logit = pooled_logit(self.outline_maps(stretch(crop))[1], mask=crop_mask)
        log_area = math.log(max(1.0, float(crop_mask.sum())))
        weights = self._malignancy
        total = weights["intercept"] + weights["logit"] * logit + weights["log_area"] * log_area
        return 1.0 / (1.0 + math.exp(-min(60.0, max(-60.0, total))))

    def outline_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the outline network gives for uint8 (h, w) as it stands, already brought to scale and stretched.

        The outline's probabilities float32 (h, w), and the malignancy logits (h/8, w/8) of the picture padded to 16s.
        """
        height, width = pixels.shape
        outputs = self._outline(to_input(pad_to_stride(pixels))[np.newaxis])
        return np.ascontiguousarray(outputs["outline"][0, :height, :width, 0]), outputs["malignancy"][0, :, :, 0]


def pooled_logit(malignancy: np.ndarray, *, mask: np.ndarray) -> float:
    """Return the mean of a malignancy map (h/8, w/8) over a mask (h, w), weighted by each cell's share of the mask."""
    share = pad_to_stride(mask.astype(np.float32))
    stride = share.shape[0] // malignancy.shape[0]
    cells = share.reshape(malignancy.shape[0], stride, malignancy.shape[1], stride).mean(axis=(1, 3))
    return float((malignancy * cells).sum() / max(float(cells.sum()), 1e-9))


def _crop_of_finding(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the surroundings of a finding at the scale of the crops that malignancy was taught on, and its mask."""
    height, width = pixels.shape
    if is_crop(pixels):
        return pixels, mask
    body = body_box(pixels)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    # A finding larger than the usual surroundings is still shown whole, with some margin, at a coarser scale.
    side = min(max(FINDING_CROP_BODY_SHARE * max(body.width, body.height), 1.5 * extent, 16.0), height, width)
    left = int(min(max(0.0, (columns[0] + columns[-1] + 1 - side) / 2), width - side))
    top = int(min(max(0.0, (rows[0] + rows[-1] + 1 - side) / 2), height - side))
    box = Box(left=left, top=top, right=left + int(side), bottom=top + int(side))
    target = FINDING_CROP_SIDE_PX
    crop = resize(np.ascontiguousarray(box.cut(pixels)), width=target, height=target)
    cover = resize(np.ascontiguousarray(box.cut(mask)).astype(np.uint8) * 255, width=target, height=target)
    # A tiny finding may vanish in the resampling; its own brightest cell then stands for it.
    return crop, cover >= min(128, int(cover.max()))


def model_directory() -> Path:
    """Return the folder named by IRA_MODEL_DIR, or that of the starter model."""
    named = os.environ.get("IRA_MODEL_DIR")
    return Path(named) if named else STARTER_DIRECTORY


def read_card(directory: Path) -> dict[str, Any]:
    """Return the parsed model.json of a model folder. Raises ModelFileError."""
    path = directory / CARD_NAME
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"The model card {path} is missing or damaged. Restore the folder or point IRA_MODEL_DIR at another model."
        ) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFileError(
            f"The model card {path} has a format that this version cannot read. Export the model again."
        )
    return card


def read_checked(directory: Path, *, card: Mapping[str, Any], name: str) -> bytes:
    """Return the content of a model file once its SHA-256 is what the card says. Raises ModelFileError."""
    try:
        entry = card["files"][name]
        file_name, expected = str(entry["path"]), str(entry["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"The model card in {directory} names no {name} file. Export the model again.") from error
    if Path(file_name).name != file_name:
        raise ModelFileError(
            f"The model card in {directory} names a {name} file outside its folder. It was not loaded."
        )
    try:
        content = (directory / file_name).read_bytes()
    except OSError as error:
        raise ModelFileError(f"The model file {directory / file_name} is missing. Restore the model folder.") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise ModelFileError(
            f"The model file {directory / file_name} is not the one its card describes (SHA-256 differs), so it "
            "was not loaded. Restore the model folder or export the model again."
        )
    return content


_cache: dict[tuple[int, Path, str], Model] = {}
_cache_lock = threading.Lock()


def load_model(directory: Path | None = None) -> Model:
    """Return the model of a folder (by default `model_directory()`), loaded once a process. Raises ModelFileError.

    The cache is keyed by process, so a child forked after loading loads its own interpreters.
    """
    folder = (directory or model_directory()).resolve()
    card = read_card(folder)
    hashes = json.dumps(card.get("files"), sort_keys=True)
    key = (os.getpid(), folder, hashes)
    with _cache_lock:
        if key not in _cache:
            _cache[key] = _load(folder, card=card)
        return _cache[key]


def keep_models(folders: Collection[Path]) -> None:
    """Let go of every loaded model that lies in none of these folders; who still uses one keeps it until done."""
    kept = {folder.resolve() for folder in folders}
    with _cache_lock:
        for key in [key for key in _cache if key[0] != os.getpid() or key[1] not in kept]:
            del _cache[key]


def forget_models(folder: Path) -> None:
    """Let go of what was loaded from a folder."""
    with _cache_lock:
        for key in [key for key in _cache if key[1] == folder.resolve()]:
            del _cache[key]


def loaded_folders() -> tuple[Path, ...]:
    """Return the folders of the models that this process holds in memory."""
    with _cache_lock:
        return tuple(folder for process, folder, _hashes in _cache if process == os.getpid())


def _load(folder: Path, *, card: Mapping[str, Any]) -> Model:
    threads = int(os.environ.get("IRA_MODEL_THREADS", "2"))
    contents = {name: read_checked(folder, card=card, name=name) for name in ("classifier", "outline")}
    try:
        networks = {name: Network(content, threads=threads) for name, content in contents.items()}
        return Model(card=card, classifier=networks["classifier"], outline=networks["outline"])
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelFileError(f"The model in {folder} cannot be loaded: {error}. Export the model again.") from error

"""A model small enough to calculate by hand, and slices to give it."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ml.phantom import NoduleSpec, Phantom, PhantomSpec, make_phantom
from ml.runtime import Thresholds

CLASSES = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")


class HandMadeModel:
    """Stands for the loaded model where only the composition around it is tested: what is very bright is a tumour."""

    version = "hand-made-1"
    classes = CLASSES
    card = {"figures": {}}

    def __init__(self, *, probabilities=(0.6, 0.1, 0.2, 0.1), malignancy=0.8, minimum_area_px=4):
        self.thresholds = Thresholds.of_card({"outline": 0.5, "minimum_area_px": minimum_area_px, "malignant": 0.5})
        self.probabilities = np.array(probabilities, np.float32)
        self.asked_masks = []
        self._malignancy = malignancy

    def classify(self, pixels):
        def activation_over(class_index, *, height, width):
            heat = np.full((height, width), -1.0, np.float32)
            heat[: height // 2] = 2.0 if class_index == 0 else 0.0
            return heat

        return SimpleNamespace(
            probabilities=self.probabilities,
            activation_over=activation_over,
            embedding=np.array([pixels.mean(), pixels.std()], np.float32),
        )

    def outline(self, pixels, *, scale="auto"):
        return (pixels >= 250).astype(np.float32)

    def malignancy(self, pixels, *, mask):
        assert mask.any()
        self.asked_masks.append(mask)
        return self._malignancy


@pytest.fixture
def hand_made_model() -> HandMadeModel:
    return HandMadeModel()


@pytest.fixture
def make_hand_made_model() -> type[HandMadeModel]:
    return HandMadeModel


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    spec = PhantomSpec(size=256, level=0.5, window="wide", nodules=(NoduleSpec(28, "solid", "inner", "left"),))
    return make_phantom(77, spec=spec)


@pytest.fixture(scope="session")
def phantom_png(phantom) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(phantom.pixels).save(stream, format="PNG")
    return stream.getvalue()

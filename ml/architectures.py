"""The networks: Keras' VGG16 as trunk, a linear slice classifier and a U-Net outline decoder on it.

Trained with a batch normalisation after every convolution (`is_normalised=True`), shipped without: `fold_normalisation`
moves each normalisation into the weights of the convolution before it, and what is left is a plain VGG16 whose layer
names and shapes are those of `keras.applications.VGG16`.

Sources: Simonyan & Zisserman 2014 (VGG16); Ronneberger 2015 (U-Net); Zhou 2016 (class activation maps); Jacob 2017,
section 3.2 (folding of batch normalisation).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from ml.fetching import fetched

# Keras' symbolic tensors have no public type.
Tensor = Any

VGG16_BLOCKS: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DECODER_FILTERS: tuple[int, ...] = (256, 128, 64, 32)
# The coarse maps of the deepest convolution have 1/16 of the input's side; inputs are padded to a multiple of this.
STRIDE_PX = 16
MALIGNANCY_STRIDE_PX = 8
NORMALISATION_SUFFIX = "_bn"
# 0.9 instead of Keras' 0.99: our runs are hundreds of steps, not hundreds of thousands.
NORMALISATION_MOMENTUM = 0.9
# What keras.applications' "caffe" preprocessing subtracts from each of the B, G and R channels (0-255).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def _convolution(tensor: Tensor, *, filters: int, name: str, is_normalised: bool) -> Tensor:
    if not is_normalised:
        return layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(tensor)
    tensor = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(tensor)
    tensor = layers.BatchNormalization(momentum=NORMALISATION_MOMENTUM, name=name + NORMALISATION_SUFFIX)(tensor)
    return layers.Activation("relu", name=f"{name}_relu")(tensor)


def _trunk(tensor: Tensor, *, is_normalised: bool, width: float) -> list[Tensor]:
    """Return the output of the last convolution of each of the five blocks, finest first, before pooling."""
    ends = []
    for block, filters_of_block in enumerate(VGG16_BLOCKS, start=1):
        for position, filters in enumerate(filters_of_block, start=1):
            name = f"block{block}_conv{position}"
            tensor = _convolution(tensor, filters=scaled(filters, width=width), name=name, is_normalised=is_normalised)
        ends.append(tensor)
        if block < len(VGG16_BLOCKS):
            tensor = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(tensor)
    return ends


def scaled(filters: int, *, width: float) -> int:
    """Return how many filters a layer of `filters` has in a network `width` times as wide (tests use narrow ones)."""
    return max(4, round(filters * width))


def build_trunk(*, is_normalised: bool = False, width: float = 1.0, side: int | None = None) -> keras.Model:
    """Return VGG16 without its top, as `keras.applications.VGG16(include_top=False)` builds it.

    Input float32 (n, side, side, 3) as `ml.preprocessing.to_input` makes it; output (n, side/32, side/32, 512).
    """
    inputs = keras.Input((side, side, 3))
    ends = _trunk(inputs, is_normalised=is_normalised, width=width)
    outputs = layers.MaxPooling2D(2, strides=2, name="block5_pool")(ends[-1])
    return keras.Model(inputs, outputs, name="vgg16")


def build_classifier(
    *,
    class_count: int,
    is_normalised: bool = True,
    width: float = 1.0,
    side: int | None = None,
    dropout: float = 0.0,
    grid: int = 1,
    cell_px: int = 32,
    levels: Sequence[int] = (5,),
) -> keras.Model:
    """Return the slice classifier: trunk, averages of the last features of some blocks, one linear layer.

    `levels` names the blocks whose last convolution is read; the averages stand one behind the other. With `grid` 1
    they are global; with g > 1 there is one for each of g x g cells of `cell_px` pixels, so the linear layer also
    knows where something was seen; pictures then have a side of g * `cell_px`. Everything behind the read features is
    linear, so activation maps need no gradients. Outputs: `logits` (n, classes), `averages` (n, channels) or
    (n, g, g, channels), and of `features1` … `features5` those of `levels` and the last, each (n, h, w, filters).
    """
    inputs = keras.Input((side, side, 3))
    ends = _trunk(inputs, is_normalised=is_normalised, width=width)
    features = {f"features{level}": ends[level - 1] for level in sorted({*levels, len(VGG16_BLOCKS)})}
    if grid > 1:
        strides = [2 ** (level - 1) for level in levels]
        parts = [
            layers.AveragePooling2D(cell_px // stride, name=f"cells{level}")(ends[level - 1])
            for level, stride in zip(levels, strides, strict=True)
        ]
    else:
        parts = [layers.GlobalAveragePooling2D(name=f"average{level}")(ends[level - 1]) for level in levels]
    averages = layers.Concatenate(name="averages")(parts) if len(parts) > 1 else parts[0]
    pooled = layers.Dropout(dropout, seed=0, name="dropout")(averages) if dropout else averages
    if grid > 1:
        # At the side it was taught at this gives one position; larger pictures give several, which are averaged.
        logits = layers.GlobalAveragePooling2D()(layers.Conv2D(class_count, grid, name="logits")(pooled))
    else:
        logits = layers.Dense(class_count, name="logits")(pooled)
    return keras.Model(inputs, {"logits": logits, "averages": averages, **features}, name="classifier")


def build_outline(*, is_normalised: bool = True, width: float = 1.0, side: int | None = None) -> keras.Model:
    """Return the fully convolutional outline network with a malignancy map.

    Input sides must be multiples of `STRIDE_PX`. Outputs, all logits: `outline` (n, h, w, 1), `coarse` (n, h/4, w/4, 1;
    deep supervision, dropped at export) and `malignancy` (n, h/8, w/8, 1). The malignancy layer is linear, so its mean
    over a finding equals the linear layer applied to the mean of the features over that finding. The outputs are
    float32 under a mixed precision policy too.
    """
    inputs = keras.Input((side, side, 3))
    *skips, tensor = _trunk(inputs, is_normalised=is_normalised, width=width)
    malignancy = coarse = None
    for level, filters in zip((4, 3, 2, 1), DECODER_FILTERS, strict=True):
        tensor = layers.UpSampling2D(2, interpolation="nearest", name=f"decode{level}_up")(tensor)
        tensor = layers.Concatenate(name=f"decode{level}_join")([tensor, skips[level - 1]])
        for position in (1, 2):
            name = f"decode{level}_conv{position}"
            tensor = _convolution(tensor, filters=scaled(filters, width=width), name=name, is_normalised=is_normalised)
        if level == 4:
            malignancy = layers.Conv2D(1, 1, dtype="float32", name="malignancy")(tensor)
        if level == 3:
            coarse = layers.Conv2D(1, 1, dtype="float32", name="coarse")(tensor)
    # A tumour covers about one pixel in a hundred: starting there spares the first hundred steps.
    rare = keras.initializers.Constant(-3.0)
    outline = layers.Conv2D(1, 1, bias_initializer=rare, dtype="float32", name="outline")(tensor)
    return keras.Model(inputs, {"outline": outline, "coarse": coarse, "malignancy": malignancy}, name="outline")


def fold_normalisation(*, source: keras.Model, target: keras.Model) -> None:
    """Copy `source` (with normalisation) into `target` (same network built without), folding each normalisation.

    With kernel k, bias b and normalisation (gamma, beta, mean, variance), the folded layer has k * s and
    (b - mean) * s + beta, where s = gamma / sqrt(variance + epsilon).
    """
    normalisations = {layer.name: layer for layer in source.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in target.layers:
        if not layer.weights:
            continue
        kernel, bias = source.get_layer(layer.name).get_weights()
        normalisation = normalisations.get(layer.name + NORMALISATION_SUFFIX)
        if normalisation is not None:
            gamma, beta, mean, variance = normalisation.get_weights()
            scale = gamma / np.sqrt(variance + normalisation.epsilon)
            kernel, bias = kernel * scale, (bias - mean) * scale + beta
        layer.set_weights([kernel, bias])


def copy_trunk(*, source: keras.Model, target: keras.Model) -> int:
    """Copy every trunk layer (convolutions and their normalisations) by name; return how many layers were copied."""
    names = {layer.name for layer in source.layers}
    copied = 0
    for layer in target.layers:
        if layer.name.startswith("block") and layer.weights and layer.name in names:
            layer.set_weights(source.get_layer(layer.name).get_weights())
            copied += 1
    return copied


def load_imagenet_trunk(target: keras.Model, *, weights: str = "imagenet") -> None:
    """Load Keras' ImageNet weights (downloaded with Keras' hash check, or a path) into `target`'s trunk.

    Keras' VGG16 expects 255 * grey - mean(B, G, R); ours (grey - centre) / spread. The first convolution is
    rewritten so that both see the same numbers; normalisations are left at identity.
    """
    from ml.preprocessing import INPUT_CENTRE, INPUT_SPREAD

    build = partial(keras.applications.VGG16, include_top=False, weights=weights, input_shape=(None, None, 3))
    reference = fetched(build, what="The ImageNet weights of VGG16") if weights == "imagenet" else build()
    copy_trunk(source=reference, target=target)
    first = target.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    offset = 255.0 * INPUT_CENTRE - np.asarray(IMAGENET_MEAN_BGR, dtype=np.float32)
    bias = bias + np.einsum("hwcf,c->f", kernel, offset)
    first.set_weights([kernel * (255.0 * INPUT_SPREAD), bias])

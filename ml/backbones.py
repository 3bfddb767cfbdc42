"""Other trunks for the slice class than VGG16: ResNet50, DenseNet121, and an ensemble by averaged probabilities.

Layer names and shapes are those of `keras.applications`, so its ImageNet weights load; `width` makes them narrow for
tests. Behind the last features stands what `build_classifier` puts there, a global average and one linear layer: class
activation maps are exactly Grad-CAM. Imports TensorFlow; only training code imports this module.

Sources: He et al. 2015 (ResNet); Huang et al. 2016 (DenseNet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from ml.architectures import IMAGENET_MEAN_BGR, scaled
from ml.errors import TrainingDataError
from ml.export import RepeatPixels, deployable_classifier
from ml.fetching import fetched
from ml.preprocessing import INPUT_CENTRE, INPUT_SPREAD

# Keras' symbolic tensors have no public type.
Tensor = Any

VGG16, ENSEMBLE = "vgg16", "ensemble"
EPSILON = 1.001e-5
RESNET50_STACKS: tuple[tuple[int, int], ...] = ((64, 3), (128, 4), (256, 6), (512, 3))
DENSENET121_BLOCKS: tuple[int, ...] = (6, 12, 24, 16)
GROWTH = 32
# What keras.applications' "torch" preprocessing subtracts from and divides each of the R, G and B channels (0-1) by.
TORCH_MEAN_RGB = (0.485, 0.456, 0.406)
TORCH_SPREAD_RGB = (0.229, 0.224, 0.225)
# VGG16's last convolution has 1/16 of the input's side, the others' last features 1/32.
VGG16_STRIDE_PX = 16
STRIDE_PX = 32
# Below this a mean probability counts as nothing: the logarithm of nothing has no number.
SMALLEST_SHARE = 1e-9


@dataclass(frozen=True)
class Backbone:
    """A trunk: how it is built, what of it is frozen block by block, and where its ImageNet weights come from.

    `build(pixels, width=…)` returns the last features; `scale` and `offset` turn our network input into what the
    ImageNet weights were taught on, channel by channel.
    """

    build: Callable[..., Tensor]
    reference: Callable[..., keras.Model]
    blocks: tuple[tuple[str, ...], ...]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]


def _normalised(tensor: Tensor, *, name: str) -> Tensor:
    return layers.BatchNormalization(epsilon=EPSILON, name=name)(tensor)


def _relu(tensor: Tensor, *, name: str) -> Tensor:
    return layers.Activation("relu", name=name)(tensor)


def _bottleneck(tensor: Tensor, *, filters: int, stride: int, is_first: bool, name: str) -> Tensor:
    shortcut = tensor
    if is_first:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(tensor)
        shortcut = _normalised(shortcut, name=f"{name}_0_bn")
    tensor = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(tensor)
    tensor = _relu(_normalised(tensor, name=f"{name}_1_bn"), name=f"{name}_1_relu")
    tensor = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(tensor)
    tensor = _relu(_normalised(tensor, name=f"{name}_2_bn"), name=f"{name}_2_relu")
    tensor = _normalised(layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(tensor), name=f"{name}_3_bn")
    return _relu(layers.Add(name=f"{name}_add")([shortcut, tensor]), name=f"{name}_out")


def _stem(tensor: Tensor, *, width: float, has_bias: bool, pool: str) -> Tensor:
    tensor = layers.ZeroPadding2D(3, name="conv1_pad")(tensor)
    tensor = layers.Conv2D(scaled(64, width=width), 7, strides=2, use_bias=has_bias, name="conv1_conv")(tensor)
    tensor = _relu(_normalised(tensor, name="conv1_bn"), name="conv1_relu")
    tensor = layers.ZeroPadding2D(1, name=f"{pool}_pad")(tensor)
    return layers.MaxPooling2D(3, strides=2, name="pool1_pool" if has_bias else pool)(tensor)


def _resnet50(tensor: Tensor, *, width: float) -> Tensor:
    tensor = _stem(tensor, width=width, has_bias=True, pool="pool1")
    for stack, (filters, count) in enumerate(RESNET50_STACKS, start=2):
        for block in range(1, count + 1):
            is_first = block == 1
            tensor = _bottleneck(
                tensor,
                filters=scaled(filters, width=width),
                stride=2 if is_first and stack > 2 else 1,
                is_first=is_first,
                name=f"conv{stack}_block{block}",
            )
    return tensor


def _densenet121(tensor: Tensor, *, width: float) -> Tensor:
    growth = scaled(GROWTH, width=width)
    tensor = _stem(tensor, width=width, has_bias=False, pool="pool1")
    for stack, count in enumerate(DENSENET121_BLOCKS, start=2):
        for block in range(1, count + 1):
            name = f"conv{stack}_block{block}"
            new = _relu(_normalised(tensor, name=f"{name}_0_bn"), name=f"{name}_0_relu")
            new = layers.Conv2D(4 * growth, 1, use_bias=False, name=f"{name}_1_conv")(new)
            new = _relu(_normalised(new, name=f"{name}_1_bn"), name=f"{name}_1_relu")
            new = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(new)
            tensor = layers.Concatenate(name=f"{name}_concat")([tensor, new])
        if stack < len(DENSENET121_BLOCKS) + 1:
            name = f"pool{stack}"
            tensor = _relu(_normalised(tensor, name=f"{name}_bn"), name=f"{name}_relu")
            tensor = layers.Conv2D(tensor.shape[-1] // 2, 1, use_bias=False, name=f"{name}_conv")(tensor)
            tensor = layers.AveragePooling2D(2, strides=2, name=f"{name}_pool")(tensor)
    return _relu(_normalised(tensor, name="bn"), name="relu")


BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(
        build=_resnet50,
        reference=keras.applications.ResNet50,
        blocks=(("conv1_",), ("conv2_",), ("conv3_",), ("conv4_",), ("conv5_",)),
        scale=(255.0 * INPUT_SPREAD,) * 3,
        offset=tuple(255.0 * INPUT_CENTRE - mean for mean in IMAGENET_MEAN_BGR),  # type: ignore[arg-type]
    ),
    "densenet121": Backbone(
        build=_densenet121,
        reference=keras.applications.DenseNet121,
        blocks=(("conv1_",), ("conv2_", "pool2_"), ("conv3_", "pool3_"), ("conv4_", "pool4_"), ("conv5_", "bn")),
        scale=tuple(INPUT_SPREAD / spread for spread in TORCH_SPREAD_RGB),  # type: ignore[arg-type]
        offset=tuple(  # type: ignore[arg-type]
            (INPUT_CENTRE - mean) / spread for mean, spread in zip(TORCH_MEAN_RGB, TORCH_SPREAD_RGB, strict=True)
        ),
    ),
}
# In `params.yaml`, `classifier.backbone` is one of these, or `ensemble` of several.
NAMES: tuple[str, ...] = (VGG16, *BACKBONES)


def build_backbone_classifier(
    name: str, *, class_count: int, width: float = 1.0, side: int | None = None, dropout: float = 0.0
) -> keras.Model:
    """Return a slice classifier on a backbone; inputs and outputs are those of `ml.architectures.build_classifier`.

    `features` have 1/32 of the input's side.
    """
    backbone = BACKBONES[name]
    inputs = keras.Input((side, side, 3))
    shown = layers.Rescaling(list(backbone.scale), offset=list(backbone.offset), name="as_on_imagenet")(inputs)
    features = backbone.build(shown, width=width)
    averages = layers.GlobalAveragePooling2D(name="averages")(features)
    pooled = layers.Dropout(dropout, seed=0, name="dropout")(averages) if dropout else averages
    logits = layers.Dense(class_count, name="logits")(pooled)
    return keras.Model(inputs, {"logits": logits, "averages": averages, "features": features}, name=name)


def load_backbone(model: keras.Model, *, weights: str) -> None:
    """Load a trunk into a classifier of `build_backbone_classifier`: `none`, `imagenet`, or a path of Keras weights.

    `imagenet` downloads with Keras' hash check. A path is a weights file of ours, or of keras.applications' network
    without its top. Raises TrainingDataError for a file that fits neither.
    """
    if weights == "none":
        return
    if weights != "imagenet":
        try:
            model.load_weights(weights)
            return
        except (OSError, ValueError):
            # Not one of ours; it may still be Keras' own.
            pass
    build = partial(BACKBONES[model.name].reference, include_top=False, weights=weights, input_shape=(None, None, 3))
    try:
        reference = fetched(build, what=f"The ImageNet weights of {model.name}") if weights == "imagenet" else build()
    except (OSError, ValueError) as error:
        raise TrainingDataError(
            f"The weights {weights} do not fit {model.name}: {error}. Name others under classifier.trunk."
        ) from error
    for layer in reference.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())


def frozen_prefixes(model: keras.Model, *, count: int) -> tuple[str, ...]:
    """Return how the names of the layers of a classifier's first `count` blocks begin."""
    if model.name in BACKBONES:
        return tuple(prefix for block in BACKBONES[model.name].blocks[:count] for prefix in block)
    return tuple(f"block{block}_" for block in range(1, count + 1))


def deployable(
    model: keras.Model, *, width: float = 1.0, grid: int = 1, cell_px: int = 32, levels: Sequence[int] = (5,)
) -> keras.Model:
    """Return any trained classifier with outputs `logits`, `activation_maps` and `embedding`, ready for `to_litert`.

    The converter folds the normalisations that follow a convolution; an ensemble is ready as it is.
    """
    if model.name == ENSEMBLE:
        return model
    if model.name not in BACKBONES:
        return deployable_classifier(model, width=width, grid=grid, cell_px=cell_px, levels=levels)
    features, logits = model.output["features"], model.output["logits"]
    kernel, _ = model.get_layer("logits").get_weights()
    maps_layer = layers.Conv2D(logits.shape[-1], 1, use_bias=False, activation="relu", name="maps")
    maps = maps_layer(features)
    maps_layer.set_weights([kernel[np.newaxis, np.newaxis]])
    embedding = layers.GlobalAveragePooling2D()(features)
    outputs = {"logits": logits, "activation_maps": maps, "embedding": embedding}
    return keras.Model(model.input, outputs, name=model.name)


def build_ensemble(members: Sequence[keras.Model]) -> keras.Model:
    """Return one network of several deployable classifiers: the mean of their probabilities, as logits.

    `logits` are the logarithms of the mean probabilities, so that softmax gives them back; `activation_maps` is the
    mean of the members' maps at the finest of their resolutions, and `embedding` holds theirs one after the other.
    Input sides must be multiples of 32. Raises ValueError for no members.
    """
    if not members:
        raise ValueError("Expected at least one member. Received: members=()")
    inputs = keras.Input((None, None, 3))
    outputs = [member(inputs) for member in members]
    shares = [layers.Softmax()(output["logits"]) for output in outputs]
    strides = [STRIDE_PX if member.name in BACKBONES else VGG16_STRIDE_PX for member in members]
    maps = [
        RepeatPixels()(output["activation_maps"]) if stride > min(strides) else output["activation_maps"]
        for output, stride in zip(outputs, strides, strict=True)
    ]
    joint = {
        "logits": keras.ops.log(keras.ops.maximum(_mean(shares), SMALLEST_SHARE)),
        "activation_maps": _mean(maps),
        "embedding": _joined([output["embedding"] for output in outputs]),
    }
    return keras.Model(inputs, joint, name=ENSEMBLE)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return layers.Average()(list(tensors)) if len(tensors) > 1 else tensors[0]


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return layers.Concatenate()(list(tensors)) if len(tensors) > 1 else tensors[0]

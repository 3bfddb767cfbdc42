"""Synthetic chest-CT slices with exact tumour masks, deterministic by seed.

The phantom is drawn in millimetres and in Hounsfield units (HU) from signed distances to simple solids (body, chest
wall, lungs, mediastinum, bones) and from a three-dimensional tree of vessels and bronchi that the slice plane cuts.
One seed is one patient: the same seed at another ``level`` is another slice of the same chest. It feeds the
fixtures, the demo, the tests and the outline training; what is made for people passes through
:func:`label_synthetic` first.

Image convention as in radiology: the patient's right side lies on the left of the picture, the front at the top.
Typical HU after Hounsfield's scale: air -1000, lung -850, fat -100, water 0, muscle 50, marrow 200, cortical bone 900.
"""

from ml.phantom.nodules import MALIGNANT_SHARE, NODULE_KINDS, PLACES, Nodule, NoduleKind, NoduleSpec, Place
from ml.phantom.slices import Phantom, PhantomSpec, label_synthetic, make_phantom, make_series
from ml.windows import WINDOWS, Window

__all__ = [
    "MALIGNANT_SHARE",
    "NODULE_KINDS",
    "PLACES",
    "WINDOWS",
    "Nodule",
    "NoduleKind",
    "NoduleSpec",
    "Phantom",
    "PhantomSpec",
    "Place",
    "Window",
    "label_synthetic",
    "make_phantom",
    "make_series",
]

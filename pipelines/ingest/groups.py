"""Which pictures show the same slice, and which probably the same patient, for a set that does not say.

Candidates are each picture's nearest by perceptual hash of the body (Zauner 2010); a candidate counts by how many SIFT
keypoints (Lowe 2004), each the other's nearest, one shift, turn and zoom explains (RANSAC): 80 make the same slice, 15
the same patient, whose neighbouring slices share vessels and bones. Groups are the connected components. Training
machines only (OpenCV).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ml.errors import MissingDependencyError
from ml.images import read_slice
from ml.preprocessing import classifier_slice
from pipelines.ingest.pictures import PICTURE_LIMITS, Group, Picture
from pipelines.ingest.progress import Progress, silent

SAME_SLICE_INLIERS = 80
SAME_PATIENT_INLIERS = 15
CANDIDATES = 20
# Changes whenever a picture's keypoints or a pair's inliers would: what is cached under another name is not read.
METHOD = "sift-500-mutual-similarity-8px-2"
CACHE_NAME = "matches.json"
HASH_SIDE_PX = 64
HASH_FREQUENCIES = 16
BODY_SIDE_PX = 128
KEYPOINTS = 500
NEAREST_RATIO = 0.75
LARGEST_ERROR_PX = 8.0
# Two pairs always fit a shift, turn and zoom: fewer than this are not worth trying.
FEWEST_MATCHES = 8
ROWS_AT_ONCE = 512
HASH_LETTERS = 24

Pair = tuple[int, int]


@dataclass(frozen=True)
class Keypoints:
    """Places float32 (n, 2) in pixels and SIFT descriptors uint8 (n, 128) of one picture."""

    places: np.ndarray
    descriptors: np.ndarray


def given_groups(path: Path, *, pictures: Sequence[Picture]) -> dict[str, Group] | None:
    """Return the groups that a `groups.csv` gives, by path; None unless it speaks of every picture as it now is."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = {row["path"]: row for row in csv.DictReader(file)}
        groups = {
            name: Group(same_slice_id=row["same_slice_id"], patient_group_id=row["patient_group_id"])
            for name, row in rows.items()
        }
        is_current = all(rows[one.path].get("sha1") in (None, "", one.sha1) for one in pictures)
        is_complete = all(groups[one.path].same_slice_id and groups[one.path].patient_group_id for one in pictures)
    except (OSError, KeyError, ValueError, csv.Error):
        return None
    return groups if is_current and is_complete else None


def infer_groups(
    pictures: Sequence[Picture],
    *,
    data: Path,
    cache: Path,
    progress: Progress = silent,
) -> dict[str, Group]:
    """Return the groups of `pictures` (files below `data`), by path; `cache` keeps what was compared before.

    Raises MissingDependencyError without OpenCV.
    """
    unique = list({one.pixels_sha256: one for one in pictures}.values())
    if not unique:
        return {}
    inliers = _inliers_of(unique, data=data, cache=cache, progress=progress)
    slices = components(len(unique), pairs=[pair for pair, count in inliers.items() if count >= SAME_SLICE_INLIERS])
    patients = components(len(unique), pairs=[pair for pair, count in inliers.items() if count >= SAME_PATIENT_INLIERS])
    group_of = {
        one.pixels_sha256: Group(same_slice_id=str(slice_), patient_group_id=str(patient))
        for one, slice_, patient in zip(unique, slices, patients, strict=True)
    }
    return {one.path: group_of[one.pixels_sha256] for one in pictures}


def write_groups(pictures: Sequence[Picture], *, path: Path) -> None:
    """Write `groups.csv` as `ml.data.read_chest_ctscan` reads it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "split", "class", "sha1", "width", "height", "same_slice_id", "patient_group_id"))
        writer.writerows(
            (
                one.path,
                one.split,
                one.class_name,
                one.sha1,
                one.width,
                one.height,
                one.same_slice_id,
                one.patient_group_id,
            )
            for one in pictures
        )


def components(count: int, *, pairs: Sequence[Pair]) -> list[int]:
    """Return for each of `count` things the number of its connected component, from 1 in order of appearance."""
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers) + 1) for label in labels]


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Return the signs int8 (255,) of the lowest frequencies of a slice's body uint8 (H, W) about their median."""
    cv2 = _opencv()
    body = classifier_slice(pixels, side=BODY_SIDE_PX)[0]
    small = cv2.resize(body, (HASH_SIDE_PX, HASH_SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(small)[:HASH_FREQUENCIES, :HASH_FREQUENCIES].ravel()[1:]
    return np.where(lowest > np.median(lowest), 1, -1).astype(np.int8)


def candidate_pairs(hashes: np.ndarray, *, nearest: int = CANDIDATES) -> list[Pair]:
    """Return the pairs (i < j) in which one is among the `nearest` of the other, by hashes int8 (n, bits)."""
    count = len(hashes)
    wanted = min(nearest, count - 1)
    signs = hashes.astype(np.float32)
    pairs: set[Pair] = set()
    for start in range(0, count, ROWS_AT_ONCE):
        likeness = signs[start : start + ROWS_AT_ONCE] @ signs.T
        for row, values in enumerate(likeness, start=start):
            values[row] = -np.inf
            # A stable order: equal likeness must not depend on the number of threads.
            for column in np.argsort(-values, kind="stable")[:wanted].tolist():
                pairs.add((min(row, column), max(row, column)))
    return sorted(pairs)


def keypoints_of(pixels: np.ndarray) -> Keypoints:
    """Return at most 500 SIFT keypoints of a slice uint8 (H, W), the strongest first."""
    found, descriptors = _opencv().SIFT_create(nfeatures=KEYPOINTS).detectAndCompute(pixels, None)
    if descriptors is None:
        return Keypoints(places=np.zeros((0, 2), np.float32), descriptors=np.zeros((0, 128), np.uint8))
    places = np.array([one.pt for one in found], np.float32)
    # OpenCV's descriptors are whole numbers up to 255; as bytes a thousand pictures take 64 MB instead of 256.
    return Keypoints(places=places, descriptors=descriptors.astype(np.uint8))


def count_inliers(one: Keypoints, other: Keypoints) -> int:
    """Return how many keypoints of two pictures one shift, turn and zoom brings together.

    A homography, which may also squeeze a picture into a line, finds up to 19 by chance; so do matches of many to one.
    """
    if min(len(one.places), len(other.places)) < FEWEST_MATCHES:
        return 0
    first, second = (points.descriptors.astype(np.float32) for points in (one, other))
    squares = (first**2).sum(axis=1)[:, np.newaxis] + (second**2).sum(axis=1) - 2 * first @ second.T
    nearest = squares.argmin(axis=1)
    rows = np.arange(len(first))
    closest = squares[rows, nearest]
    is_mutual = squares.argmin(axis=0)[nearest] == rows
    squares[rows, nearest] = np.inf
    chosen = np.flatnonzero(is_mutual & (closest < NEAREST_RATIO**2 * squares.min(axis=1)))
    if len(chosen) < FEWEST_MATCHES:
        return 0
    cv2 = _opencv()
    _, mask = cv2.estimateAffinePartial2D(
        one.places[chosen],
        other.places[nearest[chosen]],
        method=cv2.RANSAC,
        ransacReprojThreshold=LARGEST_ERROR_PX,
    )
    return 0 if mask is None else int(mask.sum())


def _inliers_of(pictures: Sequence[Picture], *, data: Path, cache: Path, progress: Progress) -> dict[Pair, int]:
    """Return the inliers of every candidate pair; only pairs that the cache does not know are compared."""
    # Our threads take a picture or a pair each; OpenCV's own would only get in their way.
    _opencv().setNumThreads(1)

    def hash_of(place: int) -> np.ndarray:
        return perceptual_hash(pixels_of(place))

    def found_in(place: int) -> Keypoints:
        return keypoints_of(pixels_of(place))

    def pixels_of(place: int) -> np.ndarray:
        return read_slice(data / pictures[place].path, limits=PICTURE_LIMITS).pixels

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="groups") as pool:

        def each(name: str, work: Callable, *, over: Sequence) -> list:
            results = []
            for result in pool.map(work, over):
                results.append(result)
                progress(name, len(results), len(over))
            return results

        pairs = candidate_pairs(np.stack(each("looking for likely pairs", hash_of, over=range(len(pictures)))))
        names = {pair: _name_of(pictures[pair[0]], pictures[pair[1]]) for pair in pairs}
        known = read_cache(cache)
        missing = [pair for pair in pairs if names[pair] not in known]
        needed = sorted({place for pair in missing for place in pair})
        keypoints = dict(zip(needed, each("finding keypoints", found_in, over=needed), strict=True))
        counts = each("comparing pairs", lambda pair: count_inliers(*(keypoints[one] for one in pair)), over=missing)
    if missing:
        known |= {names[pair]: count for pair, count in zip(missing, counts, strict=True)}
        write_cache(cache, inliers=known)
    return {pair: known[names[pair]] for pair in pairs}


def _name_of(one: Picture, other: Picture) -> str:
    return "-".join(sorted(picture.pixels_sha256[:HASH_LETTERS] for picture in (one, other)))


def read_cache(folder: Path) -> dict[str, int]:
    """Return what was compared before; nothing where the cache is missing, damaged or of another method."""
    try:
        record = json.loads((folder / CACHE_NAME).read_text(encoding="utf-8"))
        if record["method"] != METHOD:
            return {}
        return {str(name): int(count) for name, count in record["inliers"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_cache(folder: Path, *, inliers: Mapping[str, int]) -> None:
    """Write the cache, by rename."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{CACHE_NAME}.partial-{os.getpid()}"
    partial.write_text(json.dumps({"method": METHOD, "inliers": dict(inliers)}), encoding="utf-8")
    partial.replace(folder / CACHE_NAME)


@dataclass(frozen=True)
class Agreement:
    """How far one grouping agrees with another: adjusted Rand index, and of pairs in one group precision and recall."""

    adjusted_rand_index: float
    pair_precision: float
    pair_recall: float


def agreement(found: Sequence[str], *, truth: Sequence[str]) -> Agreement:
    """Compare two groupings of the same things, in the same order (Hubert and Arabie 1985)."""
    if len(found) != len(truth):
        raise ValueError(f"Expected groupings of the same things. Received: {len(found)} and {len(truth)}")
    together = _pairs_in(list(zip(found, truth, strict=True)))
    in_found, in_truth = _pairs_in(found), _pairs_in(truth)
    expected = in_found * in_truth / max(1, len(found) * (len(found) - 1) // 2)
    largest = (in_found + in_truth) / 2
    return Agreement(
        adjusted_rand_index=1.0 if largest == expected else (together - expected) / (largest - expected),
        pair_precision=together / in_found if in_found else 1.0,
        pair_recall=together / in_truth if in_truth else 1.0,
    )


def _pairs_in(labels: Sequence[Any]) -> int:
    """Return how many pairs of things carry the same label."""
    counts: dict[Any, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return sum(count * (count - 1) // 2 for count in counts.values())


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The set says not which pictures belong together, and finding out needs the package "
            "opencv-python-headless. Install requirements/ml.txt, or put a groups.csv beside the pictures."
        ) from error
    return cv2

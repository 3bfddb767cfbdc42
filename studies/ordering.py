"""The order of slices: as they lie in the body where the files say so, else as their names count."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ml.dicom import DicomFacts

File = TypeVar("File")
NaturalKey = list[tuple[int, str]]


def natural_key(name: str) -> NaturalKey:
    """Return what sorts names as people do: ``slice2`` before ``slice10``, whatever the case."""
    parts: NaturalKey = []
    digits = ""
    for character in f"{name.lower()}\x00":
        if character.isascii() and character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((int(digits[:18]), ""))
            digits = ""
        parts.append((-1, character))
    return parts


def in_slice_order(
    files: Iterable[File], *, name: Callable[[File], str], origin: Callable[[File], "DicomFacts | None"]
) -> list[File]:
    """Return the files of one study in the order of their slices.

    DICOM files come series by series; within a series from the head to the feet where every file tells its place
    along the normal, else by instance number where every file has one. Everything else follows by name.
    """
    series: dict[tuple[int, str], list[tuple[File, DicomFacts]]] = {}
    others: list[File] = []
    for file in files:
        facts = origin(file)
        if facts is None:
            others.append(file)
        else:
            number = facts.series_number if facts.series_number is not None else 2**31
            series.setdefault((number, facts.series_uid), []).append((file, facts))
    ordered: list[File] = []
    for _, members in sorted(series.items()):
        has_places = all(facts.position_mm is not None for _, facts in members)
        has_numbers = all(facts.instance_number is not None for _, facts in members)

        def place(
            member: "tuple[File, DicomFacts]", has_places: bool = has_places, has_numbers: bool = has_numbers
        ) -> tuple[float, int, NaturalKey]:
            file, facts = member
            return (
                -(facts.position_mm or 0.0) if has_places else 0.0,
                (facts.instance_number or 0) if has_numbers else 0,
                natural_key(name(file)),
            )

        ordered += [file for file, _ in sorted(members, key=place)]
    return ordered + sorted(others, key=lambda file: natural_key(name(file)))

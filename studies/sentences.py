"""Sentences that exist in English only until somebody reads them: those of ``ml``, and those that a worker stored.

A worker does not know who will read, and ``ml`` knows no languages. Both write English with the values filled in;
whoever shows such a sentence finds here in which words the reader's language says it.
"""

import re
from functools import cache

from django.conf import settings
from django.utils.translation import get_language, gettext, gettext_noop

# What is stored may be several sentences on one line.
_END_OF_SENTENCE = re.compile(r"(?<=[.?]) ")
_PLACEHOLDER = re.compile(r"%\((\w+)\)([sd])")

# Between the things that are wrong with one line of a manifest.
AND = gettext_noop(", and ")

# What ml/images.py and ml/dicom.py refuse files with; tests/studies/test_sentences.py holds the two together.
OF_FILES = (
    gettext_noop(
        "The file is larger than the %(megabytes)d MB that are accepted. Please export the slice as an 8-bit PNG or "
        "JPEG and upload that."
    ),
    gettext_noop("The file is empty. Please export the slice again and upload the new file."),
    gettext_noop("The file cannot be opened. Please check that it exists and that you may read it."),
    gettext_noop("There is no such file. Please check the path and try again."),
    gettext_noop("This is a folder, not a file. Please name the slices in it one by one."),
    gettext_noop(
        "This is %(kind)s, which cannot be read as a CT slice. Please upload the slice as PNG, JPEG or DICOM."
    ),
    gettext_noop(
        "This file is not a picture of a kind that can be read. Please upload the slice as PNG, JPEG or DICOM."
    ),
    gettext_noop("The picture has no pixels. Please export the slice again and upload the new file."),
    gettext_noop(
        "The picture has %(width)d x %(height)d pixels, which is more than is accepted (%(side)d a side, "
        "%(millions)d million in all). Please export the slice at its own resolution, usually 512 x 512."
    ),
    gettext_noop(
        "The picture has only %(width)d x %(height)d pixels; at least %(side)d on each side are needed. Please export "
        "the slice at its own resolution, usually 512 x 512."
    ),
    gettext_noop(
        "The picture is %(width)d x %(height)d pixels, a strip and not a CT slice. Please upload one whole slice."
    ),
    gettext_noop("The PNG file is damaged or cut short. Please export the slice again and upload the new file."),
    gettext_noop("The JPEG file is damaged or cut short. Please export the slice again and upload the new file."),
    gettext_noop("The file holds several pictures (an animation or a burst). Please upload one slice a file."),
    gettext_noop(
        "The picture has far more pixels than any CT slice. Please export the slice at its own resolution, usually "
        "512 x 512."
    ),
    gettext_noop(
        "This looks like a colour photograph; a CT slice is grey. Please upload the slice itself as your viewer "
        "exports it, not a photograph of a screen or a coloured rendering."
    ),
    gettext_noop("The picture holds values that are no numbers. Please export the slice again."),
    gettext_noop(
        "The picture is one even grey and shows no slice. Please check the export and its window, and upload it again."
    ),
    gettext_noop("The DICOM file is damaged or cut short. Please export the slice again and upload the new file."),
    gettext_noop(
        "The DICOM file is compressed in a way that is not unpacked here (%(name)s). Please export it uncompressed "
        "(explicit VR little endian), or as PNG."
    ),
    gettext_noop(
        "The DICOM file says neither what it is nor how large; it is damaged or cut short. Please export the slice "
        "again and upload the new file."
    ),
    gettext_noop(
        "This DICOM file is a secondary capture (a screenshot, a scanned page), not a CT slice. Please upload an axial "
        "slice of a chest CT."
    ),
    gettext_noop(
        "This DICOM file is not a CT picture (its modality is %(kind)s). Please upload an axial slice of a chest CT."
    ),
    gettext_noop(
        "This DICOM file holds no picture (a report, a plan, an index). Please upload an axial slice of a chest CT."
    ),
    gettext_noop(
        "This DICOM file holds many slices in one file. Please export it as one file a slice and upload the slice you "
        "mean."
    ),
    gettext_noop(
        "This DICOM file is of a kind (SOP class) that is no CT slice. Please upload an axial slice of a chest CT."
    ),
    gettext_noop(
        "This DICOM file is a colour picture, such as a rendering or a screen capture. Please upload the CT slice "
        "itself."
    ),
    gettext_noop(
        "This DICOM file is the planning view (localizer), not a slice. Please upload an axial slice of the chest."
    ),
    gettext_noop(
        "This DICOM picture is derived from others (a reformatting, a projection, a dose page), not taken by the "
        "scanner. Please upload the original axial slices."
    ),
    gettext_noop(
        "The DICOM file does not say how the slice lies in the body, so it cannot be told whether it is axial. Please "
        "export the original slice with its orientation, or as PNG if you know that it is axial."
    ),
    gettext_noop(
        "This DICOM slice is not axial (it is coronal, sagittal or oblique). Please upload an axial slice of the chest."
    ),
)
# What stands for ``kind`` in the sentences above.
KINDS = (
    gettext_noop("a PDF document"),
    gettext_noop("a GIF picture"),
    gettext_noop("a BMP picture"),
    gettext_noop("a TIFF picture"),
    gettext_noop("a ZIP archive or an office document"),
    gettext_noop("a GZIP archive"),
    gettext_noop("an SVG drawing"),
    gettext_noop("an XML document"),
    gettext_noop("a web page"),
    gettext_noop("a JPEG 2000 picture"),
    gettext_noop("a program"),
    gettext_noop("a WebP picture"),
    gettext_noop("a HEIC picture or a film"),
    gettext_noop("not given"),
)


def in_the_readers_language(sentence: str) -> str:
    """Return what was written in English in the language of whoever reads now; unknown sentences stay as they are.

    ``sentence`` may be several, one after the other.
    """
    if not sentence or get_language() in (None, settings.LANGUAGE_CODE):
        return sentence
    parts = _END_OF_SENTENCE.split(sentence)
    said: list[str] = []
    while parts:
        # The longest run of sentences that is known: most are known in twos, "It is damaged. Please …".
        for length in range(len(parts), 0, -1):
            english = " ".join(parts[:length])
            known = _translated(english)
            if known is not None or length == 1:
                said.append(english if known is None else known)
                parts = parts[length:]
                break
    return " ".join(said)


def _translated(english: str) -> str | None:
    """Return one sentence, or several that belong together, in the active language; None where it is not known."""
    if (known := gettext(english)) != english:
        return known
    for template, pattern in _patterns():
        if found := pattern.fullmatch(english):
            values = {
                name: int(value) if numeral else _value(value)
                for (name, value), numeral in zip(
                    found.groupdict().items(), (kind == "d" for _, kind in _PLACEHOLDER.findall(template)), strict=True
                )
            }
            return gettext(template) % values
    return None


def _value(text: str) -> str:
    """Translate what stands for a placeholder: a kind of file, or what is wrong with a line of a manifest."""
    return gettext(AND).join(gettext(part) for part in text.split(AND))


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every sentence with placeholders, and what its English words look like once they are filled in."""
    # These rooms need this module themselves, to refuse files.
    from studies.imports import archives, manifest, sorting, steps

    everything = (*OF_FILES, *archives.SENTENCES, *manifest.SENTENCES, *sorting.SENTENCES, *steps.SENTENCES)
    return tuple((template, _pattern(template)) for template in everything if _PLACEHOLDER.search(template))


def _pattern(template: str) -> re.Pattern[str]:
    pieces = _PLACEHOLDER.split(template)
    expression = re.escape(pieces[0])
    for name, kind, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        expression += f"(?P<{name}>{r'-?[0-9]+' if kind == 'd' else '.+'}){re.escape(text)}"
    return re.compile(expression)

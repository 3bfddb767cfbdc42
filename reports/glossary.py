"""The words of reports and what they mean, in plain language; some with a drawing (``templates/reports/diagrams``)."""

import re
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One word: ``slug`` is its place on the page, ``pattern`` finds it in a folded text (``casefold``).

    A report keeps the language in which it was written, so a pattern holds the words of all languages of the portal.
    """

    slug: str
    pattern: str
    word: Any
    meaning: Any
    diagram: str = ""

    @property
    def template(self) -> str:
        """The template of the drawing, empty where there is none."""
        return f"reports/diagrams/{self.diagram}.html" if self.diagram else ""


ENTRIES: Final = (
    Entry(
        slug="ct",
        pattern=r"\bct\b",
        word=_("CT"),
        meaning=_("A scanner that takes X-ray pictures from all sides and computes cross-sections of the body."),
    ),
    Entry(
        slug="axial",
        pattern=r"\baxial|\bslice|\bschicht",
        word=_("axial slice"),
        meaning=_(
            "A cross-section through the body, seen from the feet. So the right side of the body is on the left."
        ),
        diagram="slice",
    ),
    Entry(
        slug="lobe",
        pattern=r"\blobe|\blobar|lappen\b|lappens\b",
        word=_("lobe"),
        meaning=_("One of the five parts of the lungs: three on the right, two on the left."),
        diagram="lobes",
    ),
    Entry(
        slug="nodule",
        pattern=r"\bnodul|rundherd|\bknötchen",
        word=_("nodule"),
        meaning=_("A small round spot. Most nodules in the lung are harmless."),
        diagram="sizes",
    ),
    Entry(
        slug="mass",
        pattern=r"\bmass(es)?\b|\braumforderung",
        word=_("mass"),
        meaning=_("A spot of more than 3 cm. It says how large something is, not what it is."),
        diagram="sizes",
    ),
    Entry(
        slug="spiculated",
        pattern=r"\bspicul|\bspikul",
        word=_("spiculated"),
        meaning=_("With fine lines like rays around it. Doctors look closely at such spots; scars can look the same."),
        diagram="edges",
    ),
    Entry(
        slug="lesion",
        pattern=r"\blesion|\bläsion",
        word=_("lesion"),
        meaning=_("Any place that looks different from healthy tissue; it does not say why."),
    ),
    Entry(
        slug="region", pattern=r"\bregion", word=_("region"), meaning=_("A place that the computer drew a line around.")
    ),
    Entry(
        slug="malignant",
        pattern=r"\bmalignan|\bmalign|\bbösartig",
        word=_("malignant"),
        meaning=_("Cancerous: able to grow into its surroundings or to spread."),
    ),
    Entry(slug="benign", pattern=r"\bbenign|\bgutartig", word=_("benign"), meaning=_("Not cancerous.")),
    Entry(
        slug="adenocarcinoma",
        pattern=r"\badenocarcinoma|\badenokarzinom",
        word=_("adenocarcinoma"),
        meaning=_("The most frequent kind of lung cancer; it starts in cells that make mucus."),
        diagram="origins",
    ),
    Entry(
        slug="squamous",
        pattern=r"\bsquamous|\bplattenepithel",
        word=_("squamous cell carcinoma"),
        meaning=_("A kind of lung cancer that starts in the lining of the airways."),
        diagram="origins",
    ),
    Entry(
        slug="large-cell",
        pattern=r"\blarge cell|\bgrosszellig",
        word=_("large cell carcinoma"),
        meaning=_("A rarer kind of lung cancer, named after how its cells look under the microscope."),
        diagram="origins",
    ),
    Entry(
        slug="histology",
        pattern=r"\bhistolog|\bpatholog",
        word=_("histology"),
        meaning=_("Looking at a tissue sample under the microscope; this settles what something is."),
    ),
    Entry(
        slug="biopsy",
        pattern=r"\bbiops|\btissue sample|\bgewebeprobe",
        word=_("biopsy"),
        meaning=_("Taking a small sample of tissue, mostly with a needle."),
        diagram="biopsy",
    ),
    Entry(
        slug="metastasis",
        pattern=r"\bmetasta",
        word=_("metastasis"),
        meaning=_("A place to which a cancer has spread."),
    ),
    Entry(
        slug="effusion",
        pattern=r"\beffusion|erguss",
        word=_("effusion"),
        meaning=_("Fluid where there should be none, for example around the lung."),
        diagram="effusion",
    ),
    Entry(
        slug="clinical-correlation",
        pattern=r"\bclinical correlation|\bklinische korrelation|\bklinischer korrelation",
        word=_("clinical correlation"),
        meaning=_("Comparing the picture with your complaints and other tests."),
    ),
    Entry(
        slug="follow-up",
        pattern=r"\bfollow-up|\bfollow up|\bverlaufskontroll|\bkontrolle\b",
        word=_("follow-up"),
        meaning=_("Looking again after some time to see whether something has changed."),
    ),
)


def entries_in(text: str) -> tuple[Entry, ...]:
    """Return the entries whose word stands in a text, in the glossary's order."""
    folded = text.casefold()
    return tuple(entry for entry in ENTRIES if re.search(entry.pattern, folded))


def drawn_entries() -> tuple[tuple[str, tuple[Entry, ...]], ...]:
    """Return each drawing's template with the words that it shows, in the order of their first word."""
    drawings: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        if entry.template:
            drawings.setdefault(entry.template, []).append(entry)
    return tuple((template, tuple(shown)) for template, shown in drawings.items())

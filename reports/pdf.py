"""The PDF of a report: made by xhtml2pdf from the frozen content and the pictures it names, and from nothing else."""

import base64
import functools
import hashlib
import io
import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from PIL import Image as PillowImage

from reports.content import AddendumContent, ReportContent, SlicePart
from reports.drawing import outlined_picture
from reports.errors import PdfError
from studies.models import Image

# FiraGO draws Latin with every accent, Greek, Cyrillic, Georgian, Hebrew, Arabic, Thai and Devanagari; ReportLab's own
# fonts stop at Latin-1. It comes as a package (pymupdf-fonts), so no font file lies in this repository.
FONTS = {"font:regular": "figo", "font:bold": "figbo"}
# At the 72 mm a picture gets on paper this is 340 dots an inch; a larger one would only make the file heavy.
PICTURE_SIDE_PX = 960
# A study of hundreds of slices still gives a letter that people print: those with most concern are pictured.
MAX_PICTURED_SLICES = 12
CREATION_DATE = b"(D:20000101000000+00'00')"

# A text of the allowed length takes about a second on an idle machine; this is for a busy one.
MAX_RENDER_S = 60
# A "word" of more letters than a line holds would run off the paper.
LONGEST_WORD = re.compile(r"(\S{50})(?=\S)")

logger = logging.getLogger(__name__)
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The two pictures of one slice as PNG bytes: as taken, and with the outlines drawn."""

    plain: bytes
    outlined: bytes


def pictured_slices(content: ReportContent) -> tuple[SlicePart, ...]:
    """Return the slices whose pictures are printed, in order: all analysed ones, or those of most concern."""
    by_concern = sorted(
        (slice_ for slice_ in content.slices if slice_.is_pictured),
        key=lambda slice_: (
            not slice_.findings,
            -(slice_.analysis.malignant_probability if slice_.analysis else 0),
            slice_.number,
        ),
    )
    return tuple(sorted(by_concern[:MAX_PICTURED_SLICES], key=lambda slice_: slice_.number))


def read_pictures(content: ReportContent) -> dict[int, Pictures]:
    """Read the pictures of the printed slices from the private store, by slice number.

    Raises ``PdfError`` if one is missing or is not the picture that the content names.
    """
    slices = pictured_slices(content)
    images = {str(key): image for key, image in Image.objects.in_bulk([one.image_id for one in slices]).items()}
    pictures = {}
    for slice_ in slices:
        try:
            with images[slice_.image_id].file.open("rb") as file:
                plain = file.read()
            outlined = outlined_picture(slice_)
        except (LookupError, OSError, ValueError) as error:
            raise PdfError(
                _("The picture of slice %(number)d cannot be read, so nothing was signed. Please analyse it again.")
                % {"number": slice_.number}
            ) from error
        is_as_stored = hashlib.sha256(plain).hexdigest() == slice_.sha256
        if slice_.analysis is not None and not slice_.is_redrawn:
            is_as_stored &= hashlib.sha256(outlined).hexdigest() == slice_.analysis.overlay_sha256
        if not is_as_stored:
            raise PdfError(
                _("The picture of slice %(number)d has changed since it was stored. Please tell your administrator.")
                % {"number": slice_.number}
            )
        pictures[slice_.number] = Pictures(plain=plain, outlined=outlined)
    return pictures


def render_pdf(content: ReportContent, *, pictures: Mapping[int, Pictures]) -> bytes:
    """Return the PDF (A4) of a signed content. The same content and pictures give the same bytes.

    The renderer gets its fonts and these pictures under keys of ours; any other address, of the network or of a file,
    is refused. Raises ``PdfError`` if the PDF cannot be made.
    """
    if content.signature is None:
        raise ValueError("Only a signed content is printed. Received: signature=None.")
    sources = picture_sources(pictures)
    html = render_to_string(
        "reports/pdf.html",
        {
            "content": content,
            "clinical_question": _lines(content.study.clinical_question),
            "findings": _lines(content.findings_text) or ["\u2013"],
            "impression": _lines(content.impression),
            "amendment_reason": _lines(content.amendment.reason) if content.amendment else [],
            "pictured": [slice_ for slice_ in pictured_slices(content) if slice_.number in pictures],
            "is_shortened": sum(slice_.is_pictured for slice_ in content.slices) > len(pictures),
        },
    )
    return print_page(html, sources=sources, dated=content.signature.at, name=content.report_id)


def render_addendum(content: AddendumContent) -> bytes:
    """Return the page (A4) of a signed addendum. Raises ``PdfError`` if it cannot be made."""
    html = render_to_string("reports/addendum_pdf.html", {"content": content, "text": _lines(content.text)})
    return print_page(html, sources={}, dated=content.signature.at, name=content.addendum_id)


def picture_sources(pictures: Mapping[int, Pictures]) -> dict[str, str]:
    """Return what the renderer may ask for under ``picture:<slice>:plain`` and ``:outlined``, as data."""
    sources: dict[str, str] = {}
    for number, pair in pictures.items():
        sources[f"picture:{number}:plain"] = _data_uri(_shrunk(pair.plain), kind="image/png")
        sources[f"picture:{number}:outlined"] = _data_uri(_shrunk(pair.outlined), kind="image/png")
    return sources


def print_page(html: str, *, sources: Mapping[str, str], dated: datetime, name: str) -> bytes:
    """Return the PDF of a page of ours, dated by what it says; ``sources`` is all that it may ask for.

    Raises ``PdfError`` if it cannot be made. ``name`` stands in the log for the text, which never does.
    """
    # Half a second of imports that only the one request in a thousand needs which signs a report.
    from reportlab import rl_config
    from reportlab.platypus.doctemplate import LayoutError
    from xhtml2pdf import pisa
    from xhtml2pdf.config.resources import RenderLimitError, ResourceAccessPolicy

    known = {key: _data_uri(_font(font), kind="font/ttf") for key, font in FONTS.items()} | dict(sources)

    def resolve(uri: str, _relative_to: str | None) -> str:
        if uri not in known:
            raise PdfError(_("The report asks for a picture that is not its own, so no PDF was made."))
        return known[uri]

    target = io.BytesIO()
    failure = PdfError(
        _("The PDF could not be made, so nothing was signed. Please shorten the text, or tell your administrator.")
    )
    # The renderer's warnings quote the text that it prints, and logs carry no text of a report.
    logging.getLogger("xhtml2pdf").setLevel(logging.CRITICAL)
    with _lock:
        # Otherwise ReportLab writes the time of day and a random identifier into the file, and pictures as text.
        rl_config.invariant, rl_config.useA85 = 1, 0
        try:
            status = pisa.CreatePDF(
                html,
                dest=target,
                encoding="utf-8",
                link_callback=resolve,
                resource_policy=ResourceAccessPolicy.server(None, allow_remote=False, max_render_seconds=MAX_RENDER_S),
            )
        except (LayoutError, RenderLimitError) as error:
            # Neither the message nor the chain is passed on: both quote the text.
            logger.error("The PDF of report %s was given up: %s.", name, type(error).__name__)
            raise failure from None
    pdf = target.getvalue()
    if status.err or not pdf.startswith(b"%PDF-"):
        logger.error("The PDF of report %s failed with %d errors.", name, status.err)
        raise failure
    # Of equal length, so that the file's table of offsets stays right.
    return pdf.replace(CREATION_DATE, dated.astimezone(UTC).strftime("(D:%Y%m%d%H%M%S+00'00')").encode())


def unprintable_characters(text: str) -> str:
    """Return the characters of ``text`` that the PDF's font cannot draw, each once and in order of appearance."""
    known = _known_characters()
    return "".join(dict.fromkeys(c for c in text if ord(c) not in known and not c.isspace()))


def _lines(text: str) -> list[str]:
    """Split a text into the lines it is printed as, an empty one for each gap between paragraphs.

    Each becomes a paragraph of its own: one paragraph of ten thousand forced line breaks takes the renderer minutes.
    """
    lines = [LONGEST_WORD.sub(r"\1 ", line.strip()) for line in text.strip().splitlines()]
    return [line for line, previous in zip(lines, ["", *lines], strict=False) if line or previous]


@functools.cache
def _font(name: str) -> bytes:
    import pymupdf_fonts

    return bytes(pymupdf_fonts.myfont(name))


@functools.cache
def _known_characters() -> frozenset[int]:
    from reportlab.pdfbase.ttfonts import TTFontFace

    known = [set(TTFontFace(io.BytesIO(_font(name))).charToGlyph) for name in FONTS.values()]
    return frozenset(set.intersection(*known))


def _data_uri(content: bytes, *, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _shrunk(png: bytes) -> bytes:
    with PillowImage.open(io.BytesIO(png), formats=["PNG"]) as picture:
        picture.load()
        if max(picture.size) > PICTURE_SIDE_PX:
            picture.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX), PillowImage.Resampling.LANCZOS)
        # Without alpha: ReportLab would store it as a second picture.
        flat = picture.convert("L" if picture.mode in ("1", "L", "LA", "I;16") else "RGB")
        target = io.BytesIO()
        flat.save(target, format="PNG", compress_level=1)
    return target.getvalue()

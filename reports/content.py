"""The content of a report: everything that its page and its PDF say, in one value that can be frozen and hashed.

``collect_content`` reads it from the database; a signature freezes it as JSON. From then on page, PDF and patient's
explanation are made from that JSON alone, so they stay as they were signed whatever happens to patient, study or model.
"""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from reports.comparison import Examination, compare
from studies.model_card import Figure, ModelPart, describe_model
from studies.models import Analysis, Image, ImageReview, Study
from studies.models.effective import EffectiveFinding, judged_findings

if TYPE_CHECKING:
    from reports.models import Report

# 1: one report a study. 2: versions and the comparison with earlier examinations. 3: outlines that doctors drew.
# All are read, the newest is written.
FORMAT = 3
READABLE_FORMATS = (1, 2, 3)
NOTICE = gettext_lazy("Decision support, not a diagnosis; not a medical device.")


@dataclass(frozen=True, kw_only=True)
class HospitalPart:
    """Whose letter it is."""

    name: str
    department: str
    address: str
    phone: str


@dataclass(frozen=True, kw_only=True)
class PatientPart:
    """Whom it is about, as known on the day of signing."""

    record_number: str
    given_name: str
    family_name: str
    birth_date: date

    @property
    def full_name(self) -> str:
        """Given and family name."""
        return f"{self.given_name} {self.family_name}".strip()


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """Which examination, and what was asked."""

    id: str
    accession_number: str
    study_date: date
    clinical_question: str
    is_synthetic: bool


@dataclass(frozen=True, kw_only=True)
class FindingPart:
    """One region as it stands; boxes and axes in pixels of the stored slice, millimetres where the spacing is known.

    ``malignancy`` in 0..1 is the software's estimate, None for a region that a doctor has added. ``verdict``,
    ``diagnosis_label``, ``suspicion_label`` and ``judged_by`` are the doctor's, empty where nobody has judged.
    ``outline_review_id`` and ``outline_sha256`` name the outline that a doctor drew, empty where the software's stands.
    """

    number: int
    box: tuple[int, int, int, int] | None
    area_px: int | None
    long_axis_px: float
    short_axis_px: float | None
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None
    malignancy: float | None
    is_added: bool = False
    verdict: str = ""
    verdict_label: str = ""
    diagnosis_label: str = ""
    suspicion_label: str = ""
    judged_by: str = ""
    outline_review_id: str = ""
    outline_sha256: str = ""

    @property
    def size_text(self) -> str:
        """Longest diameter and the perpendicular one, in millimetres where known, else in pixels and said so."""
        if self.long_axis_mm is not None and self.short_axis_mm is None:
            return _("%(long).1f mm") % {"long": self.long_axis_mm}
        if self.long_axis_mm is None and self.short_axis_px is None:
            return _("%(long).0f pixels") % {"long": self.long_axis_px}
        if self.long_axis_mm is not None and self.short_axis_mm is not None:
            return _("%(long).1f × %(short).1f mm") % {"long": self.long_axis_mm, "short": self.short_axis_mm}
        return _("%(long).0f × %(short).0f pixels") % {"long": self.long_axis_px, "short": self.short_axis_px}

    @property
    def area_text(self) -> str:
        """The area in square millimetres where known, else in pixels; a dash where only a diameter was measured."""
        if self.area_mm2 is not None:
            return _("%(area).0f mm²") % {"area": self.area_mm2}
        return _("%(area)d pixels") % {"area": self.area_px} if self.area_px is not None else "\u2013"

    @property
    def judgement(self) -> str:
        """What a doctor says of the region, in a few words; empty where nobody has judged it."""
        if not self.verdict:
            return ""
        words = _("%(verdict)s by %(name)s") % {"verdict": self.verdict_label, "name": self.judged_by}
        return ", ".join(filter(None, (words, self.diagnosis_label, self.suspicion_label)))


@dataclass(frozen=True, kw_only=True)
class AnalysisPart:
    """What one model version said about one slice; all probabilities in 0..1."""

    id: str
    model_version: str
    finished_at: datetime | None
    probabilities: dict[str, float]
    malignant_probability: float
    malignant_basis: str
    thresholds: dict[str, float]
    overlay_sha256: str
    findings: tuple[FindingPart, ...]
    rejected: tuple[FindingPart, ...] = ()

    @property
    def ranked_probabilities(self) -> list[tuple[str, float]]:
        """Class names, as people read them, with their probabilities; the most probable first."""
        ranked = sorted(self.probabilities.items(), key=lambda item: (-item[1], item[0]))
        return [(class_label(name), probability) for name, probability in ranked]


@dataclass(frozen=True, kw_only=True)
class SlicePart:
    """One slice of the study, with the newest answer about it or the reason why there is none.

    ``is_redrawn`` says that doctors changed what is outlined, so that the software's own picture is not the one to show
    (``reports.drawing``). In contents that were signed before it existed it is False: they keep the picture of then.
    """

    number: int
    image_id: str
    sha256: str
    width: int
    height: int
    pixel_spacing_mm: tuple[float, float] | None
    analysis: AnalysisPart | None
    note: str
    added: tuple[FindingPart, ...] = ()
    judged_class: str = ""
    class_judged_by: str = ""
    is_redrawn: bool = False

    @property
    def is_pictured(self) -> bool:
        """Whether there is a picture of it with lines, be they the software's or a doctor's."""
        return self.analysis is not None or self.is_redrawn

    @property
    def has_doctors_outline(self) -> bool:
        """Whether a doctor drew one of the regions that count."""
        return any(finding.outline_review_id for finding in self.findings)

    @property
    def findings(self) -> tuple[FindingPart, ...]:
        """The regions that count: the software's that no doctor has rejected, and those that doctors added."""
        return (self.analysis.findings if self.analysis is not None else ()) + self.added


@dataclass(frozen=True, kw_only=True)
class SignaturePart:
    """Who signed, and when; the time carries its own offset."""

    user_id: str
    name: str
    licence_number: str
    at: datetime
    time_zone: str

    @property
    def at_text(self) -> str:
        """Date and time as they stood on the signer's page, with the time zone."""
        offset = self.at.strftime("%z")
        zone = self.time_zone if self.time_zone == "UTC" else f"{self.time_zone}, UTC{offset[:3]}:{offset[3:5]}"
        return f"{date_format(self.at, 'j F Y, H:i')} ({zone})"


@dataclass(frozen=True, kw_only=True)
class AmendmentPart:
    """Which signed version this one replaces, and why."""

    reason: str
    replaces_report_id: str
    replaces_sha256: str
    replaces_signer: str
    replaces_signed_at_text: str


@dataclass(frozen=True, kw_only=True)
class AddendumContent:
    """Everything an addendum says. ``to_json`` and ``from_json`` are each other's inverse."""

    addendum_id: str
    number: int
    report_id: str
    report_sha256: str
    hospital_name: str
    patient: PatientPart
    study_date: date
    report_signed_at_text: str
    text: str
    signature: SignaturePart
    notice: str

    def to_json(self) -> dict[str, Any]:
        """Return the content as plain JSON values; times and dates in ISO 8601."""
        return {"format": FORMAT} | _plain(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AddendumContent":
        """Read a frozen content back. Raises ``ValueError`` for a format that this version does not know."""
        values = _known_format(value)
        return cls(
            **values
            | {
                "patient": _patient_from_json(values["patient"]),
                "study_date": date.fromisoformat(values["study_date"]),
                "signature": _signature_from_json(values["signature"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything a report says. ``to_json`` and ``from_json`` are each other's inverse, for the format last written."""

    report_id: str
    hospital: HospitalPart
    patient: PatientPart
    study: StudyPart
    slices: tuple[SlicePart, ...]
    models: tuple[ModelPart, ...]
    findings_text: str
    impression: str
    signature: SignaturePart | None
    notice: str
    version: int = 1
    amendment: AmendmentPart | None = None
    examinations: tuple[Examination, ...] = ()

    @property
    def analysed_slices(self) -> tuple[SlicePart, ...]:
        """The slices that have an answer."""
        return tuple(slice_ for slice_ in self.slices if slice_.analysis is not None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the models know, in the models' own order."""
        names = (
            name for slice_ in self.slices if slice_.analysis is not None for name in slice_.analysis.probabilities
        )
        return tuple(dict.fromkeys(names))

    @property
    def class_column_percent(self) -> int:
        """The width that the table of probabilities has for each class, in percent of the page."""
        return 72 // max(len(self.class_names), 1)

    @property
    def last_column_percent(self) -> int:
        """What the table's last column has left beside the number of the slice (10 %) and the classes."""
        return 90 - self.class_column_percent * len(self.class_names)

    @property
    def sha256(self) -> str:
        """The fingerprint that a signature records."""
        return content_sha256(self.to_json())

    @property
    def slices_to_look_at(self) -> tuple[SlicePart, ...]:
        """All slices, those with outlined regions first: nobody should have to search for what was found."""
        return tuple(sorted(self.slices, key=lambda part: (not part.findings, part.number)))

    @property
    def has_regions(self) -> bool:
        """Whether anything was outlined on any slice."""
        return any(slice_.findings for slice_ in self.slices)

    @property
    def slices_with_regions(self) -> tuple[SlicePart, ...]:
        """The slices on which a region counts or was rejected."""
        return tuple(part for part in self.slices if part.findings or (part.analysis and part.analysis.rejected))

    @property
    def evidence(self) -> str:
        """Name the figures that this content rests on, so that a signature is given to what was on the page."""
        analyses = [
            dataclasses.replace(slice_.analysis, overlay_sha256="") if slice_.analysis is not None else None
            for slice_ in self.slices
        ]
        return content_sha256(
            {
                "analyses": _plain(analyses),
                "added": _plain([part.added for part in self.slices]),
                "classes": [[part.judged_class, part.class_judged_by] for part in self.slices],
                "examinations": _plain(self.examinations),
            }
        )

    def slice_of(self, number: int) -> SlicePart | None:
        """Return the slice with this number, if there is one."""
        return next((slice_ for slice_ in self.slices if slice_.number == number), None)

    def to_json(self) -> dict[str, Any]:
        """Return the content as plain JSON values; times and dates in ISO 8601."""
        return {"format": FORMAT} | _plain(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ReportContent":
        """Read a frozen content back. Raises ``ValueError`` for a format that this version does not know."""
        values = _known_format(value)
        amendment = values.get("amendment")
        return cls(
            **values
            | {
                "hospital": HospitalPart(**values["hospital"]),
                "patient": _patient_from_json(values["patient"]),
                "study": StudyPart(
                    **values["study"] | {"study_date": date.fromisoformat(values["study"]["study_date"])}
                ),
                "slices": tuple(_slice_from_json(part) for part in values["slices"]),
                "models": tuple(
                    ModelPart(**part | {"figures": tuple(Figure(**figure) for figure in part["figures"])})
                    for part in values["models"]
                ),
                "signature": _signature_from_json(values["signature"]) if values["signature"] else None,
                "amendment": AmendmentPart(**amendment) if amendment else None,
                "examinations": tuple(Examination.from_json(part) for part in values.get("examinations", ())),
            }
        )


def content_sha256(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON (sorted keys, no white space, UTF-8) of a report's content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def class_label(name: str) -> str:
    """Return a class name as people read it."""
    labels = {
        "adenocarcinoma": _("adenocarcinoma"),
        "large_cell_carcinoma": _("large cell carcinoma"),
        "normal": _("normal"),
        "squamous_cell_carcinoma": _("squamous cell carcinoma"),
    }
    return labels.get(name, name.replace("_", " "))


def percent(probability: float) -> str:
    """Return a probability for people: never a bare 0 % or 100 %, which no model can mean."""
    if probability < 0.01:
        return _("below 1%")
    if probability > 0.99:
        return _("above 99%")
    return f"{round(probability * 100)}%"


def collect_content(report: "Report", *, reader: Any = None, signature: SignaturePart | None = None) -> ReportContent:
    """Read everything that the report says at this moment, from the newest successful analysis of each slice.

    The comparison takes in those earlier examinations that ``reader`` may see; without a reader there is none.
    """
    study = report.study
    patient = study.patient
    hospital = patient.hospital
    assert hospital is not None  # noqa: S101 - narrows the type: doctors report on studies of their hospital only
    slices = collect_slices(study, is_final=signature is not None)
    versions = sorted({slice_.analysis.model_version for slice_ in slices if slice_.analysis is not None})
    return ReportContent(
        report_id=str(report.id),
        hospital=HospitalPart(
            name=hospital.name, department=hospital.department, address=hospital.address, phone=hospital.phone
        ),
        patient=PatientPart(
            record_number=patient.record_number,
            given_name=patient.given_name,
            family_name=patient.family_name,
            birth_date=patient.birth_date,
        ),
        study=StudyPart(
            id=str(study.id),
            accession_number=study.accession_number,
            study_date=study.study_date,
            clinical_question=study.clinical_question,
            is_synthetic=study.is_synthetic,
        ),
        slices=slices,
        models=tuple(describe_model(version) for version in versions),
        findings_text=report.findings_text,
        impression=report.impression,
        signature=signature,
        notice=str(NOTICE),
        version=report.version,
        amendment=_amendment_part(report),
        examinations=compare(study, reader=reader),
    )


def collect_addendum(report: "Report", *, text: str, number: int, signature: SignaturePart) -> AddendumContent:
    """Put an addendum together: the text, and which report it belongs to, in that report's own frozen words."""
    content = report.content
    return AddendumContent(
        addendum_id=str(uuid.uuid4()),
        number=number,
        report_id=str(report.id),
        report_sha256=report.content_sha256,
        hospital_name=content.hospital.name,
        patient=content.patient,
        study_date=content.study.study_date,
        report_signed_at_text=content.signature.at_text if content.signature else "",
        text=text,
        signature=signature,
        notice=str(NOTICE),
    )


def _amendment_part(report: "Report") -> AmendmentPart | None:
    replaced = report.amends
    if replaced is None:
        return None
    signature = replaced.content.signature
    return AmendmentPart(
        reason=report.amendment_reason,
        replaces_report_id=str(replaced.id),
        replaces_sha256=replaced.content_sha256,
        replaces_signer=signature.name if signature else "",
        replaces_signed_at_text=signature.at_text if signature else "",
    )


def collect_slices(study: Study, *, is_final: bool = False) -> tuple[SlicePart, ...]:
    """Return the study's slices in order, each with its newest successful analysis or a sentence why there is none.

    Only a final content (one that is about to be signed) carries the hashes of the outline pictures, because for them
    every picture is read.
    """
    images = list(study.images.order_by("number"))
    newest: dict[Any, Analysis] = {}
    for analysis in Analysis.objects.filter(image__in=images, state=Analysis.State.SUCCEEDED).order_by(
        "queued_at", "id"
    ):
        newest[analysis.image_id] = analysis
    judged = judged_findings(images)
    latest = ImageReview.objects.latest_per_image().filter(image__in=images).select_related("by")
    classes = {review.image_id: review for review in latest}
    return tuple(
        _slice_part(
            image,
            newest.get(image.id),
            judged=judged[image.id],
            judged_class=classes.get(image.id),
            is_final=is_final,
        )
        for image in images
    )


def _slice_part(
    image: Image,
    analysis: Analysis | None,
    *,
    judged: tuple[EffectiveFinding, ...],
    judged_class: ImageReview | None,
    is_final: bool,
) -> SlicePart:
    return SlicePart(
        number=image.number,
        image_id=str(image.id),
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        pixel_spacing_mm=image.pixel_spacing_mm,
        analysis=_analysis_part(analysis, judged=judged, is_final=is_final) if analysis is not None else None,
        note="" if analysis is not None else _("This slice was not analysed by the software."),
        added=tuple(_finding_part(one) for one in judged if one.finding is None and not one.is_rejected),
        judged_class=judged_class.get_diagnosis_display() if judged_class is not None else "",
        class_judged_by=str(judged_class.by) if judged_class is not None else "",
        is_redrawn=any(one.is_rejected if one.finding is not None else False for one in judged)
        or any(one.outline_review_id for one in judged if not one.is_rejected),
    )


def _analysis_part(analysis: Analysis, *, judged: tuple[EffectiveFinding, ...], is_final: bool) -> AnalysisPart:
    models = [one for one in judged if one.finding is not None and one.finding.analysis_id == analysis.id]
    overlay_sha256 = ""
    if is_final:
        with analysis.overlay.open("rb") as file:
            overlay_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return AnalysisPart(
        id=str(analysis.id),
        model_version=analysis.model_version,
        finished_at=analysis.finished_at,
        probabilities=_rounded(analysis.probabilities),
        malignant_probability=round(analysis.malignant_probability or 0.0, 6),
        malignant_basis=analysis.malignant_basis,
        thresholds=_rounded(analysis.thresholds),
        overlay_sha256=overlay_sha256,
        findings=tuple(_finding_part(one) for one in models if not one.is_rejected),
        rejected=tuple(_finding_part(one) for one in models if one.is_rejected),
    )


def _finding_part(finding: EffectiveFinding) -> FindingPart:
    return FindingPart(
        number=finding.number,
        box=finding.box,
        area_px=finding.area_px,
        long_axis_px=round(finding.long_axis_px, 3),
        short_axis_px=_rounded_or_none(finding.short_axis_px),
        area_mm2=_rounded_or_none(finding.area_mm2),
        long_axis_mm=_rounded_or_none(finding.long_axis_mm),
        short_axis_mm=_rounded_or_none(finding.short_axis_mm),
        malignancy=None if finding.probability is None else round(finding.probability, 6),
        is_added=finding.finding is None,
        verdict=finding.verdict,
        verdict_label=str(finding.verdict_label),
        diagnosis_label=str(finding.diagnosis_label),
        suspicion_label=str(finding.malignancy_label),
        judged_by=str(finding.reviewed_by) if finding.reviewed_by else "",
        outline_review_id=str(finding.outline_review_id or ""),
        outline_sha256=finding.outline_sha256,
    )


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    # Six digits are more than anybody reads, and the same text comes back from every database's JSON column.
    return {str(name): round(float(value), 6) for name, value in values.items()}


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value


def _known_format(value: Mapping[str, Any]) -> dict[str, Any]:
    if value.get("format") not in READABLE_FORMATS:
        raise ValueError(f"Unknown format of a signed content. Received: format={value.get('format')!r}.")
    return {name: part for name, part in value.items() if name != "format"}


def _patient_from_json(value: dict[str, Any]) -> PatientPart:
    return PatientPart(**value | {"birth_date": date.fromisoformat(value["birth_date"])})


def _signature_from_json(value: dict[str, Any]) -> SignaturePart:
    return SignaturePart(**value | {"at": datetime.fromisoformat(value["at"])})


def _slice_from_json(value: dict[str, Any]) -> SlicePart:
    spacing = value["pixel_spacing_mm"]
    analysis = value["analysis"]
    added = tuple(_finding_from_json(part) for part in value.get("added", ()))
    return SlicePart(
        **value
        | {
            "pixel_spacing_mm": tuple(spacing) if spacing else None,
            "analysis": _analysis_from_json(analysis) if analysis else None,
            "added": added,
        }
    )


def _analysis_from_json(value: dict[str, Any]) -> AnalysisPart:
    return AnalysisPart(
        **value
        | {
            "finished_at": datetime.fromisoformat(value["finished_at"]) if value["finished_at"] else None,
            "findings": tuple(_finding_from_json(part) for part in value["findings"]),
            "rejected": tuple(_finding_from_json(part) for part in value.get("rejected", ())),
        }
    )


def _finding_from_json(value: dict[str, Any]) -> FindingPart:
    return FindingPart(**value | {"box": tuple(value["box"]) if value["box"] else None})

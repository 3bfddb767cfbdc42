"""The draft that the system writes: plain radiology prose made from what the analyses measured, and nothing else."""

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from reports.comparison import compare, comparison_sentence
from reports.content import (
    AnalysisPart,
    FindingPart,
    ModelPart,
    SlicePart,
    class_label,
    collect_slices,
    percent,
)
from reports.errors import (
    FirstImpressionMissingError,
    InvalidTransitionError,
    NothingToReportError,
    ReportExistsError,
    StaleDraftError,
)
from reports.models import BulkLine, Report, ReportTemplate
from reports.text import DraftText
from studies.model_card import describe_model
from studies.models import Study

# Below this distance between the two most probable classes the draft calls the model undecided: with the calibrated
# probabilities of four classes, such a lead changes with a little noise in the picture.
UNDECIDED_LEAD = 0.15


def draft_report(study: Study, *, by: User, template: ReportTemplate | None = None) -> Report:
    """Write and store the draft of the study's first report, in the words of a template where one is given.

    Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``ReportExistsError`` if there is a report already,
    ``FirstImpressionMissingError`` while the software's answer is hidden from ``by``, ``NothingToReportError`` while no
    analysis of the study has succeeded.
    """
    if not by.is_approved_doctor:
        raise PermissionDenied(_("Only an approved doctor can draft a report."))
    if not study.reveals_ai_to(by):
        # The draft tells what the software measured.
        raise FirstImpressionMissingError(
            _(
                "Please note your first impression of this study first. The draft of its report can be written after "
                "that."
            )
        )
    exists = ReportExistsError(_("This study has a report already. Please open it and go on there."))
    if Report.objects.filter(study=study).exists():
        raise exists
    slices = collect_slices(study)
    if not any(slice_.analysis is not None for slice_ in slices):
        raise NothingToReportError(
            _(
                "There is nothing to write a report from yet, because no analysis of this study has succeeded. "
                "Please wait until one is done, or start it again if it failed."
            )
        )
    if template is not None:
        text = template_text(template, study=study, by=by)
    else:
        written = [findings_prose(study, slices=slices), comparison_sentence(compare(study, reader=by))]
        text = DraftText(findings_text="\n\n".join(filter(None, written)), impression=impression_prose(slices))
    try:
        with transaction.atomic():
            return Report.objects.create(
                study=study, created_by=by, findings_text=text.findings_text, impression=text.impression
            )
    except IntegrityError as error:
        # Two doctors asked at the same moment: the database let one through.
        raise exists from error


def discard_draft(report: Report, *, by: User, revision: int) -> None:
    """Throw a draft away: of a first report, so that another can be written; of an amendment, so that nothing changes.

    Raises ``PermissionDenied`` unless ``by`` may work on the study, ``InvalidTransitionError`` if it is no draft any
    more, ``StaleDraftError`` if its text is not the one of ``revision``, which may be a colleague's new one.
    """
    if not report.can_be_changed_by(by):
        raise PermissionDenied(_("Only a doctor who may work on the study can discard a draft of its report."))
    with transaction.atomic():
        stored = Report.objects.select_for_update().filter(id=report.id, state=Report.State.DRAFT).first()
        if stored is None:
            raise InvalidTransitionError(_("Only a draft can be discarded. What is signed is amended instead."))
        if stored.revision != revision:
            raise StaleDraftError(stored.changed_by_sentence(reader=by))
        # A job that wrote the draft keeps its line, which then leads to the study.
        BulkLine.objects.filter(report=report).update(report=None)
        Report.objects.filter(id=report.id).delete()


def template_text(template: ReportTemplate, *, study: Study, by: User) -> DraftText:
    """Return a template's text for one study, with every placeholder replaced."""
    slices = collect_slices(study)
    comparison = comparison_sentence(compare(study, reader=by))
    is_analysed = any(slice_.analysis is not None for slice_ in slices)
    patient = study.patient
    return template.filled(
        {
            "patient": patient.full_name,
            "birth_date": date_format(patient.birth_date, "j F Y"),
            "record_number": patient.record_number,
            "study_date": date_format(study.study_date, "j F Y"),
            "clinical_question": study.clinical_question,
            "slices": str(len(slices)),
            "measurements": findings_prose(study, slices=slices),
            "summary": impression_prose(slices) if is_analysed else "",
            "comparison": comparison or _("No earlier examination to compare with."),
            "doctor": by.get_full_name(),
        }
    )


def findings_prose(study: Study, *, slices: tuple[SlicePart, ...]) -> str:
    """Describe slice by slice what was measured, then how sure the model is. One paragraph a slice."""
    technique = ngettext(
        "CT of the chest, %(count)d axial slice, read with computer assistance.",
        "CT of the chest, %(count)d axial slices, read with computer assistance.",
        len(slices),
    ) % {"count": len(slices)}
    if study.is_synthetic:
        technique += " " + _("The pictures are synthetic: computer-generated, not taken of a person.")
    paragraphs = [technique, *(_slice_prose(slice_) for slice_ in slices)]
    versions = sorted({slice_.analysis.model_version for slice_ in slices if slice_.analysis is not None})
    paragraphs += [_model_prose(describe_model(version)) for version in versions]
    return "\n\n".join(paragraphs)


def impression_prose(slices: tuple[SlicePart, ...]) -> str:
    """Sum up in numbered lines: regions, slice class, overall estimate, and what the figures are."""
    analysed = [(slice_, slice_.analysis) for slice_ in slices if slice_.analysis is not None]
    lines = [
        _regions_line(analysed, slices=slices),
        _class_line(analysed),
        _verdict_line(analysed),
        _("Measurements and percentages were computed by software and are decision support, not a diagnosis."),
    ]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _slice_prose(slice_: SlicePart) -> str:
    if slice_.analysis is None:
        sentence = _("Slice %(number)d: %(note)s") % {"number": slice_.number, "note": slice_.note}
        added = [_finding_sentence(finding, slice_=slice_) for finding in slice_.added]
        return " ".join([sentence, *added, *_judged_class(slice_)])
    if slice_.pixel_spacing_mm is None:
        spacing = _("no pixel spacing in the file, so sizes are given in pixels and not in millimetres")
    else:
        row_mm, column_mm = slice_.pixel_spacing_mm
        spacing = _("pixel spacing %(row).2f × %(column).2f mm") % {"row": row_mm, "column": column_mm}
    head = _("Slice %(number)d (%(width)d × %(height)d pixels, %(spacing)s).") % {
        "number": slice_.number,
        "width": slice_.width,
        "height": slice_.height,
        "spacing": spacing,
    }
    sentences = [head]
    findings = slice_.analysis.findings
    outlined = len(findings) + len(slice_.analysis.rejected)
    if outlined:
        sentences.append(
            ngettext("The software outlined %(count)d region.", "The software outlined %(count)d regions.", outlined)
            % {"count": outlined}
        )
        sentences += [_finding_sentence(finding, slice_=slice_) for finding in findings]
        sentences += [
            _("Region %(number)d was rejected by %(name)s.") % {"number": one.number, "name": one.judged_by}
            for one in slice_.analysis.rejected
        ]
    else:
        sentences.append(_("The software outlined no region. This does not exclude a lesion."))
    sentences += [_finding_sentence(finding, slice_=slice_) for finding in slice_.added]
    sentences.append(_class_sentence(slice_.analysis))
    sentences += _judged_class(slice_)
    return " ".join(sentences)


def _judged_class(slice_: SlicePart) -> list[str]:
    if not slice_.judged_class:
        return []
    values = {"name": slice_.class_judged_by, "label": slice_.judged_class}
    return [_("Class of the slice according to %(name)s: %(label)s.") % values]


def _finding_sentence(finding: FindingPart, *, slice_: SlicePart) -> str:
    if finding.short_axis_px is None or finding.area_px is None:
        size = _("longest diameter %(size)s") % {"size": finding.size_text}
    elif finding.long_axis_mm is not None and finding.area_mm2 is not None:
        size = _("longest diameter %(long).1f mm, perpendicular %(short).1f mm, area %(area).0f mm²") % {
            "long": finding.long_axis_mm,
            "short": finding.short_axis_mm or 0.0,
            "area": finding.area_mm2,
        }
    else:
        size = _("longest diameter %(long).0f pixels, perpendicular %(short).0f pixels, area %(area)d pixels") % {
            "long": finding.long_axis_px,
            "short": finding.short_axis_px,
            "area": finding.area_px,
        }
    parts = [size]
    if finding.malignancy is not None:
        parts.append(_("estimated malignancy %(malignancy)s") % {"malignancy": percent(finding.malignancy)})
    if finding.judgement:
        parts.append(finding.judgement)
    values = {"number": finding.number, "place": _place(finding, slice_=slice_), "rest": "; ".join(parts)}
    if finding.box is None:
        return _("Region %(number)d: %(rest)s.") % values
    return _("Region %(number)d, in the %(place)s of the picture: %(rest)s.") % values


def _place(finding: FindingPart, *, slice_: SlicePart) -> str:
    """Say where in the picture a region lies: the picture's sides, as a PNG does not tell the patient's."""
    x, y, width, height = finding.box or (0, 0, 0, 0)
    across = min(2, int(3 * (x + width / 2) / max(slice_.width, 1)))
    down = min(2, int(3 * (y + height / 2) / max(slice_.height, 1)))
    places = (
        (_("upper left part"), _("upper middle part"), _("upper right part")),
        (_("left part"), _("centre"), _("right part")),
        (_("lower left part"), _("lower middle part"), _("lower right part")),
    )
    return places[down][across]


def _class_sentence(analysis: AnalysisPart) -> str:
    ranked = analysis.ranked_probabilities
    if not ranked:
        return ""
    listing = ", ".join(f"{label} {percent(probability)}" for label, probability in ranked)
    if _is_undecided(analysis):
        return _(
            "Class probabilities: %(listing)s; the two most probable lie close together, so the model is undecided."
        ) % {"listing": listing}
    return _("Class probabilities: %(listing)s.") % {"listing": listing}


def _is_undecided(analysis: AnalysisPart) -> bool:
    ranked = analysis.ranked_probabilities
    return len(ranked) > 1 and ranked[0][1] - ranked[1][1] < UNDECIDED_LEAD


def _model_prose(model: ModelPart) -> str:
    sentences = [_("Software: %(name)s, version %(version)s.") % {"name": model.name, "version": model.version}]
    accuracy = model.accuracy
    if accuracy is not None:
        sentences.append(
            _("Its slice class was right with an accuracy of %(text)s when tested%(on)s.")
            % {"text": accuracy.text, "on": f" ({accuracy.on.rstrip('.')})" if accuracy.on else ""}
        )
    elif model.note:
        sentences.append(model.note)
    return " ".join(sentences)


def _regions_line(analysed: list[tuple[SlicePart, AnalysisPart]], *, slices: tuple[SlicePart, ...]) -> str:
    regions = [(finding, slice_) for slice_ in slices for finding in slice_.findings]
    if not regions and any(analysis.rejected for _slice, analysis in analysed):
        line = _("No region counts: what the software outlined was rejected by a doctor.")
    elif not regions:
        line = ngettext(
            "No region was outlined on the analysed slice; small or faint lesions can be missed.",
            "No region was outlined on the %(count)d analysed slices; small or faint lesions can be missed.",
            len(analysed),
        ) % {"count": len(analysed)}
    else:
        # Millimetres and pixels do not compare, so the region of most concern leads and not the largest.
        finding, slice_ = max(regions, key=lambda region: region[0].malignancy or 0.0)
        line = ngettext("%(count)d region outlined.", "%(count)d regions outlined.", len(regions)) % {
            "count": len(regions)
        }
        values = {"number": finding.number, "slice": slice_.number, "size": finding.size_text}
        if finding.malignancy is None:
            line += " " + _("Region %(number)d on slice %(slice)d, drawn by a doctor: %(size)s.") % values
        else:
            line += " " + _(
                "Of most concern: region %(number)d on slice %(slice)d, %(size)s, estimated malignancy %(malignancy)s."
            ) % (values | {"malignancy": percent(finding.malignancy)})
    missing = [str(slice_.number) for slice_ in slices if slice_.analysis is None]
    if missing:
        line += " " + _("Not analysed: slice %(numbers)s.") % {"numbers": ", ".join(missing)}
    return line


def _class_line(analysed: list[tuple[SlicePart, AnalysisPart]]) -> str:
    slice_, analysis = max(analysed, key=lambda pair: pair[1].malignant_probability)
    if not analysis.probabilities:
        return _("The software named no class for these slices.")
    name = max(analysis.probabilities, key=lambda key: (analysis.probabilities[key], key))
    top = percent(analysis.probabilities[name])
    if _is_undecided(analysis):
        (first, one), (second, two) = analysis.ranked_probabilities[:2]
        line = _("Class of slice %(slice)d undecided between %(first)s (%(one)s) and %(second)s (%(two)s).") % {
            "slice": slice_.number,
            "first": first,
            "one": percent(one),
            "second": second,
            "two": percent(two),
        }
    else:
        line = _("Most probable class of slice %(slice)d: %(label)s (%(top)s).") % {
            "slice": slice_.number,
            "label": class_label(name),
            "top": top,
        }
    if name == "normal" and not _is_undecided(analysis):
        return line
    return line + " " + _("Tumour types cannot be told apart reliably from CT alone; histology decides.")


def _verdict_line(analysed: list[tuple[SlicePart, AnalysisPart]]) -> str:
    slice_, analysis = max(analysed, key=lambda pair: pair[1].malignant_probability)
    threshold = analysis.thresholds.get("malignant")
    values = {"slice": slice_.number, "probability": percent(analysis.malignant_probability)}
    if threshold is None:
        line = _("Highest overall estimate of malignancy: %(probability)s (slice %(slice)d).") % values
    elif analysis.malignant_probability >= threshold:
        line = _(
            "Highest overall estimate of malignancy: %(probability)s (slice %(slice)d), above the decision threshold "
            "of %(threshold)s; clinical correlation and further work-up are advised."
        ) % (values | {"threshold": percent(threshold)})
    else:
        line = _(
            "Highest overall estimate of malignancy: %(probability)s (slice %(slice)d), below the decision threshold "
            "of %(threshold)s."
        ) % (values | {"threshold": percent(threshold)})
    return line

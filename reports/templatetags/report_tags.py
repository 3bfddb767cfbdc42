"""What templates need of reports; any template may load it, so that ``studies`` need not import ``reports``."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django import template

from accounts.models import User
from reports import content
from reports.forms import DraftForm
from reports.keeping import author_token
from reports.models import Opening, Report, ReportTemplate
from studies.earlier import count_earlier_judgements
from studies.models import Analysis, FindingReview, ImageReview, Study

register = template.Library()


@register.filter
def percent(probability: float) -> str:
    """Return a probability in 0..1 for people."""
    return content.percent(probability)


@register.filter
def class_label(name: str) -> str:
    """Return a class name as people read it."""
    return content.class_label(name)


@register.filter
def value_of(values: Mapping[str, Any], name: str) -> Any:
    """Return one value of a mapping; 0 where the model did not name it."""
    return values.get(name, 0.0)


@register.simple_tag
def report_of(study: Study) -> Report | None:
    """Return the newest version of the study's report, if there is one."""
    return Report.objects.newest_of(study)


@dataclass(frozen=True, kw_only=True)
class Editor:
    """What the editor of a draft shows besides the report."""

    form: DraftForm
    author_token: str
    others: list[str]
    templates: list[ReportTemplate]


@register.simple_tag(takes_context=True)
def editor_of(context: template.Context, report: Report | None, form: DraftForm | None = None) -> Editor | None:
    """Return the editor of a draft for whoever looks at the page; None if they may not change it, or nobody may."""
    request = context.get("request")
    if not report or request is None or not report.can_be_edited or not report.can_be_changed_by(request.user):
        return None
    if not report.study.reveals_ai_to(request.user):
        return None
    return Editor(
        form=form or DraftForm.of(report),
        author_token=author_token(report, author=request.user),
        others=Opening.objects.others_at(report, than=request.user),
        templates=list(ReportTemplate.objects.usable_by(request.user)),
    )


@register.simple_tag
def templates_for(user: User) -> list[ReportTemplate]:
    """Return the templates that a doctor may choose."""
    return list(ReportTemplate.objects.usable_by(user))


@register.simple_tag
def report_states(studies: Iterable[Study]) -> dict[uuid.UUID, Report]:
    """Return the newest report of each study that has one, by the study's identifier, in one query."""
    reports = Report.objects.filter(study__in=list(studies)).order_by("version")
    return {report.study_id: report for report in reports.only("study", "state", "version")}


@register.filter
def of_study(reports: Mapping[uuid.UUID, Report], study: Study) -> Report | None:
    """Return the report of one study out of ``report_states``."""
    return reports.get(study.pk)


@register.simple_tag
def has_answer(study: Study) -> bool:
    """Whether any analysis of the study has succeeded, so that there is something to report."""
    return Analysis.objects.filter(image__study=study, state=Analysis.State.SUCCEEDED).exists()


@register.simple_tag(takes_context=True)
def may_report(context: template.Context, study: Study) -> bool:
    """Whether whoever looks at the page may write the study's report."""
    request = context.get("request")
    return request is not None and study.can_be_changed_by(request.user)


@register.simple_tag(takes_context=True)
def is_ai_revealed(context: template.Context, study: Study) -> bool:
    """Whether whoever looks at the page may know what the software said, which a draft tells."""
    request = context.get("request")
    return request is not None and study.reveals_ai_to(request.user)


@register.simple_tag
def is_judged_since(report: Report) -> bool:
    """Whether a doctor has judged a finding or a slice after the draft's text was last stored."""
    stored_at = report.edited_at or report.created_at
    return any(
        rows.filter(image__study=report.study_id, at__gt=stored_at).exists()
        for rows in (FindingReview.objects, ImageReview.objects)
    )


@register.simple_tag
def count_judged_of_earlier_answers(report: Report) -> int:
    """Return how many judgements a draft leaves out because they were made of an earlier answer of the software."""
    return 0 if report.is_signed else count_earlier_judgements(report.study.images.all())


@register.filter
def unlocalized(value: float) -> str:
    """Return a number as attributes of HTML need it: with a point, whatever the language of the page."""
    return f"{value:.4f}"

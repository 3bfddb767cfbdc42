"""Reports: list, draft, text, signature, release, addendum, amendment, PDF and pictures."""

import copy
import hashlib
import re
import uuid
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase
from django.utils.http import parse_etags
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError, check, conflict, invalid
from accounts.api.views import DOCTOR, DOCTOR_OR_PATIENT, ApiView, as_form, json_of
from accounts.models import AccessEvent, Scope
from reports.api.serializers import (
    AddendumBody,
    AddendumSerializer,
    AmendBody,
    DraftBody,
    ReleaseSerializer,
    ReportSerializer,
    ReportSummarySerializer,
    ReportTextBody,
    SignBody,
    TemplateSerializer,
    ToBeSignedSerializer,
)
from reports.copies import copy_of
from reports.drafting import draft_report
from reports.errors import (
    FirstImpressionMissingError,
    InvalidTransitionError,
    NothingToReportError,
    PdfError,
    ReportExistsError,
    StaleDraftError,
    UnreadReportError,
)
from reports.explanation import explain
from reports.forms import AddendumForm, AmendForm, DraftForm, SignForm
from reports.merging import merged
from reports.models import Opening, Report, ReportTemplate
from reports.signing import release_report, sign_addendum, sign_report
from reports.text import DraftText
from reports.views import files
from reports.views.common import patients_list_link, private, unprintable, visible_report
from studies.access import require_revealed
from studies.api.common import AFTER, binary, changeable_study, link, listed, page_response, refuse_empty

TAGS = ["reports"]
Action = AccessEvent.Action
SUPERSEDED = "superseded"
REVISION = re.compile(r'"(\d{1,9})-[a-z0-9-]*"')
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, required=True, description="The ETag of the text that you have changed."
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="ETags that you hold; 304 where one of them is right."
)


class Reports(ApiView):
    """Reports that may be seen."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="reports_list",
        tags=TAGS,
        summary="Reports, newest first",
        description="A doctor's: those of the studies that they see. A patient's: the newest released version of each.",
        parameters=[
            OpenApiParameter("state", str, enum=[*Report.State.values, SUPERSEDED], description="For doctors."),
            OpenApiParameter("study", {"type": "string", "format": "uuid"}),
            AFTER,
        ],
        responses=listed("ReportPage", ReportSummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List reports, without a word of what is in them."""
        refuse_empty(request, "state", "study")
        reports = Report.objects.visible_to(self.user).select_related("study__patient")
        if study := request.GET.get("study"):
            reports = reports.filter(study=_uuid(study, name="study"))
        state = request.GET.get("state", "")
        if state not in ("", *Report.State.values, SUPERSEDED):
            raise invalid([("state", _("This state is not known. Please check the documentation."))])
        if state == SUPERSEDED:
            reports = reports.filter(superseded_at__isnull=False)
        elif state:
            reports = reports.filter(state=state, superseded_at__isnull=True)
        order = ["-released_at", "-id"] if self.user.is_patient else ["-created_at", "-id"]
        return page_response(request, reports, order=order, serializer=ReportSummarySerializer)


class StudyReport(ApiView):
    """The draft of a study's report."""

    role = DOCTOR

    @extend_schema(
        operation_id="reports_draft",
        tags=TAGS,
        summary="Have the draft of a report written",
        description="409 with `report` where the study has one already.",
        request=DraftBody,
        responses={201: ReportSerializer},
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Write the first draft from the measurements, or from a template."""
        study = changeable_study(self.user, study_id)
        wanted = json_of(request, DraftBody).get("template")
        template = ReportTemplate.objects.chosen(str(wanted), by=self.user) if wanted else None
        if wanted and template is None:
            raise invalid([("template", _("Your hospital has no such template. Please choose another one."))])
        try:
            report = draft_report(study, by=self.user, template=template)
        except ReportExistsError as error:
            existing = Report.objects.newest_of(study)
            address = link(request, "report", report_id=existing.pk) if existing is not None else None
            raise conflict(error, report=address) from error
        except FirstImpressionMissingError as error:
            raise ProblemError(403, str(error), kind="first-impression-missing") from error
        except NothingToReportError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=Action.CREATED, target=report)
        return _answer(request, report, status=201)


class Templates(ApiView):
    """Texts that a draft may start from."""

    role = DOCTOR

    @extend_schema(
        operation_id="report_templates_list",
        tags=TAGS,
        summary="Texts of your hospital that a draft may start from",
        responses=TemplateSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the templates of the doctor's hospital."""
        return Response(TemplateSerializer(ReportTemplate.objects.usable_by(self.user), many=True).data)


class OneReport(ApiView):
    """One report."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="reports_read",
        tags=TAGS,
        summary="A report with its text",
        description="A draft quotes the software: 403 before you have noted your first impression.",
        responses=ReportSerializer,
    )
    def get(self, request: Request, report_id: uuid.UUID) -> Response:
        """Show a report; the ETag names the text, for changing it."""
        report = visible_report(self.user, report_id)
        if not report.is_signed:
            require_revealed(report.study, to=self.user)
        AccessEvent.record(request, action=Action.VIEWED, target=report)
        return _answer(request, report)

    @extend_schema(
        operation_id="reports_change",
        tags=TAGS,
        summary="Change the text of a draft",
        description=(
            "`If-Match` carries the ETag of the text that was changed; without it the answer is 428. Where somebody "
            "else has changed the draft meanwhile, nothing is overwritten: 412 with `stored`, the text that is there, "
            "and `both`, the two put together line by line."
        ),
        parameters=[IF_MATCH],
        request=ReportTextBody,
        responses=ReportSerializer,
    )
    def patch(self, request: Request, report_id: uuid.UUID) -> Response:
        """Store a new text of the draft."""
        report = _changeable(self, report_id)
        require_revealed(report.study, to=self.user)
        revision = _revision(request)
        text = {"findings_text": report.findings_text, "impression": report.impression}
        text |= json_of(request, ReportTextBody)
        form = DraftForm(as_form(text | {"revision": revision}), instance=copy.copy(report))
        check(form)
        try:
            if form.text != report.text or revision != report.revision or not report.can_be_edited:
                report.edit(
                    by=self.user,
                    revision=revision,
                    findings_text=form.text.findings_text,
                    impression=form.text.impression,
                )
                AccessEvent.record(request, action=Action.CHANGED, target=report)
        except InvalidTransitionError as error:
            raise conflict(error) from error
        except StaleDraftError as error:
            raise _stale(report, mine=form.text, sentence=str(error)) from error
        return _answer(request, report)


class ReportSignature(ApiView):
    """The signature under a report."""

    role = DOCTOR
    scopes = {"GET": Scope.READ, "POST": Scope.SIGN}

    @extend_schema(
        operation_id="reports_to_be_signed",
        tags=TAGS,
        summary="Exactly what you would sign",
        description="Needed before every signature: the portal notes that you have had exactly this text before you.",
        responses=ToBeSignedSerializer,
    )
    def get(self, request: Request, report_id: uuid.UUID) -> Response:
        """Show what will be signed, and note that this doctor has had it before them."""
        report = self._to_be_signed(report_id)
        AccessEvent.record(request, action=Action.VIEWED, target=report)
        Opening.objects.note(report, doctor=self.user)
        return Response(
            {
                "revision": report.revision,
                "evidence": report.content_for(self.user).evidence,
                "findings_text": report.findings_text,
                "impression": report.impression,
                "can_be_signed": report.can_be_signed,
                "unprintable": unprintable(report),
            }
        )

    @extend_schema(
        operation_id="reports_sign",
        tags=TAGS,
        summary="Sign a report",
        description=(
            "`revision` and `evidence` come from the GET of this address, each report's from its own: there is no "
            "signing by the dozen. 409 where the text or the analyses have changed since (`…:stale`), or where you "
            "have not had this text before you (`…:unread`). A token needs the scope `sign`."
        ),
        request=SignBody,
        examples=[
            OpenApiExample(
                "Signed as read",
                value={"revision": 3, "evidence": "9f2c…64 characters from the GET…", "is_confirmed": True},
                request_only=True,
            )
        ],
        responses=ReportSerializer,
    )
    def post(self, request: Request, report_id: uuid.UUID) -> Response:
        """Freeze the report as the doctor has read it."""
        report = self._to_be_signed(report_id)
        form = SignForm(as_form(json_of(request, SignBody)))
        check(form)
        data = form.cleaned_data
        try:
            sign_report(report, by=self.user, revision=data["revision"], evidence=data["evidence"])
        except UnreadReportError as error:
            raise ProblemError(409, str(error), kind="unread") from error
        except StaleDraftError as error:
            raise ProblemError(409, str(error), kind="stale") from error
        except (InvalidTransitionError, PdfError) as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=Action.SIGNED, target=report)
        return _answer(request, report)

    def _to_be_signed(self, report_id: uuid.UUID) -> Report:
        report = _changeable(self, report_id)
        if report.is_signed:
            raise conflict(_("This report is signed already."))
        require_revealed(report.study, to=self.user)
        return report


class ReportRelease(ApiView):
    """The release to the patient."""

    role = DOCTOR
    scopes = {"POST": Scope.SIGN}

    @extend_schema(
        operation_id="reports_release",
        tags=TAGS,
        summary="Let the patient read a signed report",
        request=None,
        responses=ReleaseSerializer,
    )
    def post(self, request: Request, report_id: uuid.UUID) -> Response:
        """Release a signed report; the patient is told by e-mail that there is something to read."""
        report = _changeable(self, report_id)
        try:
            release = release_report(report, by=self.user, link=patients_list_link(self.page_request))
        except InvalidTransitionError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=Action.RELEASED, target=report)
        return Response(
            {
                "state": report.state,
                "released_at": report.released_at,
                "has_reader": release.has_reader,
                "is_notified": release.is_notified,
            }
        )


class ReportAddenda(ApiView):
    """Remarks under a report."""

    role = DOCTOR
    scopes = {"POST": Scope.SIGN}

    @extend_schema(
        operation_id="reports_add",
        tags=TAGS,
        summary="Add a signed remark to a signed report",
        request=AddendumBody,
        responses={201: AddendumSerializer},
    )
    def post(self, request: Request, report_id: uuid.UUID) -> Response:
        """Add a signed remark; the report itself stays as it is."""
        report = _changeable(self, report_id)
        form = AddendumForm(as_form(json_of(request, AddendumBody)))
        check(form)
        try:
            addendum = sign_addendum(
                report, by=self.user, text=form.cleaned_data["text"], link=patients_list_link(self.page_request)
            )
        except (InvalidTransitionError, PdfError) as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=Action.SIGNED, target=report)
        return Response(AddendumSerializer(addendum).data, status=201)


class ReportAmendment(ApiView):
    """The next version of a report."""

    role = DOCTOR
    scopes = {"POST": Scope.SIGN}

    @extend_schema(
        operation_id="reports_amend",
        tags=TAGS,
        summary="Open the next version of a signed report",
        description="409 with `report` where an amendment exists already.",
        request=AmendBody,
        responses={201: ReportSerializer},
    )
    def post(self, request: Request, report_id: uuid.UUID) -> Response:
        """Open a draft with the signed text, to be corrected and signed like any other."""
        report = _changeable(self, report_id)
        form = AmendForm(as_form(json_of(request, AmendBody)))
        check(form)
        try:
            amendment = report.amend(by=self.user, reason=form.cleaned_data["reason"])
        except InvalidTransitionError as error:
            following = report.next_version
            address = link(request, "report", report_id=following.pk) if following is not None else None
            raise conflict(error, report=address) from error
        AccessEvent.record(request, action=Action.CREATED, target=amendment)
        return _answer(request, amendment, status=201)


class ReportPdf(ApiView):
    """The PDF of a report."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="reports_pdf",
        tags=TAGS,
        summary="The PDF of a signed report with its addenda",
        description="Compared with the hash of the signature before it leaves. A superseded version says so.",
        parameters=[IF_NONE_MATCH],
        responses=binary("application/pdf", "PDF, A4.") | {304: None},
    )
    def get(self, request: Request, report_id: uuid.UUID) -> HttpResponseBase:
        """Send the PDF, or 304 where the client holds this very one."""
        report = visible_report(self.user, report_id)
        if not report.is_signed:
            raise Http404
        etag = pdf_etag(report)
        if (held := not_modified(request, etag=etag)) is not None:
            return held
        try:
            made = copy_of(report)
        except PdfError as error:
            raise ProblemError(500, str(error)) from error
        AccessEvent.record(request, action=Action.DOWNLOADED, target=report)
        headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{made.name}"'}
        response: HttpResponse = private(HttpResponse(made.pdf, content_type="application/pdf", headers=headers))
        return response


class ReportSlice(ApiView):
    """A slice of a report."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="reports_slice",
        tags=TAGS,
        summary="One slice of a report",
        responses=binary("image/png", "Grey PNG."),
    )
    def get(self, request: Request, report_id: uuid.UUID, number: int) -> HttpResponseBase:
        """Send one slice of a report, as taken."""
        return files.report_slice(self.page_request, report_id, number)


class ReportOverlay(ApiView):
    """A slice of a report with the outlines drawn."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="reports_overlay",
        tags=TAGS,
        summary="One slice of a report with the outlined regions",
        responses=binary("image/png", "Colour PNG."),
    )
    def get(self, request: Request, report_id: uuid.UUID, number: int) -> HttpResponseBase:
        """Send one slice of a report with the outlined regions drawn."""
        return files.report_overlay(self.page_request, report_id, number)


def not_modified(request: Request, *, etag: str) -> HttpResponse | None:
    """Return the answer to a client that holds this very file; None where it has to be sent."""
    try:
        held = parse_etags(request.headers.get("If-None-Match", ""))
    except ValueError:
        return None
    if etag.removeprefix("W/") not in [one.removeprefix("W/") for one in held]:
        return None
    return HttpResponse(status=304, headers={"ETag": etag, "Cache-Control": "private, no-store"})


def pdf_etag(report: Report) -> str:
    """Name the bytes of a report's copy: what was signed, what was added, and the mark of a superseded version.

    A copy that is bound anew each time gets a weak tag: the same pages, perhaps not the same bytes.
    """
    parts = [report.pdf_sha256, *report.addenda.values_list("pdf_sha256", flat=True)]
    is_bound = len(parts) > 1 or report.is_superseded
    if is_bound:
        parts += [str(report.superseded_at), str(get_language())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f'W/"{digest}"' if is_bound else f'"{digest}"'


def _changeable(view: ApiView, report_id: uuid.UUID) -> Report:
    report = visible_report(view.user, report_id)
    if not report.can_be_changed_by(view.user):
        raise PermissionDenied(_("You may read this report, but not change it."))
    return report


def _answer(request: Request, report: Report, *, status: int = 200) -> Response:
    is_patient = bool(getattr(request.user, "is_patient", False))
    content = report.content_for(request.user)
    context = {
        "request": request,
        "content": content,
        "is_patient": is_patient,
        "explanation": explain(content) if report.state == Report.State.RELEASED else None,
    }
    headers = {"ETag": _etag(report)}
    if status == 201:
        headers["Location"] = link(request, "report", report_id=report.pk)
    return Response(ReportSerializer(report, context=context).data, status=status, headers=headers)


def _etag(report: Report) -> str:
    superseded = "-superseded" if report.is_superseded else ""
    return f'"{report.revision}-{report.state}-{report.addenda.count()}{superseded}"'


def _revision(request: Request) -> int:
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        raise ProblemError(428, _("Please send the ETag of the text that you have changed in the header If-Match."))
    found = REVISION.fullmatch(given.strip())
    if found is None:
        raise ProblemError(412, _("This ETag is none of this report. Please read the report again."), kind="stale")
    return int(found.group(1))


def _stale(report: Report, *, mine: DraftText, sentence: str) -> ProblemError:
    def plain(text: DraftText) -> dict[str, Any]:
        return {"findings_text": text.findings_text, "impression": text.impression}

    return ProblemError(
        412,
        sentence,
        kind="stale",
        headers={"ETag": _etag(report)},
        stored=plain(report.text),
        both=plain(merged(stored=report.text, mine=mine)),
    )


def _uuid(text: str, *, name: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise invalid([(name, _("This is no identifier. Please check it."))]) from None

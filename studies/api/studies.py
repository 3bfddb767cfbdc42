"""Studies: worklist, upload, one with its slices, more slices, who may see it, marks."""

import uuid
from collections.abc import Callable
from typing import Any

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import idempotency
from accounts.api.problems import ProblemError, check, conflict, form_errors, invalid
from accounts.api.views import DOCTOR, ApiView, as_form, json_of, sent_form
from accounts.models import AccessEvent, Scope, User
from studies import uploads
from studies.api.common import (
    AFTER,
    changeable_study,
    link,
    listed,
    page_response,
    refuse_empty,
    visible_study,
)
from studies.api.serializers import (
    ColleagueSerializer,
    CountSerializer,
    MarkBody,
    PersonWithAccessSerializer,
    ShareBody,
    SlicesUploadBody,
    StudySerializer,
    StudyStateSerializer,
    StudySummarySerializer,
    StudyUploadBody,
)
from studies.errors import GrantError, IntakeError, RecordNumberTakenError
from studies.forms import ShareForm, SlicesForm, StudyForm, colleagues_of
from studies.intake import add_slices, submit_study
from studies.models import Analysis, Image, ImageReview, Study, StudyRead, judged_findings
from studies.models.study import CLASS_LABELS
from studies.permissions import grant_study
from studies.worklist import ACTIVE, MINE, ORDERS, SHARED, UNREAD, Worklist, chosen_studies, rows_for

TAGS = ["studies"]
FILTERS = [
    OpenApiParameter("q", str, description="Words of the patient's name or record number."),
    OpenApiParameter("order", str, enum=list(ORDERS), description="As in the worklist; `triage` unless named."),
    OpenApiParameter("state", str, enum=[UNREAD, ACTIVE, *Analysis.State.values]),
    OpenApiParameter("whose", str, enum=[MINE, SHARED]),
    OpenApiParameter("diagnosis", str, enum=list(CLASS_LABELS), description="The software's class, where revealed."),
    OpenApiParameter("since", {"type": "string", "format": "date"}, description="Study date from."),
    OpenApiParameter("until", {"type": "string", "format": "date"}, description="Study date to."),
    OpenApiParameter("patient", {"type": "string", "format": "uuid"}),
]


class Studies(ApiView):
    """The worklist, and the way in."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="studies_list",
        tags=TAGS,
        summary="The worklist",
        description="The order also uses the software's suspicion of studies whose answer is still hidden from you.",
        parameters=[*FILTERS, AFTER],
        responses=listed("StudyPage", StudySummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List the studies that the doctor may see, in the order and narrowed down as asked for."""
        refuse_empty(request, "order", "state", "whose", "diagnosis", "since", "until", "patient")
        # Of its own: a script chooses no order for its person's pages.
        worklist = Worklist.of(self.user, asked=request.GET, session={})
        errors = form_errors(worklist.form)
        if request.GET.get("order", "") not in ("", *ORDERS):
            errors.append(("order", _("This order is not known. Please check the documentation.")))
        if errors:
            raise invalid(errors)
        return page_response(
            request,
            rows_for(self.user, worklist.studies()),
            order=worklist.order.fields,
            serializer=StudySummarySerializer,
        )

    @extend_schema(
        operation_id="studies_upload",
        tags=TAGS,
        summary="Upload a new study",
        description=(
            "One or more slices of one examination, of a patient whom you see already (`patient`) or of a new one. "
            "Every file is checked and re-encoded; if one is refused, nothing is stored. An analysis of each slice is "
            "queued at once."
        ),
        parameters=[idempotency.PARAMETER],
        request={"multipart/form-data": StudyUploadBody},
        responses={201: StudySerializer},
    )
    def post(self, request: Request) -> Response:
        """Take a new study in."""
        among = Study.objects.visible_to(self.user)
        study, headers = take_in_once(self, request, among=among, submit=self._submit, address="study")
        stored = visible_study(self.user, study.pk)
        return Response(study_json(request, stored, doctor=self.user), status=201, headers=headers)

    def _submit(self, fields: Any, files: Any, study_id: uuid.UUID) -> Study:
        values = fields.copy()
        values["token"] = str(study_id)
        form = StudyForm(values, files, doctor=self.user)
        check(form)
        try:
            return submit_study(
                self.user,
                patient=form.chosen_patient,
                study_date=form.cleaned_data["study_date"],
                clinical_question=form.cleaned_data["clinical_question"],
                uploads=form.uploads,
                study_id=study_id,
            )
        except RecordNumberTakenError as error:
            raise conflict(error) from error
        except IntakeError as error:
            raise invalid(("slices", sentence) for sentence in error.sentences) from error


class OneStudy(ApiView):
    """One study."""

    role = DOCTOR

    @extend_schema(
        operation_id="studies_read", tags=TAGS, summary="A study with slices and answers", responses=StudySerializer
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """Show a study with all slices; the answers are part of it as soon as they are revealed to the doctor."""
        study = visible_study(self.user, study_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
        study.mark_read(by=self.user)
        return Response(study_json(request, study, doctor=self.user))


class StudyState(ApiView):
    """How far the analyses of a study are."""

    role = DOCTOR

    @extend_schema(
        operation_id="studies_state",
        tags=TAGS,
        summary="How far the analyses are",
        description="For programs that wait: it holds no answer, and is not recorded as a look at the study.",
        responses=StudyStateSerializer,
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """Tell where the analyses of a study stand."""
        study = visible_study(self.user, study_id)
        states = study.images.with_state().order_by().values("state").annotate(count=Count("id"))  # type: ignore[misc] # annotated
        counts = {row["state"] or "": row["count"] for row in states}
        is_finished = study.state not in Analysis.ACTIVE
        return Response({"id": study.pk, "state": study.state, "is_finished": is_finished, "counts": counts})


class StudySlices(ApiView):
    """The slices of a study."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="studies_add_slices",
        tags=TAGS,
        summary="Add slices to a study",
        parameters=[idempotency.PARAMETER],
        request={"multipart/form-data": SlicesUploadBody},
        responses={201: StudySerializer},
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Append slices, in the order of their names, and queue an analysis of each."""
        study = changeable_study(self.user, study_id)
        fields, files = sent_form(self.page_request)
        require_whole(self.page_request)
        with idempotency.attempt(self.page_request, by=self.user) as attempt:
            is_new = attempt.result is None
            if is_new:
                form = SlicesForm(fields, files)
                check(form)
                try:
                    images = add_slices(study, doctor=self.user, uploads=form.uploads)
                except IntakeError as error:
                    raise invalid(("slices", sentence) for sentence in error.sentences) from error
                attempt.finish(*(image.pk for image in images))
                for image in images:
                    AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=image)
        study.refresh_from_db()
        headers = {} if is_new else attempt.headers
        return Response(study_json(request, study, doctor=self.user), status=201, headers=headers)


class StudyAccess(ApiView):
    """Who may see a study."""

    role = DOCTOR

    @extend_schema(
        operation_id="studies_access",
        tags=TAGS,
        summary="Who may see a study",
        responses=PersonWithAccessSerializer(many=True),
    )
    def get(self, request: Request, study_id: uuid.UUID) -> Response:
        """List the doctors who may see the study."""
        study = changeable_study(self.user, study_id)
        return Response(PersonWithAccessSerializer(study.people_with_access(), many=True).data)

    @extend_schema(
        operation_id="studies_share",
        tags=TAGS,
        summary="Share a study with a colleague",
        request=ShareBody,
        responses=PersonWithAccessSerializer(many=True),
    )
    def post(self, request: Request, study_id: uuid.UUID) -> Response:
        """Give a colleague of the same hospital access."""
        study = changeable_study(self.user, study_id)
        form = ShareForm(as_form(json_of(request, ShareBody)), study=study, doctor=self.user)
        check(form)
        try:
            grant_study(study, to=form.cleaned_data["colleague"], can_change=form.cleaned_data["can_change"])
        except GrantError as error:
            raise invalid([("colleague", str(error))]) from error
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=study)
        return Response(PersonWithAccessSerializer(study.people_with_access(), many=True).data)


class Colleagues(ApiView):
    """With whom a study may be shared."""

    role = DOCTOR

    @extend_schema(
        operation_id="colleagues_list",
        tags=TAGS,
        summary="Doctors of your hospital",
        responses=ColleagueSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """List the other doctors of the hospital, by name."""
        return Response(ColleagueSerializer(colleagues_of(self.user), many=True).data)


class StudyMarks(ApiView):
    """Which studies count as read."""

    role = DOCTOR

    @extend_schema(
        operation_id="studies_mark",
        tags=TAGS,
        summary="Mark studies as read or unread",
        request=MarkBody,
        examples=[
            OpenApiExample(
                "Two studies",
                value={
                    "studies": ["0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11", "51f4a1de-6c41-4a7e-9a6f-53f7a2a0f0f2"],
                    "is_read": True,
                },
                request_only=True,
            )
        ],
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Mark those of the named studies that the doctor may see; tell how many these are."""
        values = json_of(request, MarkBody)
        chosen = chosen_studies(self.user, asked=[str(one) for one in values["studies"]])
        ids = list(chosen.values_list("id", flat=True))
        if values["is_read"]:
            StudyRead.objects.mark(ids, by=self.user)
        else:
            StudyRead.objects.unmark(ids, by=self.user)
        return Response({"count": len(ids)})


def take_in_once(
    view: ApiView,
    request: Request,
    *,
    among: QuerySet[Study],
    submit: Callable[[Any, Any, uuid.UUID], Study],
    address: str,
) -> tuple[Study, dict[str, str]]:
    """Take an upload in, once for each idempotency key; return its study and the headers of the answer.

    ``submit`` makes a study with an identifier from fields and files; ``among`` are those in which the study of a
    former request with this key is looked for; ``address`` names where the study is.
    """
    fields, files = sent_form(view.page_request)
    require_whole(view.page_request)
    with idempotency.attempt(view.page_request, by=view.user) as attempt:
        study = among.filter(id=attempt.result[0] if attempt.result else attempt.id).first()
        if study is None and attempt.result:
            raise conflict(_("The study of the first request with this key is no longer there for you."))
        is_new = study is None
        if study is None:
            study = submit(fields, files, attempt.id)
            attempt.finish(study.pk)
            AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=study)
    return study, {"Location": link(request, address, study_id=study.pk)} | ({} if is_new else attempt.headers)


def require_whole(request: Any) -> None:
    """Raise a problem where the upload handlers have stopped the request because it is too large."""
    if refusal := uploads.refusal(request):
        raise ProblemError(413, refusal)


def study_json(request: Request, study: Study, *, doctor: User) -> Any:
    """Return a study with its slices as this doctor may know them."""
    images = list(study.images.order_by("number"))
    return StudySerializer(study, context=slices_context(request, study, images=images, doctor=doctor)).data


def slices_context(request: Request, study: Study, *, images: list[Image], doctor: User) -> dict[str, Any]:
    """Gather what the slices show, in as many queries for five hundred as for one.

    What the software said, and what doctors made of it, is left out until the study is revealed to this doctor.
    """
    is_revealed = study.reveals_ai_to(doctor)
    newest: dict[uuid.UUID, Analysis] = {}
    answers: dict[uuid.UUID, Analysis] = {}
    for analysis in Analysis.objects.filter(image__in=images).select_related("image").order_by("queued_at", "id"):
        newest[analysis.image_id] = analysis
        if analysis.has_answer:
            answers[analysis.image_id] = analysis
    judged = ImageReview.objects.latest_per_image().filter(image__in=images).select_related("by")
    return {
        "request": request,
        "is_revealed": is_revealed,
        "images": images,
        "newest": newest,
        "answers": answers if is_revealed else {},
        "findings": judged_findings(images) if is_revealed else {},
        "classes": {row.image_id: row for row in judged} if is_revealed else {},
    }

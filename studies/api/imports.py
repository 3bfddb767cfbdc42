"""Bulk imports: begin, send files one by one or many at once, start, watch, answer whose files are."""

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import idempotency
from accounts.api.problems import check, conflict, invalid
from accounts.api.views import DOCTOR, ApiView, as_form, json_of, sent_form
from accounts.models import AccessEvent, Scope, User
from studies.api.common import AFTER, link, listed, page_response, refuse_empty
from studies.api.import_serializers import (
    ImportBody,
    ImportFilesBody,
    ImportFileSerializer,
    ImportSerializer,
    ImportSummarySerializer,
    ReceivedSerializer,
    WhoseBody,
)
from studies.api.studies import require_whole
from studies.errors import IntakeError, InvalidTransitionError, RecordNumberTakenError
from studies.imports.forms import GroupForm, ImportForm
from studies.imports.receiving import open_import, receive_files
from studies.intake import NewPatient, create_patient
from studies.models import Import, ImportFile, ImportGroup

TAGS = ["imports"]


class Imports(ApiView):
    """One's own imports, and a new one."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="imports_list",
        tags=TAGS,
        summary="Your bulk imports, newest first",
        parameters=[AFTER],
        responses=listed("ImportPage", ImportSummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List the doctor's imports."""
        imports = Import.objects.visible_to(self.user)
        return page_response(request, imports, order=["-created_at", "-id"], serializer=ImportSummarySerializer)

    @extend_schema(
        operation_id="imports_begin",
        tags=TAGS,
        summary="Begin a bulk import",
        description="Then send its files to `files_url`, as many at a time as you like, and start it.",
        parameters=[idempotency.PARAMETER],
        request=ImportBody,
        responses={201: ImportSerializer},
    )
    def post(self, request: Request) -> Response:
        """Begin an import whose files follow."""
        values = json_of(request, ImportBody)
        with idempotency.attempt(self.page_request, by=self.user) as attempt:
            is_new = attempt.result is None
            import_id = attempt.result[0] if attempt.result else attempt.id
            if is_new:
                self._open(values, import_id=import_id)
                attempt.finish(import_id)
        batch = visible_import(self.user, import_id)
        headers = {"Location": link(request, "import", import_id=batch.pk)} | ({} if is_new else attempt.headers)
        return Response(_json(request, batch), status=201, headers=headers)

    def _open(self, values: dict[str, Any], *, import_id: uuid.UUID) -> None:
        data = as_form(values | {"token": import_id, "sends_files_apart": True})
        form = ImportForm(data, doctor=self.user)
        check(form)
        try:
            batch = open_import(
                self.user,
                import_id=import_id,
                patient=form.patient_if_any,
                study_date=form.cleaned_data["study_date"],
                clinical_question=form.cleaned_data["clinical_question"],
                announced_files=form.cleaned_data["announced_files"] or 0,
            )
        except (RecordNumberTakenError, IntakeError) as error:
            raise conflict(error) from error
        AccessEvent.record(self.request, action=AccessEvent.Action.CREATED, target=batch)


class OneImport(ApiView):
    """One import."""

    role = DOCTOR

    @extend_schema(operation_id="imports_read", tags=TAGS, summary="How far an import is", responses=ImportSerializer)
    def get(self, request: Request, import_id: uuid.UUID) -> Response:
        """Show how far an import is, and which examinations wait for the doctor's answer."""
        batch = visible_import(self.user, import_id)
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=batch)
        return Response(_json(request, batch))


class ImportFiles(ApiView):
    """The files of an import."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="imports_files",
        tags=TAGS,
        summary="What became of each file",
        parameters=[OpenApiParameter("state", str, enum=ImportFile.State.values), AFTER],
        responses=listed("ImportFilePage", ImportFileSerializer),
    )
    def get(self, request: Request, import_id: uuid.UUID) -> Response:
        """List the lines of an import, in the order of its files."""
        batch = visible_import(self.user, import_id)
        refuse_empty(request, "state")
        state = request.GET.get("state", "")
        if state not in ("", *ImportFile.State.values):
            raise invalid([("state", _("This state is not known. Please check the documentation."))])
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=batch)
        lines = batch.files.filter(state=state) if state else batch.files.all()
        return page_response(request, lines, order=["position"], serializer=ImportFileSerializer, size=100)

    @extend_schema(
        operation_id="imports_send",
        tags=TAGS,
        summary="Send files of an import",
        description="Each file has its number in the import (`first`, then one more each), so it may be sent again.",
        request={"multipart/form-data": ImportFilesBody},
        responses=ReceivedSerializer,
    )
    def post(self, request: Request, import_id: uuid.UUID) -> Response:
        """Keep some files of an import that is being sent."""
        batch = visible_import(self.user, import_id)
        fields, sent = sent_form(self.page_request)
        require_whole(self.page_request)
        files = sent.getlist("files")
        paths = fields.getlist("path") or [file.name or "" for file in files]
        first = fields.get("first", "")
        errors = []
        if not (first.isascii() and first.isdecimal() and len(first) <= 9):
            errors.append(("first", _("Please name the number of the first file, from 0.")))
        if not files:
            errors.append(("files", _("Please send at least one file.")))
        elif len(paths) != len(files):
            errors.append(("path", _("Please name a path for each file, or for none.")))
        if errors:
            raise invalid(errors)
        try:
            receive_files(batch, files=files, paths=paths, first=int(first))
        except IntakeError as error:
            raise conflict(error) from error
        return Response({"received": batch.files.count()})


class ImportStart(ApiView):
    """The end of the upload."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="imports_start",
        tags=TAGS,
        summary="Begin with the files that have arrived",
        request=None,
        responses={202: ImportSerializer},
    )
    def post(self, request: Request, import_id: uuid.UUID) -> Response:
        """Close the upload; asking twice is asking once. 409 without any file, or where it was discarded."""
        batch = visible_import(self.user, import_id)
        try:
            if not batch.files.exists():
                raise InvalidTransitionError(
                    _("No file has arrived yet. Please send the files again, or discard the import.")
                )
            batch.start()
        except InvalidTransitionError as error:
            raise conflict(error) from error
        return Response(_json(request, batch), status=202)


class ImportDiscard(ApiView):
    """The end of an upload that is not wanted."""

    role = DOCTOR
    scopes = {"POST": Scope.UPLOAD}

    @extend_schema(
        operation_id="imports_discard",
        tags=TAGS,
        summary="Throw an upload away that was not started",
        request=None,
        responses=ImportSerializer,
    )
    def post(self, request: Request, import_id: uuid.UUID) -> Response:
        """Forget the files; 409 once the import has started."""
        batch = visible_import(self.user, import_id)
        try:
            batch.abandon()
        except InvalidTransitionError as error:
            raise conflict(error) from error
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=batch)
        return Response(_json(request, batch))


class ImportExamination(ApiView):
    """Whose the files of one examination are."""

    role = DOCTOR

    @extend_schema(
        operation_id="imports_answer",
        tags=TAGS,
        summary="Say whose files are",
        description="A patient whom you see (`patient`), a new one (the four fields of one), or `leave_out`.",
        request=WhoseBody,
        responses=ImportSerializer,
    )
    def post(self, request: Request, group_id: uuid.UUID) -> Response:
        """Take the doctor's answer; 409 where it was answered before."""
        own = ImportGroup.objects.filter(batch__in=Import.objects.visible_to(self.user)).select_related("batch")
        group = get_object_or_404(own, id=group_id)
        values = json_of(request, WhoseBody)
        try:
            if values.pop("leave_out", False):
                group.leave_out()
            else:
                form = GroupForm(as_form(values), doctor=self.user, group=group)
                check(form)
                self._assign(group, form=form)
        except (RecordNumberTakenError, InvalidTransitionError) as error:
            raise conflict(error) from error
        return Response(_json(request, visible_import(self.user, group.batch_id)))

    def _assign(self, group: ImportGroup, *, form: GroupForm) -> None:
        chosen = form.chosen_patient
        if isinstance(chosen, NewPatient):
            chosen = create_patient(chosen, doctor=self.user)
            AccessEvent.record(self.request, action=AccessEvent.Action.CREATED, target=chosen)
        group.assign(chosen)


def visible_import(doctor: User, import_id: uuid.UUID) -> Import:
    """Return an import; another doctor's does not exist."""
    return get_object_or_404(Import.objects.visible_to(doctor), id=import_id)


def _json(request: Request, batch: Import) -> Any:
    return ImportSerializer(batch, context={"request": request}).data

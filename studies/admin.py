"""The administration of patients, studies and analyses: what is stuck, and mending a record. It shows no pictures.

Administrators work for their own hospital, superusers for all. What happened is history: nobody adds, changes or
deletes it here. Every page of one row is recorded like any other look at clinical data.
"""

import datetime
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat, floatformat
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.models import AccessEvent, User
from studies.errors import InvalidTransitionError
from studies.intake import request_analysis
from studies.models import Analysis, Finding, Image, Import, ImportFile, Patient, Study
from studies.sentences import in_the_readers_language
from studies.templatetags.studies_numbers import percent


def number(value: float | None, *, unit: str) -> str:
    """Return a measured number with one decimal and its unit, or a dash where it is not known."""
    return "–" if value is None else f"{floatformat(value, 1)} {unit}"


def lines(values: dict[str, Any]) -> SafeString | str:
    """Return named values one a line, numbers with at most two decimals; a dash where there are none."""
    named = ((name.replace("_", " "), floatformat(value, -2) or value) for name, value in values.items())
    return format_html_join("\n", "<div>{}: {}</div>", named) or "–"


class StateFilter(admin.SimpleListFilter):
    """Where the analyses stand."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Name the states."""
        return [(str(value), label) for value, label in Analysis.State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Restrict the list."""
        return queryset.filter(state=self.value()) if self.value() else queryset


class HospitalAdmin(admin.ModelAdmin):
    """Rows of the administrator's own hospital, to look at; ``hospital_path`` leads from a row to its hospital."""

    hospital_path = "hospital"
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all rows for a superuser, those of the own hospital for an administrator, none for anybody else."""
        rows = super().get_queryset(request)
        user = request.user
        if not isinstance(user, User) or not user.is_administrator:
            return rows.none()
        if user.is_superuser:
            return rows
        return rows.filter(**{self.hospital_path: user.hospital_id}) if user.hospital_id else rows.none()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one row, and record that it was looked at."""
        row = self.get_object(request, object_id)
        if row is not None and request.method == "GET":
            AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=row)
        return super().change_view(request, object_id, form_url, extra_context)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Allow administrators: the role is the permission."""
        return getattr(request.user, "is_administrator", False)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Allow administrators; the queryset holds which rows."""
        return getattr(request.user, "is_administrator", False)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never: rows come in through the portal."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never, unless a subclass says otherwise."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never: medical records are kept."""
        return False


@admin.register(Patient)
class PatientAdmin(HospitalAdmin):
    """Records: number, names, birth date and e-mail address may be corrected."""

    list_display = ["record_number", "family_name", "given_name", "birth_date", "hospital", "has_login"]
    list_display_links = ["record_number", "family_name"]
    list_filter = [("user", admin.EmptyFieldListFilter)]
    list_select_related = ["hospital"]
    search_fields = ["record_number", "family_name", "given_name", "email"]
    search_help_text = _("Record number, name or e-mail address.")
    ordering = ["family_name", "given_name"]
    fields = [
        "hospital",
        "record_number",
        "family_name",
        "given_name",
        "birth_date",
        "email",
        "user",
        "created_by",
        "created_at",
    ]
    readonly_fields = ["hospital", "user", "created_by", "created_at"]

    @admin.display(boolean=True, description=_("reads reports here"))
    def has_login(self, patient: Patient) -> bool:
        """Whether the patient has claimed the record."""
        return patient.user_id is not None

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Allow administrators to correct a record of their hospital."""
        return self.has_view_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the correction, and record it."""
        super().save_model(request, obj, form, change)
        AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=obj)


@admin.register(Study)
class StudyAdmin(HospitalAdmin):
    """Studies: whose, when, how many slices, and where their analyses stand. What the model said is not shown."""

    hospital_path = "patient__hospital"
    list_display = ["created_at", "patient", "study_date", "slice_count", "state_label", "is_synthetic", "created_by"]
    list_filter = [StateFilter, "is_synthetic", "study_date"]
    list_select_related = ["patient", "created_by"]
    search_fields = ["patient__record_number", "patient__family_name", "patient__given_name"]
    search_help_text = _("The patient's record number or name.")
    fields = ["id", "patient", "study_date", "state_label", "is_synthetic", "created_by", "created_at", "answered_at"]
    date_hierarchy = "created_at"
    actions = ["analyse_again"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the studies with their number of slices."""
        return super().get_queryset(request).with_slice_count()  # type: ignore[attr-defined] # of Study's own manager

    @admin.display(description=_("slices"))
    def slice_count(self, study: Study) -> int:
        """How many slices the study has."""
        return study.slice_count

    @admin.display(description=_("state"), ordering="state")
    def state_label(self, study: Study) -> str:
        """Where the analyses stand, as people read it."""
        return str(Analysis.State(study.state).label) if study.state else "–"

    @admin.action(description=_("Analyse again: every slice of these studies"), permissions=["view"])
    def analyse_again(self, request: HttpRequest, queryset: QuerySet[Study]) -> None:
        """Queue a new analysis of each slice."""
        images = Image.objects.filter(study__in=queryset.order_by().values("id"))
        analyse_again(request, images=images, model_admin=self)


@admin.register(Image)
class ImageAdmin(HospitalAdmin):
    """Slices: size and origin, never the picture."""

    hospital_path = "study__patient__hospital"
    list_display = ["created_at", "study_patient", "number", "width", "height", "source_format", "size"]
    list_filter = ["source_format", "created_at"]
    list_select_related = ["study__patient"]
    search_fields = ["study__patient__record_number", "sha256"]
    search_help_text = _("The patient's record number, or the SHA-256 of the stored file.")
    ordering = ["-created_at"]
    fields = [
        "id",
        "study",
        "number",
        "width",
        "height",
        "source_format",
        "size",
        "pixel_spacing",
        "sha256",
        "uploaded_by",
        "created_at",
    ]
    actions = ["analyse_again"]

    @admin.display(description=_("size"), ordering="byte_size")
    def size(self, image: Image) -> str:
        """How large the stored file is."""
        return filesizeformat(image.byte_size)

    @admin.display(description=_("pixel spacing"))
    def pixel_spacing(self, image: Image) -> str:
        """How far apart rows and columns lie."""
        spacing = image.pixel_spacing_mm
        return "–" if spacing is None else " × ".join(floatformat(value, 3) for value in spacing) + " mm"

    @admin.display(description=_("patient"), ordering="study__patient__family_name")
    def study_patient(self, image: Image) -> str:
        """Whose slice it is."""
        return str(image.study.patient)

    @admin.action(description=_("Analyse again"), permissions=["view"])
    def analyse_again(self, request: HttpRequest, queryset: QuerySet[Image]) -> None:
        """Queue a new analysis of each slice."""
        analyse_again(request, images=queryset, model_admin=self)


def stored_sentence(name: str, *, label: Any) -> Callable[[Any, Model], str]:
    """Return a column that shows what a worker stored in English in the language of whoever reads."""

    @admin.display(description=label)
    def shown(model_admin: Any, row: Model) -> str:
        return in_the_readers_language(getattr(row, name)) or "–"

    return shown


@admin.register(Analysis)
class AnalysisAdmin(HospitalAdmin):
    """Analyses: where they stand, why they failed, how long they took."""

    hospital_path = "image__study__patient__hospital"
    list_display = ["queued_at", "state", "attempt", "patient", "model_version", "duration", "short_error"]
    list_filter = ["state", "queued_at"]
    list_select_related = ["image__study__patient"]
    search_fields = ["image__study__patient__record_number", "error", "model_version"]
    search_help_text = _("The patient's record number, words of what went wrong, or a version of the model.")
    date_hierarchy = "queued_at"
    fields = [
        "id",
        "image",
        "state",
        "attempt",
        "requested_by",
        "queued_at",
        "enqueued_at",
        "started_at",
        "lease_expires_at",
        "finished_at",
        "error_text",
        "model_version",
        "malignancy",
        "basis_text",
        "limits",
        "steps",
        "duration",
    ]
    actions = ["analyse_again"]
    error_text = stored_sentence("error", label=_("what went wrong"))
    basis_text = stored_sentence("malignant_basis", label=_("how the estimate came about"))

    @admin.display(description=_("patient"), ordering="image__study__patient__family_name")
    def patient(self, analysis: Analysis) -> str:
        """Whose slice was analysed."""
        return str(analysis.image.study.patient)

    @admin.display(description=_("malignancy"))
    def malignancy(self, analysis: Analysis) -> str:
        """The probability that the model gave."""
        return percent(analysis.malignant_probability)

    @admin.display(description=_("thresholds"))
    def limits(self, analysis: Analysis) -> str:
        """The thresholds that held for this answer."""
        return lines(analysis.thresholds)

    @admin.display(description=_("milliseconds of each step"))
    def steps(self, analysis: Analysis) -> str:
        """How long each step took."""
        return lines(analysis.step_ms)

    @admin.display(description=_("duration"), ordering="duration_ms")
    def duration(self, analysis: Analysis) -> str:
        """How long the whole analysis took."""
        return "–" if analysis.duration_ms is None else f"{analysis.duration_ms} ms"

    @admin.display(description=_("what went wrong"))
    def short_error(self, analysis: Analysis) -> str:
        """The beginning of the reason."""
        return in_the_readers_language(analysis.error)[:80]

    @admin.action(description=_("Analyse again"), permissions=["view"])
    def analyse_again(self, request: HttpRequest, queryset: QuerySet[Analysis]) -> None:
        """Queue a new analysis of the slice of each."""
        images = Image.objects.filter(analyses__in=queryset.order_by().values("id")).distinct()
        analyse_again(request, images=images, model_admin=self)


@admin.register(Finding)
class FindingAdmin(HospitalAdmin):
    """Findings: what the model outlined, as stored."""

    hospital_path = "analysis__image__study__patient__hospital"
    list_display = ["analysis_id", "patient", "number", "axes_px", "axes_mm", "malignancy_percent"]
    list_filter = ["analysis__state"]
    list_select_related = ["analysis__image__study__patient"]
    search_fields = ["analysis__image__study__patient__record_number"]
    search_help_text = _("The patient's record number.")
    ordering = ["-analysis__queued_at", "number"]
    fields = [
        "analysis",
        "number",
        ("box_x", "box_y", "box_width", "box_height"),
        ("axes_px", "area_px"),
        ("axes_mm", "area_mm"),
        "malignancy_percent",
    ]

    @admin.display(description=_("long × short axis, pixels"), ordering="long_axis_px")
    def axes_px(self, finding: Finding) -> str:
        """The two diameters in pixels of the slice."""
        return f"{number(finding.long_axis_px, unit='px')} × {number(finding.short_axis_px, unit='px')}"

    @admin.display(description=_("long × short axis, millimetres"), ordering="long_axis_mm")
    def axes_mm(self, finding: Finding) -> str:
        """The two diameters in millimetres, where the spacing is known."""
        if finding.long_axis_mm is None:
            return "–"
        return f"{number(finding.long_axis_mm, unit='mm')} × {number(finding.short_axis_mm, unit='mm')}"

    @admin.display(description=_("area, square millimetres"))
    def area_mm(self, finding: Finding) -> str:
        """The area, where the spacing is known."""
        return number(finding.area_mm2, unit="mm²")

    @admin.display(description=_("malignancy"), ordering="malignancy")
    def malignancy_percent(self, finding: Finding) -> str:
        """The probability that the model gave."""
        return percent(finding.malignancy)

    @admin.display(description=_("patient"))
    def patient(self, finding: Finding) -> str:
        """Whose finding it is."""
        return str(finding.analysis.image.study.patient)


@admin.register(Import)
class ImportAdmin(HospitalAdmin):
    """Bulk imports: whose, where they stand, how many files came and were refused."""

    list_display = ["created_at", "state", "created_by", "hospital", "file_count", "rejected_count", "short_error"]
    list_filter = ["state", "created_at"]
    list_select_related = ["created_by", "hospital"]
    search_fields = ["=id", "created_by__email", "created_by__family_name"]
    search_help_text = _("The import's identifier as a whole, or the doctor's name or e-mail address.")
    date_hierarchy = "created_at"
    fields = [
        "id",
        "hospital",
        "created_by",
        "state",
        "step",
        "attempt",
        "announced_files",
        "file_count",
        "rejected_count",
        "created_at",
        "touched_at",
        "enqueued_at",
        "lease_expires_at",
        "finished_at",
        "error_text",
    ]
    error_text = stored_sentence("error", label=_("what went wrong"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the imports with their numbers of files, counted for the rows that are shown."""
        files = ImportFile.objects.filter(batch=OuterRef("pk")).order_by().values("batch")
        counted = files.annotate(count=Count("pk")).values("count")
        refused = files.filter(state=ImportFile.State.REJECTED).annotate(count=Count("pk")).values("count")
        return super().get_queryset(request).annotate(files_all=Subquery(counted), files_refused=Subquery(refused))

    @admin.display(description=_("files"))
    def file_count(self, batch: Any) -> int:
        """How many files have a line in the import."""
        return batch.files_all or 0

    @admin.display(description=_("rejected"))
    def rejected_count(self, batch: Any) -> int:
        """How many of them were refused."""
        return batch.files_refused or 0

    @admin.display(description=_("what went wrong"))
    def short_error(self, batch: Import) -> str:
        """The beginning of the reason."""
        return in_the_readers_language(batch.error)[:80]


@admin.register(ImportFile)
class ImportFileAdmin(HospitalAdmin):
    """Lines of bulk imports: what became of each file and why. File names may name patients, so no list shows them."""

    hospital_path = "batch__hospital"
    list_display = ["batch_created_at", "position", "state", "sentence_text", "attempt"]
    list_display_links = ["batch_created_at", "position"]
    list_filter = ["state", "batch__created_at"]
    list_select_related = ["batch"]
    search_fields = ["=batch__id", "sentence"]
    search_help_text = _("The import's identifier as a whole, or words of the reason.")
    ordering = ["-batch__created_at", "position"]
    fields = ["id", "batch", "position", "name", "state", "attempt", "sentence_text", "warning_text"]
    sentence_text = stored_sentence("sentence", label=_("why"))
    warning_text = stored_sentence("warning", label=_("remark"))

    @admin.display(description=_("import of"), ordering="batch__created_at")
    def batch_created_at(self, file: ImportFile) -> datetime.datetime:
        """When the import that the file came with was started."""
        return file.batch.created_at


def analyse_again(request: HttpRequest, *, images: QuerySet[Image], model_admin: admin.ModelAdmin) -> None:
    """Queue a new analysis of each slice, in the administrator's name, and tell how many were left out and why."""
    assert isinstance(request.user, User)  # noqa: S101 - narrows the type: the admin has checked who asks
    queued: list[uuid.UUID] = []
    left_out = 0
    for image in images:
        try:
            analysis = request_analysis(image, by=request.user)
        except InvalidTransitionError:
            left_out += 1
            continue
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
        queued.append(analysis.id)
    if queued:
        text = ngettext("%(count)d slice waits to be analysed.", "%(count)d slices wait to be analysed.", len(queued))
        model_admin.message_user(request, text % {"count": len(queued)}, messages.SUCCESS)
    if left_out:
        text = ngettext(
            "%(count)d slice was left out, because it is already waiting or being analysed.",
            "%(count)d slices were left out, because they are already waiting or being analysed.",
            left_out,
        )
        model_admin.message_user(request, text % {"count": left_out}, messages.WARNING)

"""How reports and jobs look in the API."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.serializers import Body
from reports.models import Addendum, BulkJob, BulkLine, Report
from studies.api.serializers import Linked, PatientSummarySerializer


class ReportSummarySerializer(Linked):
    """A report in few words; none of them says what is in it."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    study_id = serializers.UUIDField()
    study_date = serializers.DateField(source="study.study_date")
    patient = PatientSummarySerializer(source="study.patient")
    version = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Report.State.choices)
    is_superseded = serializers.BooleanField(help_text="Whether a signed amendment has taken its place.")
    created_at = serializers.DateTimeField()
    signed_at = serializers.DateTimeField(allow_null=True)
    released_at = serializers.DateTimeField(allow_null=True)

    def get_url(self, report: Report) -> str:
        """Return the report's address."""
        return self.address("report", report_id=report.pk)


class AddendumSerializer(serializers.Serializer):
    """A signed remark under a report."""

    number = serializers.IntegerField()
    text = serializers.CharField()
    signed_by = serializers.CharField(source="signer_name")
    signed_at = serializers.DateTimeField()


class ReportSliceSerializer(Linked):
    """A slice as the report shows it."""

    number = serializers.IntegerField()
    picture_url = serializers.SerializerMethodField()
    overlay_url = serializers.SerializerMethodField()

    def get_picture_url(self, part: Any) -> str:
        """Return where the slice is."""
        return self.address("report_slice", report_id=self.context["report"].pk, number=part.number)

    def get_overlay_url(self, part: Any) -> str | None:
        """Return where the slice with the outlines is."""
        if part.analysis is None:
            return None
        return self.address("report_overlay", report_id=self.context["report"].pk, number=part.number)


class ExplanationSerializer(serializers.Serializer):
    """What a released report means in plain words: a few paragraphs each."""

    looked_at = serializers.ListField(child=serializers.CharField())
    found = serializers.ListField(child=serializers.CharField())
    certainty = serializers.ListField(child=serializers.CharField())
    next_steps = serializers.ListField(child=serializers.CharField())


class ReportSerializer(Linked):
    """A report: of a draft the present text, of a signed one what was signed."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    study_id = serializers.UUIDField()
    study_date = serializers.SerializerMethodField()
    version = serializers.IntegerField()
    amends = serializers.UUIDField(source="amends_id", allow_null=True)
    amendment_reason = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(choices=Report.State.choices)
    is_superseded = serializers.BooleanField()
    revision = serializers.IntegerField(help_text="Counts the changes of the text; the ETag carries it.")
    findings_text = serializers.CharField(allow_blank=True)
    impression = serializers.CharField(allow_blank=True)
    can_change = serializers.SerializerMethodField()
    created_by = serializers.SerializerMethodField()
    signed_by = serializers.SerializerMethodField()
    signed_at = serializers.DateTimeField(allow_null=True)
    released_at = serializers.DateTimeField(allow_null=True)
    content_sha256 = serializers.CharField(allow_blank=True, help_text="Of the signed content.")
    pdf_url = serializers.SerializerMethodField(help_text="Empty before the report is signed.")
    slices = serializers.SerializerMethodField()
    addenda = serializers.SerializerMethodField()
    explanation = serializers.SerializerMethodField(help_text="For the patient of a released report; empty otherwise.")

    def get_url(self, report: Report) -> str:
        """Return the report's address."""
        return self.address("report", report_id=report.pk)

    @extend_schema_field(serializers.DateField())
    def get_study_date(self, report: Report) -> str:
        """Return the date of the examination, as it was signed."""
        return self.context["content"].study.study_date.isoformat()

    def get_can_change(self, report: Report) -> bool:
        """Return whether whoever asks may edit, sign and release."""
        return report.can_be_changed_by(self.context["request"].user)

    def get_created_by(self, report: Report) -> str | None:
        """Return who had the draft written; a patient need not know."""
        return None if self.context["is_patient"] else str(report.created_by)

    def get_signed_by(self, report: Report) -> str | None:
        """Return the signer's name on the day of signing."""
        signature = self.context["content"].signature
        return signature.name if signature is not None else None

    def get_pdf_url(self, report: Report) -> str | None:
        """Return where the PDF is."""
        return self.address("report_pdf", report_id=report.pk) if report.is_signed else None

    @extend_schema_field(ReportSliceSerializer(many=True))
    def get_slices(self, report: Report) -> Any:
        """Return the slices of the report."""
        context = {**self.context, "report": report}
        return ReportSliceSerializer(self.context["content"].slices, many=True, context=context).data

    @extend_schema_field(AddendumSerializer(many=True))
    def get_addenda(self, report: Report) -> Any:
        """Return the remarks that were added."""
        addenda: list[Addendum] = list(report.addenda.all())
        return AddendumSerializer(addenda, many=True).data

    @extend_schema_field(ExplanationSerializer(allow_null=True))
    def get_explanation(self, report: Report) -> Any:
        """Return what the report means, in plain words."""
        explanation = self.context.get("explanation")
        return ExplanationSerializer(explanation).data if explanation is not None else None


class DraftBody(Body):
    """From which text the draft starts."""

    template = serializers.UUIDField(
        required=False, allow_null=True, help_text="A text of your hospital; without one the system writes it."
    )


class ReportTextBody(Body):
    """The text of a draft; what is not named stays."""

    findings_text = serializers.CharField(required=False, allow_blank=True, max_length=20_000, trim_whitespace=False)
    impression = serializers.CharField(required=False, allow_blank=True, max_length=10_000, trim_whitespace=False)


class ToBeSignedSerializer(serializers.Serializer):
    """Exactly what a signature would be given to."""

    revision = serializers.IntegerField()
    evidence = serializers.CharField(help_text="Names the analyses and judgements that the text rests on.")
    findings_text = serializers.CharField(allow_blank=True)
    impression = serializers.CharField(allow_blank=True)
    can_be_signed = serializers.BooleanField(help_text="False without an impression.")
    unprintable = serializers.CharField(allow_blank=True, help_text="Characters that the PDF cannot print.")


class SignBody(Body):
    """The signature, given to the text that you have just read."""

    revision = serializers.IntegerField(min_value=1)
    evidence = serializers.CharField(max_length=64)
    is_confirmed = serializers.BooleanField(help_text="True: I have looked at the pictures and read the text.")


class ReleaseSerializer(serializers.Serializer):
    """What became of a release."""

    state = serializers.ChoiceField(choices=Report.State.choices)
    released_at = serializers.DateTimeField()
    has_reader = serializers.BooleanField(help_text="Whether the patient has a log-in already.")
    is_notified = serializers.BooleanField(help_text="Whether the patient was told by e-mail.")


class AddendumBody(Body):
    """A remark, signed with the request."""

    text = serializers.CharField(max_length=5000)
    is_confirmed = serializers.BooleanField(help_text="True: I have read the report and this addendum.")


class AmendBody(Body):
    """Why a signed report is amended."""

    reason = serializers.CharField(max_length=1000, help_text="Printed on the amended report.")


class TemplateSerializer(serializers.Serializer):
    """A text that a draft may start from."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class JobLineSerializer(serializers.Serializer):
    """What became of one study of a job."""

    number = serializers.IntegerField()
    study_id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=BulkLine.State.choices)
    reason = serializers.CharField(allow_blank=True, help_text="Why it was skipped.")
    report_id = serializers.UUIDField(allow_null=True)


class JobSummarySerializer(Linked):
    """A job in few words."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    kind = serializers.ChoiceField(choices=BulkJob.Kind.choices)
    state = serializers.ChoiceField(choices=BulkJob.State.choices)
    queued_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    archive_url = serializers.SerializerMethodField(help_text="Empty without an archive, or once its time is over.")
    expires_at = serializers.DateTimeField(allow_null=True)

    def get_url(self, job: BulkJob) -> str:
        """Return the job's address."""
        return self.address("job", job_id=job.pk)

    def get_archive_url(self, job: BulkJob) -> str | None:
        """Return where the archive is."""
        return self.address("job_archive", job_id=job.pk) if job.has_archive else None


class JobSerializer(JobSummarySerializer):
    """A job with its lines."""

    lines = serializers.SerializerMethodField()

    @extend_schema_field(JobLineSerializer(many=True))
    def get_lines(self, job: BulkJob) -> Any:
        """Return what became of each study."""
        return JobLineSerializer(job.lines.order_by("number"), many=True).data


class JobBody(Body):
    """What is to be done to which studies."""

    kind = serializers.ChoiceField(choices=["draft", "pdf"])
    studies = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=400)

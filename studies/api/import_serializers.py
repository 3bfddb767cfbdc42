"""How bulk imports look in the API."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.serializers import Body
from studies.api.serializers import Linked
from studies.imports.progress import progress_of
from studies.models import Import, ImportFile, ImportGroup
from studies.sentences import in_the_readers_language


class ImportBody(Body):
    """A new import. The patient and the date are for files that do not say themselves whose they are, or from when."""

    study_date = serializers.DateField()
    clinical_question = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    announced_files = serializers.IntegerField(required=False, min_value=0, max_value=10_000_000)
    patient = serializers.UUIDField(required=False, allow_null=True, help_text="A patient whom you see already.")
    record_number = serializers.CharField(
        required=False, max_length=40, help_text="Of a new patient, with the next three."
    )
    family_name = serializers.CharField(required=False, max_length=80)
    given_name = serializers.CharField(required=False, max_length=80)
    birth_date = serializers.DateField(required=False)
    email = serializers.EmailField(required=False, allow_blank=True)


class ImportFilesBody(serializers.Serializer):
    """Some files of an import, as multipart/form-data."""

    first = serializers.IntegerField(
        min_value=0, help_text="Number of the first of these files in the import, from 0: a file sent twice is one."
    )
    files = serializers.ListField(child=serializers.FileField(), help_text="PNG, JPEG, DICOM, ZIP, or a manifest.csv.")
    path = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="What each file is called, with its folders."
    )


class WhoseBody(Body):
    """Whose the files of one examination are: a patient whom you see, a new one, or nobody (`leave_out`)."""

    leave_out = serializers.BooleanField(required=False)
    patient = serializers.UUIDField(required=False, allow_null=True)
    record_number = serializers.CharField(required=False, max_length=40)
    family_name = serializers.CharField(required=False, max_length=80)
    given_name = serializers.CharField(required=False, max_length=80)
    birth_date = serializers.DateField(required=False)
    email = serializers.EmailField(required=False, allow_blank=True)


class ReceivedSerializer(serializers.Serializer):
    """How many files of an import have arrived."""

    received = serializers.IntegerField()


class ImportSummarySerializer(Linked):
    """An import in few words."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    state = serializers.ChoiceField(choices=Import.State.choices)
    study_date = serializers.DateField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.SerializerMethodField(help_text="Why it did not get further; empty otherwise.")

    def get_url(self, batch: Import) -> str:
        """Return the import's address."""
        return self.address("import", import_id=batch.pk)

    def get_error(self, batch: Import) -> str:
        """Return the sentence of a failure."""
        return in_the_readers_language(batch.error)


class ProgressSerializer(serializers.Serializer):
    """Files (archives are not counted) and analyses."""

    files = serializers.IntegerField()
    waiting = serializers.IntegerField()
    asked = serializers.IntegerField(help_text="Files that wait until you have said whose they are.")
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = serializers.IntegerField()
    warnings = serializers.IntegerField()
    slices = serializers.IntegerField()
    analysed = serializers.IntegerField()
    failed = serializers.IntegerField()
    is_going_on = serializers.BooleanField(help_text="False once nothing more will happen by itself.")


class ExaminationSerializer(Linked):
    """The files of one examination of one patient; what they say of the patient stands here until it is answered."""

    id = serializers.UUIDField()
    answer_url = serializers.SerializerMethodField(
        help_text="Where you say whose the files are; empty once it is said."
    )
    study_date = serializers.DateField()
    record_number = serializers.CharField(allow_blank=True)
    family_name = serializers.CharField(allow_blank=True)
    given_name = serializers.CharField(allow_blank=True)
    birth_date = serializers.DateField(allow_null=True)
    study_id = serializers.UUIDField(allow_null=True)

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_answer_url(self, group: ImportGroup) -> str | None:
        """Return where the question is answered."""
        return self.address("import_examination", group_id=group.pk) if group.is_open else None


class ImportSerializer(ImportSummarySerializer):
    """An import, how far it is, and the examinations that its files belong to."""

    progress = serializers.SerializerMethodField()
    examinations = serializers.SerializerMethodField()
    files_url = serializers.SerializerMethodField()

    @extend_schema_field(ProgressSerializer())
    def get_progress(self, batch: Import) -> Any:
        """Return the figures."""
        return ProgressSerializer(progress_of(batch)).data

    @extend_schema_field(ExaminationSerializer(many=True))
    def get_examinations(self, batch: Import) -> Any:
        """Return the examinations, in the order of their dates."""
        groups = batch.groups.order_by("study_date", "id")
        return ExaminationSerializer(groups, many=True, context=self.context).data

    def get_files_url(self, batch: Import) -> str:
        """Return where the files are sent and listed."""
        return self.address("import_files", import_id=batch.pk)


class ImportFileSerializer(serializers.Serializer):
    """What became of one file."""

    position = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=ImportFile.State.choices)
    reason = serializers.SerializerMethodField(help_text="Why it was rejected.")
    remark = serializers.SerializerMethodField(help_text="What you may want to know though it was accepted.")
    image_id = serializers.UUIDField(allow_null=True)
    duplicate_of = serializers.UUIDField(source="duplicate_of_id", allow_null=True)

    def get_reason(self, line: ImportFile) -> str:
        """Return the sentence of a refusal."""
        return in_the_readers_language(line.sentence)

    def get_remark(self, line: ImportFile) -> str:
        """Return the sentence of a remark."""
        return in_the_readers_language(line.warning)

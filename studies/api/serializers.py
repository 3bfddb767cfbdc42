"""How patients, studies, slices and answers look in the API.

What the software said, and what a colleague made of it, is None until the study is revealed to the doctor who asks.
"""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.serializers import Body
from studies.api.common import link
from studies.models import Analysis, Diagnosis, EffectiveFinding, FindingReview, Image, Patient, Study, Teaching
from studies.models.study import CLASS_LABELS
from studies.outlines import MAX_OUTLINE_BYTES
from studies.sentences import in_the_readers_language

# What a list of studies may hold besides the states of analyses: a study without any.
STUDY_STATES = ["", *Analysis.State.values]
CLASSES = list(CLASS_LABELS)
SIZES = ("area_px", "area_mm2", "long_axis_px", "long_axis_mm", "short_axis_px", "short_axis_mm")


class Linked(serializers.Serializer):
    """Knows the request, so that addresses can be full ones."""

    def address(self, name: str, **kwargs: Any) -> str:
        """Return the full address of something in the API."""
        return link(self.context["request"], name, **kwargs)


# --- patients ---------------------------------------------------------------------------------------------------------


class PatientSummarySerializer(Linked):
    """A record in few words."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    record_number = serializers.CharField()
    family_name = serializers.CharField()
    given_name = serializers.CharField()
    birth_date = serializers.DateField()

    def get_url(self, patient: Patient) -> str:
        """Return the record's address."""
        return self.address("patient", patient_id=patient.pk)


class PatientSerializer(PatientSummarySerializer):
    """A record."""

    email = serializers.EmailField(allow_blank=True)
    has_login = serializers.SerializerMethodField()
    can_change = serializers.SerializerMethodField()
    teaching = serializers.SerializerMethodField(
        help_text="As noted of a patient without a log-in; null where that is the patient's, or not yours to change."
    )
    studies_url = serializers.SerializerMethodField()

    def get_has_login(self, patient: Patient) -> bool:
        """Return whether the patient can read released reports."""
        return patient.user_id is not None

    def get_can_change(self, patient: Patient) -> bool:
        """Return whether whoever asks may correct the record."""
        return patient.can_be_changed_by(self.context["request"].user)

    @extend_schema_field(serializers.ChoiceField(choices=Teaching.values, allow_null=True))
    def get_teaching(self, patient: Patient) -> str | None:
        """Return the note of a doctor, as the page on which it is changed shows it."""
        return patient.teaching if patient.user_id is None and self.get_can_change(patient) else None

    def get_studies_url(self, patient: Patient) -> str:
        """Return the address of the studies of this patient that may be seen."""
        return f"{self.address('studies')}?patient={patient.pk}"


class PatientBody(Body):
    """A new record."""

    record_number = serializers.CharField(max_length=40, help_text="As on the wristband; once in a hospital.")
    family_name = serializers.CharField(max_length=80)
    given_name = serializers.CharField(max_length=80)
    birth_date = serializers.DateField()
    email = serializers.EmailField(required=False, allow_blank=True)


class PatientChangeBody(PatientBody):
    """What is to be corrected; what is not named stays."""

    record_number = serializers.CharField(max_length=40, required=False)
    family_name = serializers.CharField(max_length=80, required=False)
    given_name = serializers.CharField(max_length=80, required=False)
    birth_date = serializers.DateField(required=False)
    teaching = serializers.ChoiceField(
        choices=Teaching.choices, required=False, help_text="Of a patient without a log-in, who has told you."
    )


# --- studies ----------------------------------------------------------------------------------------------------------


class StudySummarySerializer(Linked):
    """A row of the worklist."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    patient = PatientSummarySerializer()
    study_date = serializers.DateField()
    received_at = serializers.DateTimeField(source="created_at")
    is_synthetic = serializers.BooleanField()
    slice_count = serializers.IntegerField()
    state = serializers.ChoiceField(choices=STUDY_STATES, help_text="What the analyses of its slices come to.")
    is_unread = serializers.BooleanField(help_text="Whether there is an answer that you have not opened since it came.")
    is_ai_revealed = serializers.BooleanField(
        source="is_revealed",
        help_text="False until you have noted a first impression, where your hospital reads first.",
    )
    malignant_probability = serializers.SerializerMethodField(
        help_text="0..1, of the most suspicious slice; empty without an answer, or until it is revealed to you."
    )
    top_class = serializers.SerializerMethodField(help_text="Of the same slice; empty under the same conditions.")

    def get_url(self, study: Study) -> str:
        """Return the study's address."""
        return self.address("study", study_id=study.pk)

    def get_malignant_probability(self, study: Study) -> float | None:
        """Return the figure of the worklist, if it may be seen."""
        return study.triage_malignancy if study.is_revealed else None

    @extend_schema_field(serializers.ChoiceField(choices=CLASSES, allow_null=True))
    def get_top_class(self, study: Study) -> str | None:
        """Return the class of the worklist, if it may be seen."""
        return (study.triage_class or None) if study.is_revealed else None


class FirstImpressionSerializer(serializers.Serializer):
    """What a doctor thought before the software's answer was shown."""

    id = serializers.UUIDField()
    diagnosis = serializers.ChoiceField(choices=Diagnosis.choices)
    suspicion = serializers.IntegerField(min_value=1, max_value=5)
    note = serializers.CharField(allow_blank=True)
    noted_at = serializers.DateTimeField()


class FirstImpressionBody(Body):
    """What you take the study for before you see what the software said."""

    diagnosis = serializers.ChoiceField(choices=Diagnosis.choices)
    suspicion = serializers.IntegerField(min_value=1, max_value=5, help_text="1 highly unlikely … 5 highly suspicious")
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)


class FindingReviewSerializer(Linked):
    """A doctor's judgement of a finding."""

    id = serializers.UUIDField()
    lesion_id = serializers.UUIDField()
    revision = serializers.IntegerField()
    verdict = serializers.ChoiceField(choices=FindingReview.Verdict.choices)
    diagnosis = serializers.ChoiceField(choices=["", *Diagnosis.values])
    malignancy = serializers.IntegerField(allow_null=True, min_value=1, max_value=5)
    note = serializers.CharField(allow_blank=True)
    area_px = serializers.IntegerField(allow_null=True)
    area_mm2 = serializers.FloatField(allow_null=True)
    long_axis_px = serializers.FloatField(allow_null=True)
    long_axis_mm = serializers.FloatField(allow_null=True)
    short_axis_px = serializers.FloatField(allow_null=True)
    short_axis_mm = serializers.FloatField(allow_null=True)
    box = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True, help_text="x, y, width, height of a drawn outline"
    )
    outline_url = serializers.SerializerMethodField()
    by = serializers.SerializerMethodField()
    at = serializers.DateTimeField()

    def get_outline_url(self, review: FindingReview) -> str | None:
        """Return where the drawn outline is."""
        return self.address("review_outline", review_id=review.pk) if review.outline else None

    def get_by(self, review: FindingReview) -> str:
        """Return who judged."""
        return str(review.by)


class ImageReviewSerializer(serializers.Serializer):
    """A doctor's class of a slice."""

    id = serializers.UUIDField()
    revision = serializers.IntegerField()
    diagnosis = serializers.ChoiceField(choices=Diagnosis.choices)
    by = serializers.SerializerMethodField()
    at = serializers.DateTimeField()

    def get_by(self, review: Any) -> str:
        """Return who judged."""
        return str(review.by)


class FindingSerializer(Linked):
    """A finding as it stands: the model's, corrected where a doctor did, or one that a doctor added."""

    id = serializers.UUIDField(source="lesion_id")
    number = serializers.IntegerField()
    source = serializers.ChoiceField(choices=["model", "doctor"])  # type: ignore[assignment] # a field of that name
    verdict = serializers.ChoiceField(choices=["", *FindingReview.Verdict.values])
    diagnosis = serializers.ChoiceField(choices=["", *Diagnosis.values])
    malignancy = serializers.IntegerField(allow_null=True, help_text="1..5, the doctor's")
    probability = serializers.FloatField(allow_null=True, help_text="0..1, the model's")
    box = serializers.ListField(child=serializers.IntegerField(), allow_null=True, help_text="x, y, width, height")
    area_px = serializers.IntegerField(allow_null=True)
    area_mm2 = serializers.FloatField(allow_null=True)
    long_axis_px = serializers.FloatField(allow_null=True)
    long_axis_mm = serializers.FloatField(allow_null=True)
    short_axis_px = serializers.FloatField(allow_null=True)
    short_axis_mm = serializers.FloatField(allow_null=True)
    is_resized = serializers.BooleanField(help_text="Whether the sizes are a doctor's.")
    note = serializers.CharField(allow_blank=True)
    latest_review = serializers.SerializerMethodField(help_text="Name it in `seen` when you judge.")
    outline_url = serializers.SerializerMethodField()
    reviews_url = serializers.SerializerMethodField()

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_latest_review(self, finding: EffectiveFinding) -> str | None:
        """Return the judgement that speaks."""
        return str(finding.review.pk) if finding.review is not None else None

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_outline_url(self, finding: EffectiveFinding) -> str | None:
        """Return where the outline is that counts: the doctor's, else the model's."""
        if finding.outline_review_id is not None:
            return self.address("review_outline", review_id=finding.outline_review_id)
        if finding.finding is not None and not finding.is_resized:
            return self.address("finding_outline", finding_id=finding.finding.pk)
        return None

    def get_reviews_url(self, finding: EffectiveFinding) -> str:
        """Return where the finding is judged."""
        return self.address("finding_reviews", lesion_id=finding.lesion_id)


class AnswerSerializer(Linked):
    """What one model version said about one slice."""

    model_version = serializers.CharField()
    probabilities = serializers.DictField(child=serializers.FloatField(), help_text="0..1 by class")
    malignant_probability = serializers.FloatField()
    malignant_basis = serializers.CharField()
    thresholds = serializers.DictField(child=serializers.FloatField())
    overlay_url = serializers.SerializerMethodField()
    mask_url = serializers.SerializerMethodField()
    activation_url = serializers.SerializerMethodField()

    def get_overlay_url(self, analysis: Analysis) -> str:
        """Return where the slice with the outlines drawn is."""
        return self.address("analysis_overlay", analysis_id=analysis.pk)

    def get_mask_url(self, analysis: Analysis) -> str:
        """Return where the outlines as a mask are."""
        return self.address("analysis_mask", analysis_id=analysis.pk)

    def get_activation_url(self, analysis: Analysis) -> str:
        """Return where the picture of where the model looked is."""
        return self.address("analysis_activation", analysis_id=analysis.pk)


class AnalysisSerializer(Linked):
    """One analysis of one slice: where it stands, and its answer once there is one that may be seen."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    image_id = serializers.UUIDField()
    study_id = serializers.UUIDField(source="image.study_id")
    state = serializers.ChoiceField(choices=Analysis.State.choices)
    attempt = serializers.IntegerField()
    queued_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    duration_ms = serializers.IntegerField(allow_null=True)
    error = serializers.SerializerMethodField(help_text="Why there is no answer; empty otherwise.")
    answer = serializers.SerializerMethodField(help_text="Empty until there is one and it is revealed to you.")

    def get_url(self, analysis: Analysis) -> str:
        """Return the analysis' address."""
        return self.address("analysis", analysis_id=analysis.pk)

    def get_error(self, analysis: Analysis) -> str:
        """Return the sentence of a failure."""
        return in_the_readers_language(analysis.error)

    @extend_schema_field(AnswerSerializer(allow_null=True))
    def get_answer(self, analysis: Analysis) -> Any:
        """Return the answer, if it may be seen."""
        if not analysis.has_answer or not self.context.get("is_revealed"):
            return None
        return AnswerSerializer(analysis, context=self.context).data


class SliceSerializer(Linked):
    """A slice with its newest analysis, and what doctors made of the answer."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    number = serializers.IntegerField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    row_spacing_mm = serializers.FloatField(allow_null=True)
    column_spacing_mm = serializers.FloatField(allow_null=True)
    black_hu = serializers.FloatField(allow_null=True, help_text="Hounsfield units of grey 0; empty where not known.")
    white_hu = serializers.FloatField(allow_null=True, help_text="Hounsfield units of grey 255.")
    sha256 = serializers.CharField(help_text="Of the stored PNG.")
    picture_url = serializers.SerializerMethodField()
    findings_url = serializers.SerializerMethodField(help_text="Where a finding that the model missed is added.")
    class_url = serializers.SerializerMethodField(help_text="Where the class of the slice is judged.")
    analysis = serializers.SerializerMethodField(help_text="The newest one, in whatever state.")
    answer = serializers.SerializerMethodField(help_text="The newest answer, also while the slice is analysed again.")
    findings = serializers.SerializerMethodField(help_text="As they stand; empty until revealed to you.")
    class_review = serializers.SerializerMethodField(help_text="A doctor's class of the slice.")

    def get_url(self, image: Image) -> str:
        """Return the slice's address."""
        return self.address("image", image_id=image.pk)

    def get_picture_url(self, image: Image) -> str:
        """Return where the picture is."""
        return self.address("image_file", image_id=image.pk)

    def get_findings_url(self, image: Image) -> str:
        """Return where findings are added."""
        return self.address("image_findings", image_id=image.pk)

    def get_class_url(self, image: Image) -> str:
        """Return where the class is judged."""
        return self.address("image_class", image_id=image.pk)

    @extend_schema_field(AnalysisSerializer(allow_null=True))
    def get_analysis(self, image: Image) -> Any:
        """Return the newest analysis."""
        analysis = self.context["newest"].get(image.pk)
        return AnalysisSerializer(analysis, context=self.context).data if analysis is not None else None

    @extend_schema_field(AnswerSerializer(allow_null=True))
    def get_answer(self, image: Image) -> Any:
        """Return the newest answer."""
        analysis = self.context["answers"].get(image.pk)
        return AnswerSerializer(analysis, context=self.context).data if analysis is not None else None

    @extend_schema_field(FindingSerializer(many=True, allow_null=True))
    def get_findings(self, image: Image) -> Any:
        """Return the findings as they stand, rejected ones included."""
        found = self.context["findings"].get(image.pk)
        return FindingSerializer(found, many=True, context=self.context).data if found is not None else None

    @extend_schema_field(ImageReviewSerializer(allow_null=True))
    def get_class_review(self, image: Image) -> Any:
        """Return the class that a doctor gave."""
        review = self.context["classes"].get(image.pk)
        return ImageReviewSerializer(review).data if review is not None else None


class StudySerializer(Linked):
    """A study with all of its slices."""

    id = serializers.UUIDField()
    url = serializers.SerializerMethodField()
    patient = PatientSummarySerializer()
    study_date = serializers.DateField()
    accession_number = serializers.CharField(allow_blank=True)
    clinical_question = serializers.CharField(allow_blank=True)
    is_synthetic = serializers.BooleanField()
    received_at = serializers.DateTimeField(source="created_at")
    state = serializers.ChoiceField(choices=STUDY_STATES)
    can_change = serializers.SerializerMethodField()
    is_ai_revealed = serializers.SerializerMethodField()
    first_impression = serializers.SerializerMethodField(help_text="Yours.")
    slices = serializers.SerializerMethodField()

    def get_url(self, study: Study) -> str:
        """Return the study's address."""
        return self.address("study", study_id=study.pk)

    def get_can_change(self, study: Study) -> bool:
        """Return whether whoever asks may work on it."""
        return study.can_be_changed_by(self.context["request"].user)

    def get_is_ai_revealed(self, study: Study) -> bool:
        """Return whether whoever asks may see what the software said."""
        return bool(self.context["is_revealed"])

    @extend_schema_field(FirstImpressionSerializer(allow_null=True))
    def get_first_impression(self, study: Study) -> Any:
        """Return the first impression of whoever asks."""
        own = study.first_impressions.filter(doctor=self.context["request"].user).first()
        return FirstImpressionSerializer(own).data if own is not None else None

    @extend_schema_field(SliceSerializer(many=True))
    def get_slices(self, study: Study) -> Any:
        """Return the slices in order."""
        return SliceSerializer(self.context["images"], many=True, context=self.context).data


class StudyStateSerializer(serializers.Serializer):
    """Where the analyses of a study stand; says nothing of what they found."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=STUDY_STATES)
    is_finished = serializers.BooleanField(help_text="Whether nothing waits and nothing is being analysed any more.")
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Slices by state.")


class StudyUploadBody(serializers.Serializer):
    """A new study, as multipart/form-data: of a patient whom you see already, or of a new one."""

    patient = serializers.UUIDField(required=False, help_text="A patient whom you see already; else the next four.")
    record_number = serializers.CharField(required=False, max_length=40)
    family_name = serializers.CharField(required=False, max_length=80)
    given_name = serializers.CharField(required=False, max_length=80)
    birth_date = serializers.DateField(required=False)
    email = serializers.EmailField(required=False)
    study_date = serializers.DateField()
    clinical_question = serializers.CharField(required=False, max_length=2000)
    slices = serializers.ListField(child=serializers.FileField(), help_text="PNG, JPEG or DICOM; at most 40.")


class SlicesUploadBody(serializers.Serializer):
    """More slices of a study, as multipart/form-data."""

    slices = serializers.ListField(child=serializers.FileField(), help_text="PNG, JPEG or DICOM; at most 40.")


class PersonWithAccessSerializer(serializers.Serializer):
    """A doctor who may see a study."""

    id = serializers.UUIDField()
    name = serializers.CharField(source="get_full_name")
    can_change = serializers.BooleanField()


class ShareBody(Body):
    """Which colleague of your hospital is to see the study."""

    colleague = serializers.UUIDField()
    can_change = serializers.BooleanField(required=False, help_text="Also work on it, not only read it.")


class ColleagueSerializer(serializers.Serializer):
    """A doctor of your hospital."""

    id = serializers.UUIDField()
    name = serializers.CharField(source="get_full_name")


class MarkBody(Body):
    """Studies to be marked as read, or as unread."""

    studies = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=25)
    is_read = serializers.BooleanField()


class RetryBody(Body):
    """Studies whose failed slices are to be analysed again."""

    studies = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=25)


class CountSerializer(serializers.Serializer):
    """How many it were."""

    count = serializers.IntegerField()


class OpinionBody(Body):
    """What may be said of any finding."""

    diagnosis = serializers.ChoiceField(choices=["", *Diagnosis.values], required=False)
    malignancy = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=5)
    note = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    diameter_mm = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=100_000)
    diameter_px = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=100_000)
    outline_png = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=2 * MAX_OUTLINE_BYTES,
        help_text="Base64 of a black PNG of the slice's size in which the finding is white.",
    )


class JudgementBody(OpinionBody):
    """What you say of a finding; what is not named stays as it stood."""

    verdict = serializers.ChoiceField(choices=["accepted", "rejected", "corrected"])
    seen = serializers.UUIDField(
        required=False,
        allow_null=True,
        help_text="The judgement that was the latest when you looked (`latest_review`); none where there was none.",
    )


class AddedFindingBody(OpinionBody):
    """A finding that the model missed; an outline or a diameter is needed."""

    id = serializers.UUIDField(required=False, help_text="An identifier of your own, so that sent twice it is one.")


class ClassBody(Body):
    """What you take a slice for."""

    diagnosis = serializers.ChoiceField(choices=Diagnosis.choices)
    seen = serializers.UUIDField(required=False, allow_null=True, help_text="The judgement that was the latest.")

"""Forms of patients who come without a hospital, and of the doctors who take their studies over."""

import datetime
import uuid
from contextlib import suppress
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from accounts.models import Hospital
from studies.consent import CURRENT
from studies.forms import ExaminationForm, RowField, check_birth_date, date_field
from studies.intake import Upload
from studies.models import Study
from studies.models.handover import hospitals_with_doctors

ADULT_YEARS = 18
ACCEPTED = ".png,.jpg,.jpeg,.dcm,image/png,image/jpeg,application/dicom"


class OwnSliceForm(ExaminationForm):
    """One slice of one's own, and the consent. ``refusal`` is the upload handler's sentence where it stopped."""

    # The new study's identifier, made with the empty form: a form that is sent twice is one study.
    token = forms.CharField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)
    # Which wording was on the page; agreeing to one is no consent to the next.
    consent_version = forms.CharField(required=False, initial=CURRENT, widget=forms.HiddenInput)
    birth_date = date_field(
        label=_("Your date of birth"), missing=_("Please enter your date of birth."), autocomplete="bday"
    )
    consent = forms.BooleanField(
        label=_("I have read this and agree"),
        error_messages={"required": _("Without your consent nothing is uploaded. Please read it and tick the box.")},
    )
    slice = forms.FileField(
        label=_("Picture of the slice"),
        help_text=_(
            "One axial slice of a CT of your chest as PNG, JPEG or DICOM, for example from the CD of your examination. "
            "Names and numbers in a DICOM file are not kept."
        ),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ACCEPTED}),
        error_messages={"required": _("Please choose the file of the slice.")},
    )

    field_order = ["token", "consent_version", "consent", "birth_date", "study_date", "clinical_question", "slice"]

    def __init__(self, *args: Any, refusal: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["study_date"].label = _("When was the CT taken?")
        self.fields["clinical_question"].label = _("What would you like to know?")
        self.fields["clinical_question"].help_text = _("For the doctor, should you hand the examination over.")
        if refusal:
            # What did arrive is a part at best.
            self.files = MultiValueDict()
            self.fields["slice"].error_messages["required"] = refusal

    def clean_token(self) -> uuid.UUID:
        """Return an identifier that no study has."""
        with suppress(ValueError):
            token = uuid.UUID(self.cleaned_data["token"])
            if not Study.objects.filter(id=token).exists():
                return token
        return uuid.uuid4()

    def clean_birth_date(self) -> datetime.date:
        """Refuse a date on which nobody who may consent was born."""
        born = check_birth_date(self.cleaned_data["birth_date"])
        assert born is not None  # noqa: S101 - narrows the type: the field is required
        today = timezone.localdate()
        age = today.year - born.year - ((today.month, today.day) < (born.month, born.day))
        if age < ADULT_YEARS:
            raise ValidationError(
                _("Only adults can upload here. For a child, please ask a hospital to take the examination in.")
            )
        return born

    def clean_slice(self) -> UploadedFile:
        """Refuse several files at once: a request can carry more than the page offers."""
        if len(self.files.getlist("slice")) > 1:
            raise ValidationError(_("Please choose one slice only. You can upload another one afterwards."))
        chosen: UploadedFile = self.cleaned_data["slice"]
        return chosen

    def clean(self) -> dict[str, Any]:
        """Refuse a consent to another wording than the one in force, and a study from before the birth."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("consent") and cleaned.get("consent_version") != CURRENT:
            self.add_error("consent", _("The text has changed since you opened this page. Please read it again."))
        born, study_date = cleaned.get("birth_date"), cleaned.get("study_date")
        if born and study_date and study_date < born:
            self.add_error("study_date", _("The date lies before your birth. Please check both dates."))
        return cleaned

    @property
    def upload(self) -> Upload:
        """The chosen file, read into memory."""
        file = self.cleaned_data["slice"]
        return Upload(content=file.read(), name=file.name or "")


class HospitalField(RowField):
    """A choice of a hospital, told apart by department."""

    def label_from_instance(self, obj: Any) -> str:
        """Return name and department."""
        return f"{obj.name} · {obj.department}" if obj.department else obj.name


class HandoverForm(forms.Form):
    """To which hospital an upload goes."""

    hospital = HospitalField(
        label=_("Hospital"),
        queryset=Hospital.objects.none(),
        empty_label=_("Please choose"),
        error_messages={
            "required": _("Please choose a hospital."),
            "invalid_choice": _("Please choose a hospital from the list."),
        },
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["hospital"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - narrows the type
        field.queryset = hospitals_with_doctors()


class TakeOverForm(forms.Form):
    """Under which number the hospital keeps the patient; not asked where it has a record of this log-in already."""

    record_number = forms.CharField(
        label=_("Record number"),
        max_length=40,
        help_text=_("Of a new record at your hospital. Change the proposal where your hospital numbers otherwise."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": _("Please enter a record number.")},
    )

    def __init__(self, *args: Any, has_record: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if has_record:
            del self.fields["record_number"]


class DeclineForm(forms.Form):
    """Why a hospital does not take a study over; the patient reads it."""

    reason = forms.CharField(
        label=_("Reason, for the patient"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": 500}),
        error_messages={"required": _("Please say why, so that the patient knows what to do next.")},
    )

"""Forms for patients, studies, slices, sharing and claiming."""

import datetime
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from accounts.models import Role, User
from studies.intake import NewPatient, Upload
from studies.models import Patient, Study
from studies.ordering import natural_key

OLDEST_BIRTH_DATE = datetime.date(1880, 1, 1)
OLDEST_STUDY_DATE = datetime.date(1971, 10, 1)  # the first CT scan of a patient


def date_field(*, label: Any, missing: Any, autocomplete: str = "off") -> forms.DateField:
    """Make a date field that browsers show as a date picker; ``missing`` is the sentence where none is given."""
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "autocomplete": autocomplete})
    sentences = {"required": missing, "invalid": _("This is not a date. Please enter it as year-month-day.")}
    return forms.DateField(label=label, widget=widget, error_messages=sentences)


def check_birth_date(value: datetime.date | None) -> datetime.date | None:
    """Return the date; raise ``ValidationError`` for one on which no living patient was born."""
    if value is None:
        return None
    if value > timezone.localdate():
        raise ValidationError(_("The date of birth lies in the future. Please check it."))
    if value < OLDEST_BIRTH_DATE:
        raise ValidationError(_("The date of birth lies too far in the past. Please check the year."))
    return value


class ManyFilesInput(forms.ClearableFileInput):
    """A file input that takes several files at once."""

    allow_multiple_selected = True


class SlicesField(forms.FileField):
    """One or more slice files; cleans to a list of uploads."""

    def __init__(self, **kwargs: Any) -> None:
        widget = ManyFilesInput(attrs={"accept": ".png,.jpg,.jpeg,.dcm,image/png,image/jpeg,application/dicom"})
        super().__init__(widget=widget, allow_empty_file=True, **kwargs)

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        """Return the files in the order in which they were chosen."""
        files = data if isinstance(data, list) else [data]
        return [super(SlicesField, self).clean(file, initial) for file in files or [None]]


class SlicesForm(forms.Form):
    """Slices for a study. ``refusal`` is the sentence of the upload handler when it stopped the request."""

    slices = SlicesField(
        label=_("Slice"),
        help_text=_(
            "PNG, JPEG or DICOM. You may choose several slices; they are numbered in the order of their names."
        ),
        error_messages={"required": _("Please choose the file of the slice.")},
    )

    def __init__(self, *args: Any, refusal: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if refusal:
            # What did arrive is a part at best.
            self.files = MultiValueDict()
            self.fields["slices"].error_messages["required"] = refusal

    @property
    def uploads(self) -> list[Upload]:
        """The chosen files, read into memory, in the order of their names (numbers in them counted as numbers)."""
        files = sorted(self.cleaned_data["slices"], key=lambda file: natural_key(file.name or ""))
        return [Upload(content=file.read(), name=file.name or "") for file in files]

    def refuse(self, sentences: Sequence[str]) -> None:
        """Show why files were refused, beside the field."""
        self.add_error("slices", list(sentences))


class PatientForm(forms.ModelForm):
    """A record as a doctor enters or corrects it."""

    class Meta:
        model = Patient
        fields = ["record_number", "family_name", "given_name", "birth_date", "email"]
        widgets = {
            "record_number": forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            "family_name": forms.TextInput(attrs={"autocomplete": "off"}),
            "given_name": forms.TextInput(attrs={"autocomplete": "off"}),
            "birth_date": forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "autocomplete": "off"}),
            "email": forms.EmailInput(attrs={"autocomplete": "off"}),
        }
        help_texts = {
            "record_number": _("As on the patient's wristband or letter."),
            "email": _("Only with this address can the patient log in and read released reports."),
        }

    def __init__(self, *args: Any, doctor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.instance.hospital = doctor.hospital

    def clean_birth_date(self) -> datetime.date | None:
        """Refuse a date in the future or of another age."""
        return check_birth_date(self.cleaned_data["birth_date"])

    @property
    def new_patient(self) -> NewPatient:
        """The record to be made."""
        return NewPatient(**self.cleaned_data)


class PatientChangeForm(PatientForm):
    """A record as a doctor corrects it. What a patient with a log-in says about teaching is the patient's to change."""

    class Meta(PatientForm.Meta):
        fields = [*PatientForm.Meta.fields, "teaching"]
        labels = {"teaching": _("Slices teach the model")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.user_id is not None:
            del self.fields["teaching"]


class RowField(forms.ModelChoiceField):
    """A choice among rows with a UUID, in which nonsense is one more row that is not on offer."""

    def to_python(self, value: Any) -> Any:
        """Return the row, or None for the empty entry. Raises ``ValidationError`` for anything not on offer."""
        try:
            return super().to_python(value)
        except ValidationError as error:
            raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice") from error


class KnownPatientField(RowField):
    """A choice among known patients in which the empty entry is an answer too: a new patient."""

    def validate(self, value: Any) -> None:
        """Accept every patient on offer, and none."""

    def label_from_instance(self, obj: Any) -> str:
        """Tell namesakes apart by birth date and record number."""
        return f"{obj} · {obj.birth_date:%d %b %Y} · {obj.record_number}"


class WhoseForm(forms.Form):
    """Whose it is: a patient whom the doctor sees already, or a new one.

    Known patients are found by searching, so that the page is as light at 100,000 patients as at ten; any of the
    doctor's patients may be chosen, whether or not the search shows them.
    """

    MATCHES_SHOWN = 10
    is_patient_needed = True
    # Whether what stands in the fields of a new patient counts for nothing once a known one is chosen.
    is_known_patient_enough = False

    find = forms.CharField(
        label=_("Find a patient by name or record number"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    patient = KnownPatientField(
        label=_("Whose study is it?"),
        queryset=Patient.objects.none(),
        empty_label=_("A new patient, entered below"),
        blank=True,
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": _("Please choose one of your patients from the list.")},
    )
    record_number = forms.CharField(
        label=_("Record number"),
        max_length=40,
        help_text=_("As on the patient's wristband or letter."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": _("Please enter the record number of the new patient.")},
    )
    family_name = forms.CharField(
        label=_("Family name"),
        max_length=80,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": _("Please enter the family name of the new patient.")},
    )
    given_name = forms.CharField(
        label=_("Given name"),
        max_length=80,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": _("Please enter the given name of the new patient.")},
    )
    birth_date = date_field(label=_("Date of birth"), missing=_("Please enter the date of birth of the new patient."))
    email = forms.EmailField(
        label=_("E-mail address"),
        required=False,
        help_text=_("Only with this address can the patient log in and read released reports."),
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )

    needed_of_a_new_patient = ("record_number", "family_name", "given_name", "birth_date")

    def __init__(self, *args: Any, doctor: User, patient_id: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.doctor = doctor
        field = self.fields["patient"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - narrows the type
        field.queryset = Patient.objects.visible_to(doctor)
        # A patient whom the doctor does not see is as if none were named.
        with suppress(ValidationError):
            self.initial["patient"] = field.clean(patient_id)
        is_new = not self.is_for_known_patient and (self.is_patient_needed or self.names_a_new_patient)
        for name in self.needed_of_a_new_patient:
            self.fields[name].required = is_new
        self.fields["find"].widget.attrs |= {
            "hx-get": reverse("studies:patient_find"),
            "hx-trigger": "input changed delay:300ms",
        }
        field.widget.choices = [("", field.empty_label), *((p.pk, field.label_from_instance(p)) for p in self.matches)]

    @cached_property
    def matches(self) -> list[Patient]:
        """The patients on offer: the one who is chosen, and the first of those whom the search finds."""
        visible = Patient.objects.visible_to(self.doctor)
        chosen, words = self["patient"].value(), str(self["find"].value() or "").replace("\x00", "")[:100]
        found = list(visible.matching(words)[: self.MATCHES_SHOWN + 1]) if words.strip() else []
        with suppress(ValidationError):
            found = [
                *(visible.filter(pk=chosen) if chosen else ()),
                *(patient for patient in found if str(patient.pk) != str(chosen)),
            ]
        return found[: self.MATCHES_SHOWN + 1]

    @property
    def has_no_match(self) -> bool:
        """Whether something is searched and nobody found; a patient who is chosen already does not count as found."""
        chosen = str(self["patient"].value() or "")
        return bool(self["find"].value()) and all(str(patient.pk) == chosen for patient in self.matches)

    @property
    def has_more_matches(self) -> bool:
        """Whether the search finds more patients than are on offer."""
        return len(self.matches) > self.MATCHES_SHOWN

    @property
    def is_for_known_patient(self) -> bool:
        """Whether a patient is chosen, so that the page may fold away the fields of a new one."""
        return bool(self["patient"].value())

    @property
    def names_a_new_patient(self) -> bool:
        """Whether something is entered about a new patient."""
        return self.is_bound and any(self[name].value() for name in PatientForm.Meta.fields)

    def clean_birth_date(self) -> datetime.date | None:
        """Refuse a date in the future or of another age."""
        return check_birth_date(self.cleaned_data["birth_date"])

    def clean(self) -> dict[str, Any]:
        """Take either a known patient or a complete new one, never a mixture."""
        cleaned = super().clean() or {}
        patient = cleaned.get("patient")
        if patient is None and "patient" not in self.errors:
            self._clean_new_patient(cleaned)
        elif (
            patient is not None
            and not self.is_known_patient_enough
            and any(cleaned.get(name) for name in self.needed_of_a_new_patient)
        ):
            self.add_error(
                "patient",
                _("You chose a patient and also entered a new one. Please keep one of the two and empty the other."),
            )
        return cleaned

    def _clean_new_patient(self, cleaned: dict[str, Any]) -> None:
        number = cleaned.get("record_number")
        if not number:
            return
        twin = Patient.objects.filter(hospital=self.doctor.hospital, record_number__iexact=number).first()
        if twin is None:
            return
        if Patient.objects.visible_to(self.doctor).filter(id=twin.id).exists():
            sentence = _("You already have a patient with this record number: please choose %(patient)s above.")
            self.add_error("record_number", ValidationError(sentence, params={"patient": str(twin)}))
        else:
            self.add_error(
                "record_number",
                _(
                    "Your hospital already has a patient with this record number. Please check the number, or ask a "
                    "colleague who treats this patient to share a study with you."
                ),
            )

    @property
    def chosen_patient(self) -> Patient | NewPatient:
        """Whose it is."""
        if patient := self.cleaned_data["patient"]:
            return patient
        return NewPatient(**{name: self.cleaned_data[name] for name in PatientForm.Meta.fields})


class ExaminationForm(forms.Form):
    """When it was taken, and the question that is asked of it."""

    study_date = date_field(label=_("Study date"), missing=_("Please enter the date of the examination."))
    clinical_question = forms.CharField(
        label=_("Clinical question"),
        max_length=2000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": 2000}),
    )

    def clean_study_date(self) -> datetime.date:
        """Refuse a date in the future, or before there was CT."""
        value = self.cleaned_data["study_date"]
        if value > timezone.localdate():
            raise ValidationError(_("The study date lies in the future. Please check it."))
        if value < OLDEST_STUDY_DATE:
            raise ValidationError(_("The study date lies before the first CT scanners. Please check the year."))
        return value


class StudyForm(WhoseForm, ExaminationForm, SlicesForm):
    """A new study: of a patient whom the doctor sees already, or of a new one, with the first slices."""

    # The new study's identifier, made with the empty form: a form that is sent twice is one study.
    token = forms.CharField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)

    field_order = ["token", "find", "patient", *PatientForm.Meta.fields, "study_date", "clinical_question", "slices"]

    def clean_token(self) -> uuid.UUID:
        """Return an identifier that no study has."""
        with suppress(ValueError):
            token = uuid.UUID(self.cleaned_data["token"])
            if not Study.objects.filter(id=token).exists():
                return token
        return uuid.uuid4()

    def clean(self) -> dict[str, Any]:
        """Refuse a study from before the patient's birth."""
        cleaned = super().clean()
        patient = cleaned.get("patient")
        born = patient.birth_date if patient else cleaned.get("birth_date")
        study_date = cleaned.get("study_date")
        if born and study_date and study_date < born:
            self.add_error("study_date", _("The study date lies before the patient's birth. Please check both dates."))
        return cleaned


class ShareForm(forms.Form):
    """Gives a colleague of the same hospital access to a study."""

    colleague = RowField(
        label=_("Colleague"),
        queryset=User.objects.none(),
        empty_label=_("Please choose"),
        error_messages={
            "required": _("Please choose a colleague."),
            "invalid_choice": _("Please choose a colleague of your own hospital from the list."),
        },
    )
    can_change = forms.BooleanField(
        label=_("may also work on it: add slices, analyse again, write the report"), required=False
    )

    def __init__(self, *args: Any, study: Study, doctor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["colleague"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - narrows the type
        field.queryset = colleagues_of(doctor)


class ClaimForm(forms.Form):
    """What a person must know to claim the record that a hospital keeps about them."""

    record_number = forms.CharField(
        label=_("Record number"),
        max_length=40,
        help_text=_("It stands on the letter that you got from the hospital."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    birth_date = date_field(
        label=_("Your date of birth"), missing=_("Please enter your date of birth."), autocomplete="bday"
    )


class EmergencyForm(forms.Form):
    """Which record is needed in an emergency, and why."""

    use_required_attribute = False
    SHORTEST_REASON = 20
    record_number = forms.CharField(
        label=_("Record number"),
        max_length=40,
        help_text=_("As on the wristband or the referral."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    birth_date = date_field(
        label=_("The patient's date of birth"), missing=_("Please enter the patient's date of birth.")
    )
    reason = forms.CharField(
        label=_("Why you need this record now"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "true"}),
        help_text=_("The patient and the administrators of your hospital read this. Please write no medical details."),
        error_messages={"required": _("Please say why you need this record now.")},
    )

    def clean_reason(self) -> str:
        """Return the reason in one line; refuse one that says nothing."""
        reason = " ".join(self.cleaned_data["reason"].split())
        if len(reason) < self.SHORTEST_REASON or len(set(reason.lower())) < 8:
            raise ValidationError(
                _("Please give the reason in a sentence of at least %(count)d characters."),
                params={"count": self.SHORTEST_REASON},
            )
        return reason


class PatientFilterForm(forms.Form):
    """What to show in the list of patients; nonsense in the address is ignored, never an error."""

    q = forms.CharField(
        label=_("Name or record number"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )

    @property
    def search(self) -> str:
        """The words to look for, empty where they do not read."""
        self.is_valid()
        return self.cleaned_data.get("q") or ""


def colleagues_of(doctor: User) -> models.QuerySet[User]:
    """Return the other approved doctors of the doctor's hospital, by name."""
    return User.objects.filter(
        hospital=doctor.hospital, role=Role.DOCTOR, is_active=True, approved_at__isnull=False
    ).exclude(id=doctor.id)

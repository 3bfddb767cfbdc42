"""Forms of bulk imports: what to send, and whose files it is that do not say so themselves."""

import uuid
from contextlib import suppress
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext_lazy as _

from studies.forms import ExaminationForm, ManyFilesInput, PatientForm, WhoseForm
from studies.intake import NewPatient
from studies.models import ImportGroup, Patient


class FilesField(forms.FileField):
    """Any number of files, none included; cleans to a list of uploads."""

    def __init__(self, *, attrs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(widget=ManyFilesInput(attrs=attrs), required=False, allow_empty_file=True, **kwargs)

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        """Return the files in the order in which they were chosen; their names are anybody's."""
        return [file for file in (data if isinstance(data, list) else [data]) if file]


class ImportForm(WhoseForm, ExaminationForm):
    """A new bulk import. ``refusal`` is the sentence of the upload handler when it stopped the request.

    With JavaScript the files follow one by one (``sends_files_apart``); without, they come along.
    """

    is_patient_needed = False
    # The import's identifier, made with the empty form: a form that is sent twice is one import.
    token = forms.CharField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)
    sends_files_apart = forms.BooleanField(required=False, widget=forms.HiddenInput)
    announced_files = forms.IntegerField(required=False, min_value=0, max_value=10_000_000, widget=forms.HiddenInput)
    loose_files = FilesField(
        label=_("Files"),
        help_text=_("Slices as PNG, JPEG or DICOM, or a ZIP archive of them. You may choose many."),
        attrs={},
    )
    folder = FilesField(
        label=_("A whole folder"),
        help_text=_("Everything in it and in the folders below is sent."),
        attrs={"webkitdirectory": True},
    )

    field_order = [
        "token",
        "patient",
        *PatientForm.Meta.fields,
        "study_date",
        "clinical_question",
        "loose_files",
        "folder",
    ]

    def __init__(self, *args: Any, refusal: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refusal = refusal
        if refusal:
            # What did arrive is a part at best.
            self.files = MultiValueDict()

    @property
    def import_id(self) -> uuid.UUID:
        """The identifier that the import is to have."""
        with suppress(ValueError):
            return uuid.UUID(self.cleaned_data["token"])
        return uuid.uuid4()

    @property
    def uploads(self) -> list[UploadedFile]:
        """The files that came along."""
        return [*self.cleaned_data["loose_files"], *self.cleaned_data["folder"]]

    @property
    def patient_if_any(self) -> Patient | NewPatient | None:
        """Whose the files are that do not say so themselves, if the doctor said so."""
        return self.chosen_patient if self.cleaned_data["patient"] or self.names_a_new_patient else None

    def clean(self) -> dict[str, Any]:
        """Ask for files unless they follow one by one."""
        cleaned = super().clean()
        if self.refusal:
            self.add_error("loose_files", self.refusal)
        elif not (cleaned.get("sends_files_apart") or cleaned.get("loose_files") or cleaned.get("folder")):
            self.add_error("loose_files", ValidationError(_("Please choose the files or the folder to import.")))
        return cleaned


class GroupForm(WhoseForm):
    """Whose the files of one examination are; what they say about the patient is filled in beforehand."""

    is_known_patient_enough = True

    def __init__(self, *args: Any, group: ImportGroup, **kwargs: Any) -> None:
        said = {name: getattr(group, name) for name in self.needed_of_a_new_patient}
        super().__init__(*args, initial=said | kwargs.pop("initial", {}), **kwargs)

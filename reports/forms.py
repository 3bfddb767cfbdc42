"""The forms of a report: the draft's text, and the confirmation of a signature."""

from django import forms
from django.utils.translation import gettext_lazy as _

from reports.models import Report


class ImpressionField(forms.CharField):
    """A text that a signature needs, although a draft may be saved without it."""

    def validate(self, value: str) -> None:
        """Accept an empty text."""


class DraftForm(forms.ModelForm):
    """The text of a draft, and the revision that it was opened at."""

    use_required_attribute = False
    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=1)

    class Meta:
        model = Report
        fields = ["findings_text", "impression"]
        field_classes = {"impression": ImpressionField}
        widgets = {
            "findings_text": forms.Textarea(attrs={"rows": 14, "spellcheck": "true"}),
            "impression": forms.Textarea(attrs={"rows": 8, "spellcheck": "true"}),
        }
        help_texts = {
            "findings_text": _(
                "What is to be seen. The text was written from the measurements; change whatever is wrong."
            ),
            "impression": _(
                "What it means; needed for your signature. The patient reads this first, next to an explanation in "
                "plain words."
            ),
        }

    def clean_findings_text(self) -> str:
        """Browsers send line ends as CRLF; one kind is stored, so that equal texts are equal."""
        return _one_kind_of_line_ends(self.cleaned_data["findings_text"])

    def clean_impression(self) -> str:
        """As for the findings."""
        return _one_kind_of_line_ends(self.cleaned_data["impression"])


class SignForm(forms.Form):
    """The signature's explicit confirmation, given to exactly this text and these analyses."""

    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=1)
    evidence = forms.CharField(widget=forms.HiddenInput, max_length=64)
    is_confirmed = forms.BooleanField(
        label=_("I have looked at the pictures, I have read the text above, and I sign it as my report."),
        error_messages={"required": _("Please tick the box to confirm that you have read what you sign.")},
    )


def _one_kind_of_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

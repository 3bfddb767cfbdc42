"""The forms of a report: the draft's text, the confirmation of a signature, and whom a patient shows it to."""

import unicodedata
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from reports.models import Report
from reports.sharing import days_to_choose
from reports.text import DraftText

# What a letter can print; more is a slip of the keyboard or of the clipboard.
MAX_LINES = 500


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Shown as wanted, although ``ImpressionField`` lets an empty one be saved.
        self.fields["impression"].required = True

    @classmethod
    def of(cls, report: Report, *, text: DraftText | None = None) -> "DraftForm":
        """Return the form of a draft as it is stored, or with another text that is not stored yet."""
        shown = text or report.text
        initial = {"findings_text": shown.findings_text, "impression": shown.impression, "revision": report.revision}
        return cls(initial=initial)

    @property
    def text(self) -> DraftText:
        """The text of a valid form."""
        data = self.cleaned_data
        return DraftText(findings_text=data["findings_text"], impression=data["impression"])

    def clean_findings_text(self) -> str:
        """Return the text as it is stored."""
        return plain_text(self.cleaned_data["findings_text"])

    def clean_impression(self) -> str:
        """Return the text as it is stored."""
        return plain_text(self.cleaned_data["impression"])


class DiscardForm(forms.Form):
    """The confirmation that exactly this text is thrown away."""

    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=1)

    @classmethod
    def of(cls, report: Report) -> "DiscardForm":
        """Return the form for the text that is stored now."""
        return cls(initial={"revision": report.revision})


class SignForm(forms.Form):
    """The signature's explicit confirmation, given to exactly this text and these analyses."""

    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=1)
    evidence = forms.CharField(widget=forms.HiddenInput, max_length=64)
    is_confirmed = forms.BooleanField(
        label=_("I have looked at the pictures, I have read the text above, and I sign it as my report."),
        error_messages={"required": _("Please tick the box to confirm that you have read what you sign.")},
    )


class AddendumForm(forms.Form):
    """A remark to be added to a signed report, and the explicit signature under it."""

    use_required_attribute = False
    text = forms.CharField(
        label=_("Addendum"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "true"}),
        help_text=_("What is to be added. The report above stays as it was signed."),
        error_messages={"required": _("Please write what is to be added.")},
    )
    is_confirmed = forms.BooleanField(
        label=_("I have read the report and this addendum, and I sign the addendum."),
        error_messages={"required": _("Please tick the box to confirm that you have read what you sign.")},
    )

    def clean_text(self) -> str:
        """Return the text as it is stored."""
        return plain_text(self.cleaned_data["text"])


class AmendForm(forms.Form):
    """Why a signed report is amended."""

    use_required_attribute = False
    reason = forms.CharField(
        label=_("What is corrected, and why"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "true"}),
        help_text=_("Printed on the amended report; colleagues and the patient read it."),
        error_messages={"required": _("Please say what is corrected and why.")},
    )

    def clean_reason(self) -> str:
        """Return the reason as it is stored."""
        return plain_text(self.cleaned_data["reason"])


class ShareForm(forms.Form):
    """Who is to read a report besides its patient, and for how long."""

    use_required_attribute = False
    email = forms.EmailField(
        label=_("E-mail address of the reader"),
        help_text=_("The link goes there, and so does a code each time that somebody opens it. Please check it twice."),
        error_messages={
            "required": _("Please enter the e-mail address of whoever is to read the report."),
            "invalid": _("This is not a complete e-mail address. It looks like name@example.org."),
        },
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    days = forms.TypedChoiceField(label=_("The link works for"), coerce=int, initial=7)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [
            (days, ngettext("%(days)d day", "%(days)d days", days) % {"days": days}) for days in days_to_choose()
        ]
        self.fields["days"].choices = choices  # type: ignore[attr-defined]


class CodeForm(forms.Form):
    """The code from the mail that opens a shared report."""

    use_required_attribute = False
    code = forms.CharField(
        label=_("Code"),
        max_length=20,
        help_text=_("Eight digits, from the e-mail that we have just sent."),
        error_messages={"required": _("Please type the code from the e-mail.")},
        widget=forms.TextInput(
            attrs={"inputmode": "numeric", "autocomplete": "one-time-code", "class": "mono", "size": 12}
        ),
    )

    def clean_code(self) -> str:
        """Return the digits; a code may be typed with spaces or dashes."""
        return "".join(character for character in self.cleaned_data["code"] if character not in " -\u00a0\u202f")


def plain_text(text: str) -> str:
    """Return the text with one kind of line end and without control characters, so that equal texts are equal."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    if unified.count("\n") >= MAX_LINES:
        raise forms.ValidationError(
            _("This text has more than %(count)d lines, which no letter can print. Please shorten it.")
            % {"count": MAX_LINES}
        )
    return "".join(c for c in unified if c in "\n\t" or unicodedata.category(c) != "Cc")

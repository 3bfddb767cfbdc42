"""Forms for what a doctor says: a first impression, the judgement of a finding, the class of a slice."""

import base64
import binascii
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from studies.models import Diagnosis, FindingReview, FirstImpression, Suspicion
from studies.outlines import MAX_OUTLINE_BYTES
from studies.reviewing import Judgement

# Normal tissue is no finding: that is what "reject" is for.
FINDING_DIAGNOSES = [choice for choice in Diagnosis.choices if choice[0] != Diagnosis.NORMAL]


class FirstImpressionForm(forms.ModelForm):
    """What the doctor thinks before the software's answer is shown."""

    use_required_attribute = False

    class Meta:
        model = FirstImpression
        fields = ["diagnosis", "suspicion", "note"]
        widgets = {"note": forms.Textarea(attrs={"rows": 3, "spellcheck": "true"})}
        help_texts = {"note": _("What you see, in your own words. It stays with your first impression.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["diagnosis"] = forms.ChoiceField(
            label=_("What do you take it for?"),
            choices=[("", _("Please choose")), *Diagnosis.choices],
            error_messages={"required": _("Please choose what you take it for; “Unsure” is an answer too.")},
        )
        self.fields["suspicion"] = forms.TypedChoiceField(
            label=_("How suspicious of malignancy is it?"),
            choices=[("", _("Please choose")), *Suspicion.choices],
            coerce=int,
            error_messages={"required": _("Please choose how suspicious it is.")},
        )


class FindingReviewForm(forms.Form):
    """A judgement of a finding. ``seen`` names the latest judgement on the page, ``token`` a finding to be added.

    ``outline_kept`` carries an outline through a page that has to be sent again, because browsers do not keep files.
    """

    use_required_attribute = False

    verdict = forms.ChoiceField(choices=FindingReview.Verdict.choices, widget=forms.HiddenInput)
    diagnosis = forms.ChoiceField(label=_("Class"), choices=[("", _("not said")), *Diagnosis.choices], required=False)
    malignancy = forms.TypedChoiceField(
        label=_("Malignancy"),
        choices=[("", _("not said")), *Suspicion.choices],
        coerce=int,
        empty_value=None,
        required=False,
    )
    diameter_mm = forms.FloatField(
        label=_("Longest diameter in mm"),
        required=False,
        error_messages={"invalid": _("A diameter is a number larger than zero. Please check it.")},
    )
    diameter_px = forms.FloatField(
        label=_("Longest diameter in pixels"),
        required=False,
        error_messages={"invalid": _("A diameter is a number larger than zero. Please check it.")},
    )
    outline = forms.FileField(
        label=_("Outline"),
        required=False,
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".png,image/png"}),
        help_text=_("A black PNG of the slice's size in which the finding is white, from any drawing program."),
    )
    note = forms.CharField(
        label=_("Note"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "true"})
    )
    seen = forms.UUIDField(required=False, widget=forms.HiddenInput)
    token = forms.UUIDField(required=False, widget=forms.HiddenInput)
    outline_kept = forms.CharField(required=False, widget=forms.HiddenInput, max_length=2 * MAX_OUTLINE_BYTES)

    def __init__(self, *args: Any, refusal: str = "", has_spacing: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refusal = refusal
        # Only offered less: a request that names "normal" is told in a sentence what to do instead.
        self.fields["diagnosis"].widget.choices = [("", _("not said")), *FINDING_DIAGNOSES]
        self.unused_diameter = "diameter_px" if has_spacing else "diameter_mm"

    @property
    def diameter(self) -> forms.BoundField:
        """The diameter's field in the unit that the slice allows."""
        return self["diameter_mm" if self.unused_diameter == "diameter_px" else "diameter_px"]

    def clean(self) -> dict[str, Any]:
        """Read the outline, whichever way it came."""
        cleaned = super().clean() or {}
        if self.refusal:
            self.add_error("outline", self.refusal)
        file = cleaned.get("outline")
        kept = cleaned.get("outline_kept") or ""
        outline = None
        if file:
            # One byte more than allowed is enough to tell that it is too large.
            outline = file.read(MAX_OUTLINE_BYTES + 1)
        elif kept:
            try:
                outline = base64.b64decode(kept, validate=True)
            except (binascii.Error, ValueError):
                self.add_error("outline", _("The outline did not arrive whole. Please draw it again."))
        cleaned["outline_png"] = outline
        return cleaned

    @property
    def judgement(self) -> Judgement:
        """What the doctor said; what the request does not name is not said."""
        cleaned = self.cleaned_data
        return Judgement(
            verdict=cleaned["verdict"],
            diagnosis=cleaned["diagnosis"] if "diagnosis" in self.data else None,
            malignancy=cleaned["malignancy"],
            is_malignancy_said="malignancy" in self.data,
            note=cleaned["note"] if "note" in self.data else None,
            outline=cleaned["outline_png"],
            diameter_mm=cleaned["diameter_mm"],
            diameter_px=cleaned["diameter_px"],
        )

    @property
    def kept_outline(self) -> str:
        """The outline that was sent, as text for the page that is shown again; empty without a usable one."""
        outline = getattr(self, "cleaned_data", {}).get("outline_png") if "outline" not in self.errors else None
        return base64.b64encode(outline).decode() if outline and len(outline) <= MAX_OUTLINE_BYTES else ""


class ImageReviewForm(forms.Form):
    """The doctor's class of one slice."""

    use_required_attribute = False

    diagnosis = forms.ChoiceField(
        label=_("Class of the slice"),
        choices=[("", _("Please choose")), *Diagnosis.choices],
        error_messages={"required": _("Please choose a class; “Unsure” is an answer too.")},
    )
    seen = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # It shares a page with the form that adds a finding.
        super().__init__(*args, **({"auto_id": "id_slice_%s"} | kwargs))

"""The administration of the model in use: versions beside the champion, and who changed what.

Every administrator may look; whoever may change the model for all hospitals finds the buttons (``ml.registry``).
"""

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.audit import client_address
from ml import registry
from ml.errors import MlError
from ml.models import Deployment, ModelVersion
from studies.models import ShadowAnswer


class LookedAt(admin.ModelAdmin):
    """Rows that every administrator may look at and nobody changes by hand."""

    list_per_page = 50
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Allow administrators: the role is the permission."""
        return getattr(request.user, "is_administrator", False)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow administrators."""
        return getattr(request.user, "is_administrator", False)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: ``ml.registry`` writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: what has answered stays known."""
        return False


class PromotionForm(forms.Form):
    """Why, and whether the figures are overruled."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
    )
    is_forced = forms.BooleanField(
        label=gettext_lazy("Promote it although figures speak against it"),
        required=False,
        help_text=gettext_lazy("Needs a reason, which is recorded together with what is overruled."),
    )


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
    )


class ChallengeForm(forms.Form):
    """How many of the analyses the challenger repeats."""

    percent = forms.IntegerField(
        label=gettext_lazy("Percent of the analyses"),
        min_value=1,
        max_value=100,
        initial=20,
        help_text=gettext_lazy("They are repeated while nobody waits; no clinician sees what comes out."),
    )


@admin.register(ModelVersion)
class ModelVersionAdmin(LookedAt):
    """Versions of the model, with the acts of the registry as pages that ask before they do anything."""

    list_display = ["version", "state", "accuracy", "malignancy_auc", "slice_dice", "registered_at", "registered_by"]
    list_filter = ["state"]
    list_select_related = ["registered_by"]
    search_fields = ["version", "note"]
    search_help_text = gettext_lazy("Version or note.")
    ordering = ["-registered_at", "-version"]
    fields = [
        "version",
        "state",
        "challenge_share",
        "trained_at",
        "registered_at",
        "registered_by",
        "note",
        "data_fingerprint",
        "sha256",
        "compared",
        "shadow",
    ]
    readonly_fields = ["compared", "shadow"]
    change_form_template = "admin/ml/modelversion/change_form.html"
    change_list_template = "admin/ml/modelversion/change_list.html"

    @admin.display(description=gettext_lazy("accuracy, unseen pictures"))
    def accuracy(self, row: ModelVersion) -> str:
        """The accuracy on pictures that were never trained on."""
        return _number(row.figure("test_unseen_accuracy"))

    @admin.display(description=gettext_lazy("benign or malignant: AUC"))
    def malignancy_auc(self, row: ModelVersion) -> str:
        """How well benign and malignant nodules are told apart."""
        return _number(row.figure("malignancy_auc"))

    @admin.display(description=gettext_lazy("outline: Dice, whole slices"))
    def slice_dice(self, row: ModelVersion) -> str:
        """How well tumours of whole slices are outlined."""
        return _number(row.figure("slice_dice"))

    @admin.display(description=gettext_lazy("figures beside the champion's"))
    def compared(self, row: ModelVersion) -> SafeString:
        """The leak-free figures, and what speaks against a promotion."""
        return format_html_join(
            "\n",
            "<div>{}: {} ({}) {}</div>",
            (
                (one.name, _number(one.candidate), _number(one.champion), one.objection)
                for one in registry.compared_with_champion(row)
            ),
        )

    @admin.display(description=gettext_lazy("answers in shadow"))
    def shadow(self, row: ModelVersion) -> SafeString | str:
        """How its answers in shadow agree with the champion's and with the doctors' classes."""
        found = ShadowAnswer.objects.of_version(row.version).compare()
        if not found.answers:
            return "–"
        return format_html(
            "<div>{}</div><div>{}</div>",
            _(
                "%(answers)d answers: %(classes)d with the same class, %(verdicts)d with the same verdict; %(failed)d "
                "failed."
            )
            % {
                "answers": found.answers,
                "classes": found.same_class,
                "verdicts": found.same_verdict,
                "failed": found.failed,
            },
            _("Of %(judged)d slices that doctors judged, it was right in %(challenger)d, the champion in %(champion)d.")
            % {
                "judged": found.corrections.judged,
                "challenger": found.corrections.challenger_right,
                "champion": found.corrections.champion_right,
            },
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one version, and what may be done with it."""
        may_act = registry.may_promote(request.user)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "may_act": may_act})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """List the versions, with the acts that concern none of them alone."""
        context = {"may_act": registry.may_promote(request.user), "challenger": registry.challenger()}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def get_urls(self) -> list[URLPattern]:
        """Add a page for each act."""
        wrap = self.admin_site.admin_view
        return [
            path("rollback/", wrap(self.rollback), name="ml_modelversion_rollback"),
            path("end-challenge/", wrap(self.end_challenge), name="ml_modelversion_end_challenge"),
            path("<uuid:object_id>/promote/", wrap(self.promote), name="ml_modelversion_promote"),
            path("<uuid:object_id>/challenge/", wrap(self.challenge), name="ml_modelversion_challenge"),
            *super().get_urls(),
        ]

    def promote(self, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
        """Ask, then let a version answer."""
        row = _of_somebody_who_may(request, object_id)
        form = PromotionForm(request.POST or None)
        return self._act(
            request,
            form=form,
            title=_("Let the version %(version)s answer") % {"version": row.version},
            button=_("Promote"),
            act=lambda values: registry.promote(row.version, **values),
            compared=registry.compared_with_champion(row),
        )

    def challenge(self, request: HttpRequest, object_id: uuid.UUID) -> HttpResponse:
        """Ask for the share, then let a version answer in shadow."""
        row = _of_somebody_who_may(request, object_id)

        def act(values: dict[str, Any]) -> Deployment:
            return registry.challenge(row.version, share=values.pop("percent") / 100, **values)

        title = _("Let the version %(version)s answer in shadow") % {"version": row.version}
        return self._act(request, form=ChallengeForm(request.POST or None), title=title, button=_("Challenge"), act=act)

    def rollback(self, request: HttpRequest) -> HttpResponse:
        """Ask, then let the version answer that answered before."""
        _of_somebody_who_may(request)
        return self._act(
            request,
            form=ReasonForm(request.POST or None),
            title=_("Go back to the version before"),
            button=_("Roll back"),
            act=lambda values: registry.rollback(**values),
        )

    def end_challenge(self, request: HttpRequest) -> HttpResponse:
        """Ask, then end the challenge."""
        _of_somebody_who_may(request)
        return self._act(
            request,
            form=forms.Form(request.POST or None),
            title=_("End the challenge"),
            button=_("End it"),
            act=lambda values: registry.stop_challenge(**values),
        )

    def _act(
        self,
        request: HttpRequest,
        *,
        form: forms.Form,
        title: str,
        button: str,
        act: Callable[[dict[str, Any]], Deployment],
        compared: Any = (),
    ) -> HttpResponse:
        back = reverse("admin:ml_modelversion_changelist")
        if request.method == "POST" and form.is_valid():
            try:
                done = act({**form.cleaned_data, "by": request.user, "address": client_address(request)})
            except MlError as error:
                form.add_error(None, str(error))
            else:
                text = f"{done.get_kind_display()} {done.version.version}"
                messages.success(request, _("Done: %(what)s.") % {"what": text})
                return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "form": form,
            "button": button,
            "compared": compared,
            "champion": registry.champion(),
            "back": back,
            "opts": self.model._meta,
        }
        status = 400 if form.errors else 200
        return TemplateResponse(request, "admin/ml/modelversion/act.html", context, status=status)


@admin.register(Deployment)
class DeploymentAdmin(LookedAt):
    """Who changed the model in use, when and why."""

    list_display = ["at", "kind", "version", "replaced", "who", "is_forced", "challenge_share", "reason"]
    list_filter = ["kind", "is_forced", "at"]
    list_select_related = ["version", "replaced", "by"]
    search_fields = ["version__version", "reason", "operator"]
    search_help_text = gettext_lazy("Version, reason, or account of the machine.")
    ordering = ["-id"]
    fields = [
        "at",
        "kind",
        "version",
        "replaced",
        "who",
        "address",
        "is_forced",
        "objections",
        "challenge_share",
        "reason",
    ]
    readonly_fields = ["who"]

    @admin.display(description=gettext_lazy("by"))
    def who(self, row: Deployment) -> str:
        """The person, or the account of the command line."""
        return row.who


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _of_somebody_who_may(request: HttpRequest, version_id: uuid.UUID | None = None) -> Any:
    """Return the version asked for. Raises ``PermissionDenied`` for an administrator who may look only."""
    if not registry.may_promote(request.user):
        raise PermissionDenied
    return get_object_or_404(ModelVersion, pk=version_id) if version_id is not None else None

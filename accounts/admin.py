"""The administration: an administrator works on the people of the own hospital, a superuser on everybody.

Nobody is deleted here, nobody's password is seen or set here, and nobody changes their own rights.
"""

import ipaddress
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.invitations import send_approval, send_invitation, send_rejection, send_second_factor_removed
from accounts.models import AccessEvent, EmergencyAccess, Hospital, Role, User
from accounts.roles import apply_role, let_change_the_model, let_change_the_model_no_more
from accounts.second_factor import remove_second_factor

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

admin.site.site_header = _("Administration of the radiology portal")
admin.site.site_title = _("Administration")
admin.site.index_title = _("What you may look after")
# The one log-in page, with its limits on wrong passwords; the admin's own would have none.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# Secrets of second steps and keys of sessions are nobody's to read or make; an action on the person removes them.
admin.site.unregister([Authenticator, UserSession])


HISTORY_FIELDS = (
    "is_active",
    "approved_at",
    "approved_by",
    "rejected_at",
    "rejected_by",
    "rejection_reason",
    "last_login",
    "created_at",
)


def administrator_of(request: HttpRequest) -> User:
    """Return who works in the administration. Raises ``PermissionDenied`` for anybody else."""
    if not isinstance(request.user, User) or not request.user.is_administrator:
        raise PermissionDenied
    return request.user


class ApprovalFilter(admin.SimpleListFilter):
    """Doctors who wait, and doctors who work."""

    title = _("approval")
    parameter_name = "approval"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, Any]]:
        """Name the two choices."""
        return (
            ("waiting", _("waiting for approval")),
            ("approved", _("approved")),
            ("rejected", _("rejected")),
        )

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        """Restrict the list."""
        if self.value() == "waiting":
            waiting = queryset.filter(role=Role.DOCTOR, approved_at__isnull=True, rejected_at__isnull=True)
            return waiting.filter(is_active=True)
        if self.value() == "rejected":
            return queryset.filter(role=Role.DOCTOR, rejected_at__isnull=False)
        if self.value() == "approved":
            return queryset.filter(role=Role.DOCTOR, approved_at__isnull=False)
        return queryset


class UserForm(forms.ModelForm):
    """A person as an administrator edits them; the address is stored in lower case, as log-in expects."""

    class Meta:
        model = User
        fields = ("email", "given_name", "family_name", "role", "hospital", "licence_number")

    def clean_email(self) -> str:
        """Return the address in lower case. Raises ``ValidationError`` if somebody else already uses it."""
        email = self.cleaned_data["email"].strip().lower()
        others = EmailAddress.objects.filter(email__iexact=email)
        if self.instance.pk:
            others = others.exclude(user_id=self.instance.pk)
        if others.exists():
            raise ValidationError(
                _("Somebody already uses this e-mail address. Please search the list of people for it.")
            )
        return email

    def clean(self) -> dict[str, Any]:
        """Hold that doctors belong to a hospital. Raises ``ValidationError`` beside the field."""
        data = super().clean() or {}
        if data.get("role") == Role.DOCTOR and "hospital" in self.fields and not data.get("hospital"):
            self.add_error("hospital", _("A doctor belongs to a hospital. Please choose it."))
        return data


class RejectionForm(forms.Form):
    """Why a request for access is turned down."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=_("The doctor reads it in the e-mail. Say what is missing and what to do next."),
        error_messages={"required": _("Please say why, so that the doctor knows what to do next.")},
    )


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    """People: create doctors, approve, deactivate. The password is always chosen by its owner, by a mailed link."""

    form = UserForm
    list_display = ("full_name", "email", "role", "is_approved", "has_confirmed", "is_active", "last_login")
    list_select_related = ("hospital",)
    search_fields = ("email", "given_name", "family_name", "licence_number")
    search_help_text = _("Name, e-mail address or licence number.")
    ordering = ("family_name", "given_name")
    actions = (
        "approve",
        "reject",
        "invite",
        "remove_second_factor",
        "deactivate",
        "reactivate",
        "model_manager",
        "no_model_manager",
    )
    list_per_page = 50

    @admin.display(description=_("name"), ordering="family_name")
    def full_name(self, person: User) -> str:
        """Family name first, as lists are read."""
        return f"{person.family_name}, {person.given_name}"

    @admin.display(description=_("approved"), boolean=True)
    def is_approved(self, person: User) -> bool | None:
        """Whether a doctor is approved; unknown (a dash) for everybody else."""
        return person.approved_at is not None if person.role == Role.DOCTOR else None

    @admin.display(description=_("e-mail confirmed"), boolean=True)
    def has_confirmed(self, person: User) -> bool:
        """Whether the address is proven to be theirs."""
        return bool(getattr(person, "has_confirmed_email", False))

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Return everybody for a superuser, the doctors and administrators of the own hospital for others."""
        who = administrator_of(request)
        confirmed = EmailAddress.objects.filter(user=OuterRef("pk"), email__iexact=OuterRef("email"), verified=True)
        people = super().get_queryset(request).annotate(has_confirmed_email=Exists(confirmed))
        if who.is_superuser:
            return people
        if who.hospital_id is None:
            return people.none()
        return people.filter(hospital_id=who.hospital_id, is_superuser=False)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer rights over all hospitals to superusers only."""
        actions = super().get_actions(request)
        if not administrator_of(request).is_superuser:
            for name in ("model_manager", "no_model_manager"):
                actions.pop(name, None)
        return actions

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """Show the hospital only to whom there is more than one."""
        return (*self.list_display, "hospital") if administrator_of(request).is_superuser else self.list_display

    def get_list_filter(self, request: HttpRequest) -> tuple[Any, ...]:
        """Offer the hospital as a filter only to whom there is more than one."""
        own = (ApprovalFilter, "role", "is_active")
        return (*own, "hospital") if administrator_of(request).is_superuser else own

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Ask for little when somebody is created; show the history afterwards."""
        who = administrator_of(request)
        person = ("email", "given_name", "family_name")
        work = ("role", "hospital", "licence_number")
        if obj is not None:
            return [
                (None, {"fields": person}),
                (_("Work"), {"fields": work}),
                (_("Access"), {"fields": HISTORY_FIELDS}),
            ]
        invitation = _("We mail them a link with which they choose their own password.")
        if who.is_superuser:
            return [(None, {"fields": person, "description": invitation}), (_("Work"), {"fields": work})]
        # The admin prints a description as HTML, so the hospital's name is escaped here.
        approved = _("This person becomes an approved doctor of your hospital, %s.") % who.hospital
        description = format_html("{} {}", approved, invitation)
        return [(None, {"fields": (*person, "licence_number"), "description": description})]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Leave role, hospital and e-mail to superusers: whoever may change them may become anybody."""
        if administrator_of(request).is_superuser:
            return HISTORY_FIELDS
        return HISTORY_FIELDS if obj is None else (*HISTORY_FIELDS, "role", "hospital", "email")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, str | list[str]]:
        """Start a new person as a doctor."""
        return {**super().get_changeform_initial_data(request), "role": Role.DOCTOR.value}

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Store the person; invite whom we create; follow a changed role or address through."""
        who = administrator_of(request)
        if not change:
            if not who.is_superuser:
                obj.role = Role.DOCTOR
                obj.hospital = who.hospital
            obj.set_unusable_password()
            super().save_model(request, obj, form, change)
            EmailAddress.objects.create(user=obj, email=obj.email, primary=True, verified=False)
            if obj.role == Role.DOCTOR:
                obj.approve(by=who)
            transaction.on_commit(lambda: send_invitation(request, user=obj), robust=True)
        else:
            if "role" in form.changed_data:
                obj.approved_at = obj.approved_by = obj.rejected_at = obj.rejected_by = None
                obj.rejection_reason = ""
                if obj.role != Role.ADMINISTRATOR:
                    obj.is_staff = obj.is_superuser = False
            super().save_model(request, obj, form, change)
            if "email" in form.changed_data:
                EmailAddress.objects.filter(user=obj).delete()
                EmailAddress.objects.create(user=obj, email=obj.email, primary=True, verified=False)
        apply_role(obj)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Allow whom the group allows, on the people whom they manage."""
        is_allowed = super().has_change_permission(request, obj)
        return is_allowed and (obj is None or obj.may_be_managed_by(administrator_of(request)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Allow administrators who have a hospital to put people in, and superusers."""
        who = request.user
        return (
            super().has_add_permission(request) and isinstance(who, User) and bool(who.is_superuser or who.hospital_id)
        )

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Never: people are deactivated."""
        return False

    def _each(
        self, request: HttpRequest, people: QuerySet[User], act: "Callable[[User], StrOrPromise | None]", *, note: str
    ) -> int:
        """Do ``act`` to everybody who may be managed and note it in their history. Returns to how many it was done.

        ``act`` returns the reason why it did not happen, or None; the reason is shown behind the person's name.
        """
        who = administrator_of(request)
        done = 0
        for person in people.select_related("hospital"):
            reason = act(person) if person.may_be_managed_by(who) else _("you cannot change this person")
            if reason:
                messages.warning(request, f"{person}: {reason}.")
            else:
                self.log_change(request, person, note)
                done += 1
        return done

    @admin.action(description=_("Approve: let these doctors work"), permissions=["change"])
    def approve(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let doctors with a confirmed address work, and tell them."""
        who = administrator_of(request)

        def approve_one(person: User) -> "StrOrPromise | None":
            if person.role != Role.DOCTOR:
                return _("only doctors are approved")
            if person.approved_at is not None:
                return _("is approved already")
            if not person.is_active:
                return _("is deactivated; let them log in again first")
            if not self.has_confirmed(person):
                return _("has not confirmed the e-mail address yet, so we do not know whose it is")
            if not person.licence_number:
                return _("has no licence number; open the person, enter it and check it in the register")
            with transaction.atomic():
                person.approve(by=who)
                transaction.on_commit(lambda: send_approval(request, user=person), robust=True)
            return None

        done = self._each(request, queryset, approve_one, note="Approved.")
        text = ngettext(
            "%d doctor was approved and told by e-mail.", "%d doctors were approved and told by e-mail.", done
        )
        if done:
            messages.success(request, text % done)

    @admin.action(description=_("Reject: turn their request down, with a reason"), permissions=["change"])
    def reject(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Ask for the reason, then turn requests down and mail it."""
        who = administrator_of(request)
        form = RejectionForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": _("Turn requests down"),
                "form": form,
                "people": queryset,
                "action": "reject",
                "opts": self.model._meta,
            }
            return TemplateResponse(request, "admin/accounts/user/reject.html", context)

        def reject_one(person: User) -> "StrOrPromise | None":
            if person.role != Role.DOCTOR:
                return _("only doctors are rejected")
            if person.approved_at is not None:
                return _("is approved already; deactivate them instead")
            with transaction.atomic():
                person.reject(by=who, reason=form.cleaned_data["reason"])
                transaction.on_commit(lambda: send_rejection(request, user=person), robust=True)
            return None

        done = self._each(request, queryset, reject_one, note="Rejected.")
        text = ngettext(
            "%d request was turned down and answered by e-mail.",
            "%d requests were turned down and answered by e-mail.",
            done,
        )
        if done:
            messages.success(request, text % done)
        return None

    @admin.action(description=_("Remove the second step: they lost phone and recovery codes"), permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let people set up a new second step at their next log-in; their sessions end and they are told."""

        def remove_one(person: User) -> "StrOrPromise | None":
            with transaction.atomic():
                if not remove_second_factor(person):
                    return _("has no second step")
                transaction.on_commit(lambda: send_second_factor_removed(request, user=person), robust=True)
            return None

        done = self._each(request, queryset, remove_one, note="Second step removed.")
        text = ngettext("The second step of %d person was removed.", "The second step of %d people was removed.", done)
        if done:
            messages.success(request, text % done)

    @admin.action(description=_("Invite again: mail a link to choose a password"), permissions=["change"])
    def invite(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Mail the link once more to people who have not chosen a password yet."""

        def invite_one(person: User) -> "StrOrPromise | None":
            if not person.is_active:
                return _("is deactivated; let them log in again first")
            if person.has_usable_password():
                return _("has a password; “Forgotten your password?” on the log-in page helps")
            send_invitation(request, user=person)
            return None

        done = self._each(request, queryset, invite_one, note="Invited again.")
        if done:
            messages.success(request, ngettext("%d invitation was sent.", "%d invitations were sent.", done) % done)

    @admin.action(description=_("Deactivate: end their access, keep their work"), permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """End people's access."""

        def deactivate_one(person: User) -> "StrOrPromise | None":
            if not person.is_active:
                return _("is deactivated already")
            person.deactivate()
            return None

        done = self._each(request, queryset, deactivate_one, note="Deactivated.")
        if done:
            messages.success(
                request, ngettext("%d person was deactivated.", "%d people were deactivated.", done) % done
            )

    @admin.action(description=_("Reactivate: let them log in again"), permissions=["change"])
    def reactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Undo a deactivation."""

        def reactivate_one(person: User) -> "StrOrPromise | None":
            if person.is_active:
                return _("may log in already")
            person.reactivate()
            return None

        done = self._each(request, queryset, reactivate_one, note="Reactivated.")
        if done:
            text = ngettext("%d person may log in again.", "%d people may log in again.", done)
            messages.success(request, text % done)

    @admin.action(description=_("Let them change the model in use, for all hospitals"), permissions=["change"])
    def model_manager(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Give administrators the right; only superusers are offered this."""

        def allow_one(person: User) -> "StrOrPromise | None":
            if person.role != Role.ADMINISTRATOR:
                return _("is no administrator")
            if not let_change_the_model(person):
                return _("may do it already")
            note = "may change the model in use"
            AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=person, note=note)
            return None

        done = self._each(request, queryset, allow_one, note="May change the model in use.")
        text = ngettext("%d person may change the model in use.", "%d people may change the model in use.", done)
        if done:
            messages.success(request, text % done)

    @admin.action(description=_("Let them change the model in use no more"), permissions=["change"])
    def no_model_manager(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Take the right away; only superusers are offered this."""

        def refuse_one(person: User) -> "StrOrPromise | None":
            if not let_change_the_model_no_more(person):
                return _("was not given this right")
            note = "may change the model in use no more"
            AccessEvent.record(request, action=AccessEvent.Action.CHANGED, target=person, note=note)
            return None

        done = self._each(request, queryset, refuse_one, note="May change the model in use no more.")
        text = ngettext(
            "%d person may change the model in use no more.", "%d people may change the model in use no more.", done
        )
        if done:
            messages.success(request, text % done)


@admin.register(Hospital)
class HospitalAdmin(admin.ModelAdmin):
    """Hospitals: an administrator keeps the own one's address up to date, a superuser creates them."""

    list_display = ("name", "department", "phone", "reads_first", "teaches_model")
    search_fields = ("name", "department")
    search_help_text = _("Name or department.")
    fields = ("name", "department", "address", "phone", "reads_first", "teaches_model")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Hospital]:
        """Return all for a superuser, the own one for others."""
        who = administrator_of(request)
        hospitals = super().get_queryset(request)
        return hospitals if who.is_superuser else hospitals.filter(pk=who.hospital_id)

    def get_readonly_fields(self, request: HttpRequest, obj: Hospital | None = None) -> tuple[str, ...]:
        """Leave the name, by which people choose their hospital, to superusers."""
        return () if administrator_of(request).is_superuser else ("name",)

    def has_change_permission(self, request: HttpRequest, obj: Hospital | None = None) -> bool:
        """Allow the own hospital."""
        who = request.user
        is_allowed = super().has_change_permission(request, obj)
        return is_allowed and (
            obj is None or (isinstance(who, User) and (who.is_superuser or who.hospital_id == obj.pk))
        )

    def has_delete_permission(self, request: HttpRequest, obj: Hospital | None = None) -> bool:
        """Never: people and patients belong to it."""
        return False


@admin.register(AccessEvent)
class AccessEventAdmin(admin.ModelAdmin):
    """Who looked at, changed or took what and when: read-only, without a name of any patient."""

    list_display = ("at", "actor", "action", "target_type", "target_id", "patient_id", "address", "note")
    list_select_related = ("actor",)
    list_filter = ("action", "target_type", "at")
    search_fields = ("actor__email", "actor__family_name", "actor__given_name")
    search_help_text = _(
        "A person's name or e-mail, the identifier from a page's address or of a patient's record, or the address of a "
        "computer."
    )
    date_hierarchy = "at"
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessEvent]:
        """Return everything for a superuser; for others what was done by people or to records of the own hospital."""
        who = administrator_of(request)
        events = super().get_queryset(request)
        if who.is_superuser:
            return events
        if who.hospital_id is None:
            return events.none()
        return events.filter(hospital_id=who.hospital_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AccessEvent], search_term: str
    ) -> tuple[QuerySet[AccessEvent], bool]:
        """Find by identifier or network address what looks like one, by person everything else."""
        term = search_term.strip()
        with suppress(ValueError):
            row_id = uuid.UUID(term)
            return queryset.filter(Q(target_id=row_id) | Q(patient_id=row_id)), False
        with suppress(ValueError):
            return queryset.filter(address=str(ipaddress.ip_address(term))), False
        return super().get_search_results(request, queryset, search_term)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: the portal writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: AccessEvent | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessEvent | None = None) -> bool:
        """Never."""
        return False


@admin.register(EmergencyAccess)
class EmergencyAccessAdmin(AccessEventAdmin):
    """Records of the own hospital that doctors opened without a grant, with the reasons they gave."""

    list_display = ("at", "actor", "note", "patient_id", "address")  # type: ignore[assignment] # other columns
    list_filter = ("at",)  # type: ignore[assignment]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessEvent]:
        """Return the emergencies among the events that this administrator may see."""
        return super().get_queryset(request).filter(action=AccessEvent.Action.OPENED_IN_EMERGENCY)

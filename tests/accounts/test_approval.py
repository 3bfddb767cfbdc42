"""Administrators decide on requests of doctors: approve, turn down with a reason, and help after a lost phone."""

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.core import mail
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from accounts.roles import create_roles
from tests.accounts.test_sessions import logged_in
from tests.factories import AdministratorFactory, DoctorFactory, UserFactory

pytestmark = pytest.mark.django_db

REASON = "This licence number is not in the register. Please call us with the right one."


def confirm(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


@pytest.fixture
def administrator(client: Client) -> User:
    """An administrator of one hospital, logged in."""
    user = AdministratorFactory()
    create_roles()
    client.force_login(user)
    return user


@pytest.fixture
def waiting(administrator: User) -> User:
    """A doctor who waits for the approval of that hospital."""
    return confirm(DoctorFactory(hospital=administrator.hospital, approved_at=None))


def act(client: Client, action: str, *people: User, **data: str) -> str:
    answers = {"action": action, "_selected_action": [str(person.pk) for person in people], **data}
    return client.post(reverse("admin:accounts_user_changelist"), answers, follow=True).content.decode()


def test_a_rejection_asks_for_the_reason_first_and_changes_nothing_without(client: Client, waiting: User) -> None:
    for data in ({}, {"reason": "  "}):
        page = act(client, "reject", waiting, **data)
        assert "Turn requests down" in page
        assert waiting.licence_number in page
    assert "Please say why" in page
    waiting.refresh_from_db()
    assert waiting.is_awaiting_approval
    assert mail.outbox == []


def test_a_rejected_doctor_is_told_why_by_mail_and_on_the_page(
    client: Client, administrator: User, waiting: User, django_capture_on_commit_callbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        page = act(client, "reject", waiting, reason=REASON)
    assert "1 request was turned down" in page
    waiting.refresh_from_db()
    assert (waiting.is_rejected, waiting.is_awaiting_approval, waiting.is_approved_doctor) == (True, False, False)
    assert (waiting.rejected_by, waiting.rejection_reason) == (administrator, REASON)
    assert [message.to for message in mail.outbox] == [[waiting.email]]
    assert REASON in mail.outbox[0].body
    doctor = Client()
    doctor.force_login(waiting)
    assert REASON in doctor.get(reverse("home")).content.decode()
    assert doctor.get(reverse("studies:study_list")).status_code == 404


def test_an_approval_undoes_a_rejection(client: Client, waiting: User, administrator: User) -> None:
    waiting.reject(by=administrator, reason=REASON)
    act(client, "approve", waiting)
    waiting.refresh_from_db()
    assert waiting.is_approved_doctor
    assert (waiting.rejected_at, waiting.rejected_by, waiting.rejection_reason) == (None, None, "")


def test_the_list_tells_waiting_from_rejected(client: Client, waiting: User, administrator: User) -> None:
    rejected = DoctorFactory(hospital=administrator.hospital, approved_at=None)
    rejected.reject(by=administrator, reason=REASON)
    for choice, expected in (("waiting", {waiting}), ("rejected", {rejected})):
        answer = client.get(reverse("admin:accounts_user_changelist"), {"approval": choice})
        assert set(answer.context["cl"].queryset) == expected


def test_nobody_is_decided_on_across_hospitals_or_by_themselves(client: Client, administrator: User) -> None:
    foreign = confirm(DoctorFactory(approved_at=None))
    act(client, "reject", foreign, reason=REASON)
    act(client, "approve", foreign)
    foreign.refresh_from_db()
    assert foreign.is_awaiting_approval
    itself = DoctorFactory(approved_at=None)
    patient = UserFactory()
    for who in (itself, patient, AdministratorFactory(), DoctorFactory(hospital=itself.hospital)):
        with pytest.raises(PermissionDenied):
            itself.reject(by=who, reason=REASON)
        with pytest.raises(PermissionDenied):
            itself.approve(by=who)


def test_an_approved_doctor_is_deactivated_not_rejected(client: Client, administrator: User) -> None:
    doctor = DoctorFactory(hospital=administrator.hospital)
    assert "deactivate them instead" in act(client, "reject", doctor, reason=REASON)
    with pytest.raises(ValidationError, match="waits for approval"):
        doctor.reject(by=administrator, reason=REASON)


def test_the_database_holds_what_a_rejection_is(waiting: User) -> None:
    people = User.objects.filter(pk=waiting.pk)
    with pytest.raises(IntegrityError), transaction.atomic():
        people.update(rejected_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        people.update(rejected_at=timezone.now(), rejection_reason=REASON, approved_at=timezone.now())


def test_nobody_is_approved_without_a_licence_number(client: Client, waiting: User) -> None:
    User.objects.filter(pk=waiting.pk).update(licence_number="")
    assert "has no licence number" in act(client, "approve", waiting)
    waiting.refresh_from_db()
    assert waiting.is_awaiting_approval


def test_a_lost_phone_is_helped_by_the_own_hospital_only(
    client: Client, administrator: User, django_capture_on_commit_callbacks
) -> None:
    own = confirm(DoctorFactory(hospital=administrator.hospital))
    foreign = confirm(DoctorFactory())
    session = logged_in(own)
    for doctor in (own, foreign):
        TOTP.activate(doctor, "JBSWY3DPEHPK3PXP")
    with django_capture_on_commit_callbacks(execute=True):
        page = act(client, "remove_second_factor", own, foreign)
    assert "The second step of 1 person was removed." in page
    assert list(Authenticator.objects.values_list("user", flat=True)) == [foreign.pk]
    assert session.get(reverse("accounts:profile")).status_code == 302, "the old session goes on"
    assert mail.outbox[-1].subject == "The second step of your account was removed"
    assert mail.outbox[-1].to == [own.email]
    assert "has no second step" in act(client, "remove_second_factor", own)

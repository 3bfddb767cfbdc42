"""The administration: what an administrator of one hospital can reach, change and never change."""

import datetime
import uuid

import pytest
from allauth.account.models import EmailAddress
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core import mail
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AccessEvent, Hospital, Role, User
from accounts.roles import ADMINISTRATOR_PERMISSIONS, ADMINISTRATORS, apply_role, create_roles
from tests.accounts.test_signup import link_in_mail
from tests.factories import AdministratorFactory, DoctorFactory, HospitalFactory, UserFactory

pytestmark = pytest.mark.django_db

USERS = "admin:accounts_user_changelist"


def superuser() -> User:
    return User.objects.create_superuser("root@example.org", "a-long-password", given_name="Rosa", family_name="Root")


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


def act(client: Client, action: str, *people: User) -> str:
    response = client.post(
        reverse(USERS), {"action": action, "_selected_action": [str(person.pk) for person in people]}, follow=True
    )
    return response.content.decode()


def shown_people(client: Client) -> set[User]:
    return set(client.get(reverse(USERS)).context["cl"].queryset)


def test_administrator_sees_exactly_the_people_of_the_own_hospital(client: Client, administrator: User) -> None:
    colleague = DoctorFactory(hospital=administrator.hospital)
    waiting = DoctorFactory(hospital=administrator.hospital, approved_at=None)
    DoctorFactory()
    UserFactory()
    AdministratorFactory()
    owner = superuser()
    owner.hospital = administrator.hospital
    owner.save()
    assert shown_people(client) == {administrator, colleague, waiting}
    client.force_login(owner)
    assert shown_people(client) == set(User.objects.all())


def test_administrator_without_a_hospital_sees_nobody_and_creates_nobody(client: Client) -> None:
    client.force_login(AdministratorFactory(hospital=None))
    create_roles()
    assert shown_people(client) == set()
    assert client.get(reverse("admin:accounts_user_add")).status_code == 403


@pytest.mark.parametrize("make", [DoctorFactory, UserFactory, AdministratorFactory])
def test_people_of_elsewhere_cannot_be_opened(client: Client, administrator: User, make) -> None:
    stranger = make()
    url = reverse("admin:accounts_user_change", args=[stranger.pk])
    assert client.get(url).status_code == 302
    assert client.post(url, {"given_name": "Mallory"}).status_code in (302, 403)
    stranger.refresh_from_db()
    assert stranger.given_name != "Mallory"


@pytest.mark.parametrize("whom", ["self", "fellow administrator"])
def test_administrators_are_looked_at_but_not_changed(client: Client, administrator: User, whom: str) -> None:
    target = administrator if whom == "self" else AdministratorFactory(hospital=administrator.hospital)
    url = reverse("admin:accounts_user_change", args=[target.pk])
    assert client.get(url).status_code == 200
    assert client.post(url, {"given_name": "Mallory", "is_superuser": "on"}).status_code == 403
    act(client, "deactivate", target)
    target.refresh_from_db()
    assert target.is_active
    assert not target.is_superuser


def test_administrator_corrects_a_doctor_but_cannot_lift_or_move_them(client: Client, administrator: User) -> None:
    doctor = DoctorFactory(hospital=administrator.hospital)
    other = HospitalFactory()
    before = (doctor.email, doctor.hospital_id)
    response = client.post(
        reverse("admin:accounts_user_change", args=[doctor.pk]),
        {
            "given_name": "Corrected",
            "family_name": doctor.family_name,
            "licence_number": "L 2",
            "email": "mallory@example.org",
            "role": Role.ADMINISTRATOR,
            "hospital": str(other.pk),
            "is_staff": "on",
            "is_superuser": "on",
            "is_active": "",
            "approved_at_0": "2020-01-01",
        },
    )
    assert response.status_code == 302
    doctor.refresh_from_db()
    assert (doctor.given_name, doctor.licence_number) == ("Corrected", "L 2")
    assert (doctor.email, doctor.hospital_id) == before
    assert (doctor.role, doctor.is_staff, doctor.is_superuser, doctor.is_active) == (Role.DOCTOR, False, False, True)


def test_created_doctor_is_approved_invited_and_chooses_the_password(
    client: Client, administrator: User, django_capture_on_commit_callbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(
            reverse("admin:accounts_user_add"),
            {
                "email": "New.Doctor@Example.org",
                "given_name": "Nora",
                "family_name": "New",
                "licence_number": "L 9",
                "role": Role.ADMINISTRATOR,
                "hospital": str(HospitalFactory().pk),
                "password": "chosen-by-somebody-else",
            },
        )
    assert response.status_code == 302
    doctor = User.objects.get(email="new.doctor@example.org")
    assert (doctor.role, doctor.hospital, doctor.is_staff) == (Role.DOCTOR, administrator.hospital, False)
    assert doctor.approved_by == administrator
    assert not doctor.has_usable_password()
    assert mail.outbox[0].to == ["new.doctor@example.org"]
    own = Client()
    form_url = own.get(link_in_mail(0)).url
    own.post(form_url, {"password1": "three other words", "password2": "three other words"})
    own.post(reverse("account_login"), {"login": doctor.email, "password": "three other words"})
    assert "errands" in own.get(reverse("home")).context


@pytest.mark.parametrize(
    "change", [{"email": ""}, {"email": "no address"}, {"given_name": ""}, {"licence_number": "9" * 41}]
)
def test_mistakes_in_a_new_doctor_store_nothing(client: Client, administrator: User, change: dict[str, str]) -> None:
    answers = {"email": "x@example.org", "given_name": "A", "family_name": "B", "licence_number": "1"} | change
    assert client.post(reverse("admin:accounts_user_add"), answers).status_code == 200
    assert User.objects.get() == administrator


def test_one_address_belongs_to_one_person_whatever_its_case(client: Client, administrator: User) -> None:
    patient = UserFactory(email="taken@example.org")
    EmailAddress.objects.create(user=patient, email="second@example.org", verified=True, primary=False)
    for email in ("Taken@Example.org", "SECOND@example.org"):
        answers = {"email": email, "given_name": "A", "family_name": "B", "licence_number": "1"}
        assert client.post(reverse("admin:accounts_user_add"), answers).status_code == 200
    assert User.objects.count() == 2


def test_hospital_names_are_escaped_where_the_admin_prints_html(client: Client, administrator: User) -> None:
    Hospital.objects.filter(pk=administrator.hospital_id).update(name="<script>alert(1)</script>")
    assert b"<script>alert" not in client.get(reverse("admin:accounts_user_add")).content


def test_approval_lets_the_doctor_work_and_tells_them(
    client: Client, administrator: User, django_capture_on_commit_callbacks
) -> None:
    doctor = confirm(DoctorFactory(hospital=administrator.hospital, approved_at=None))
    with django_capture_on_commit_callbacks(execute=True):
        assert "1 doctor was approved" in act(client, "approve", doctor)
    doctor.refresh_from_db()
    assert doctor.is_approved_doctor
    assert doctor.approved_by == administrator
    assert [message.to for message in mail.outbox] == [[doctor.email]]
    assert mail.outbox[0].subject == "Your access is open"
    assert LogEntry.objects.get().change_message == "Approved."
    assert "is approved already" in act(client, "approve", doctor)


def test_approval_says_why_not(client: Client, administrator: User) -> None:
    unconfirmed = DoctorFactory(hospital=administrator.hospital, approved_at=None)
    stranger = confirm(DoctorFactory(approved_at=None))
    gone = confirm(DoctorFactory(hospital=administrator.hospital, approved_at=None, is_active=False))
    assert "has not confirmed the e-mail address" in act(client, "approve", unconfirmed)
    assert "is deactivated" in act(client, "approve", gone)
    assert "you cannot change this person" in act(client, "approve", administrator)
    act(client, "approve", stranger)
    assert not User.objects.filter(role=Role.DOCTOR, approved_at__isnull=False).exists()
    assert mail.outbox == []


@pytest.mark.parametrize("by", ["self", "stranger", "doctor", "patient", "inactive"])
def test_only_an_administrator_of_the_hospital_approves(by: str) -> None:
    doctor = DoctorFactory(approved_at=None)
    person = {
        "self": doctor,
        "stranger": AdministratorFactory(),
        "doctor": DoctorFactory(hospital=doctor.hospital),
        "patient": UserFactory(),
        "inactive": AdministratorFactory(hospital=doctor.hospital, is_active=False),
    }[by]
    with pytest.raises(PermissionDenied):
        doctor.approve(by=person)
    doctor.refresh_from_db()
    assert doctor.approved_at is None


def test_approval_is_for_doctors_of_a_hospital_and_the_first_one_stays() -> None:
    owner = superuser()
    with pytest.raises(ValidationError):
        UserFactory().approve(by=owner)
    with pytest.raises(ValidationError):
        DoctorFactory(hospital=None, approved_at=None).approve(by=owner)
    approved_at = timezone.now() - datetime.timedelta(days=3)
    doctor = DoctorFactory(approved_at=approved_at)
    doctor.approve(by=owner)
    doctor.refresh_from_db()
    assert (doctor.approved_at, doctor.approved_by) == (approved_at, None)


def test_deactivate_and_reactivate_leave_a_trace(client: Client, administrator: User) -> None:
    doctor = DoctorFactory(hospital=administrator.hospital)
    stranger = DoctorFactory()
    assert "1 person was deactivated" in act(client, "deactivate", doctor, stranger)
    doctor.refresh_from_db()
    stranger.refresh_from_db()
    assert (doctor.is_active, stranger.is_active) == (False, True)
    assert "1 person may log in again" in act(client, "reactivate", doctor)
    doctor.refresh_from_db()
    assert doctor.is_active
    assert set(LogEntry.objects.values_list("change_message", flat=True)) == {"Deactivated.", "Reactivated."}


def test_second_invitation_only_for_people_without_a_password(client: Client, administrator: User) -> None:
    invited = DoctorFactory(hospital=administrator.hospital)
    invited.set_unusable_password()
    invited.save()
    settled = DoctorFactory(hospital=administrator.hospital)
    page = act(client, "invite", invited, settled)
    assert "1 invitation was sent" in page
    assert "has a password" in page
    assert [message.to for message in mail.outbox] == [[invited.email]]


@pytest.mark.parametrize("who", ["administrator", "superuser"])
def test_nobody_and_nothing_is_deleted(client: Client, administrator: User, who: str) -> None:
    doctor = DoctorFactory(hospital=administrator.hospital)
    event = AccessEvent.objects.create(actor=doctor, action="viewed", target_type="x", target_id=uuid.uuid4())
    if who == "superuser":
        client.force_login(superuser())
    for name, row in (("user", doctor), ("hospital", doctor.hospital), ("accessevent", event)):
        url = reverse(f"admin:accounts_{name}_delete", args=[row.pk])
        assert client.post(url, {"post": "yes"}).status_code == 403
        assert type(row).objects.filter(pk=row.pk).exists()
    assert "delete_selected" not in dict(client.get(reverse(USERS)).context["action_form"].fields["action"].choices)


def test_superuser_gives_and_takes_roles_with_all_that_hangs_on_them(client: Client) -> None:
    owner = superuser()
    client.force_login(owner)
    doctor = DoctorFactory()
    url = reverse("admin:accounts_user_change", args=[doctor.pk])
    answers = {
        "email": doctor.email,
        "given_name": "A",
        "family_name": "B",
        "licence_number": "",
        "hospital": str(doctor.hospital_id),
    }
    assert client.post(url, answers | {"role": Role.ADMINISTRATOR}).status_code == 302
    doctor.refresh_from_db()
    assert (doctor.is_staff, doctor.approved_at) == (True, None)
    assert [group.name for group in doctor.groups.all()] == [ADMINISTRATORS]
    assert client.post(url, answers | {"role": Role.DOCTOR}).status_code == 302
    doctor.refresh_from_db()
    assert (doctor.is_staff, doctor.groups.count(), doctor.is_approved_doctor) == (False, 0, False)
    page = client.post(url, answers | {"role": Role.DOCTOR, "hospital": ""})
    assert b"A doctor belongs to a hospital" in page.content


def test_changed_address_must_be_confirmed_again(client: Client) -> None:
    client.force_login(superuser())
    doctor = confirm(DoctorFactory())
    answers = {"given_name": "A", "family_name": "B", "role": Role.DOCTOR, "hospital": str(doctor.hospital_id)}
    client.post(reverse("admin:accounts_user_change", args=[doctor.pk]), answers | {"email": "Moved@Example.org"})
    address = EmailAddress.objects.get(user=doctor)
    assert (address.email, address.verified, address.primary) == ("moved@example.org", False, True)


def test_hospital_of_the_administrator_can_be_corrected_but_not_renamed(client: Client, administrator: User) -> None:
    own, other = administrator.hospital, HospitalFactory()
    assert set(client.get(reverse("admin:accounts_hospital_changelist")).context["cl"].queryset) == {own}
    answers = {"name": "Renamed", "department": "Chest", "address": "", "phone": "1"}
    client.post(reverse("admin:accounts_hospital_change", args=[own.pk]), answers)
    client.post(reverse("admin:accounts_hospital_change", args=[other.pk]), answers)
    own_name = own.name
    own.refresh_from_db()
    other.refresh_from_db()
    assert (own.name, own.department, own.phone) == (own_name, "Chest", "1")
    assert other.department == "Radiology"
    assert client.get(reverse("admin:accounts_hospital_add")).status_code == 403


def test_access_events_of_the_own_people_are_found_and_never_changed(client: Client, administrator: User) -> None:
    doctor = DoctorFactory(hospital=administrator.hospital, family_name="Findable")
    event = AccessEvent.objects.create(
        actor=doctor, action="viewed", target_type="studies.study", target_id=uuid.uuid4()
    )
    foreign = AccessEvent.objects.create(
        actor=DoctorFactory(), action="viewed", target_type="studies.study", target_id=event.target_id
    )
    url = reverse("admin:accounts_accessevent_changelist")
    for query in ("findable", str(event.target_id), event.target_id.hex, doctor.email):
        assert set(client.get(url, {"q": query}).context["cl"].queryset) == {event}, query
    assert set(client.get(url, {"q": "nobody"}).context["cl"].queryset) == set()
    change = reverse("admin:accounts_accessevent_change", args=[event.pk])
    assert client.post(change, {"action": "signed"}).status_code == 403
    assert client.get(reverse("admin:accounts_accessevent_change", args=[foreign.pk])).status_code == 302
    assert client.get(reverse("admin:accounts_accessevent_add")).status_code == 403
    with pytest.raises(PermissionDenied):
        event.save()
    with pytest.raises(PermissionDenied):
        event.delete()


@pytest.mark.parametrize("make", [UserFactory, DoctorFactory, lambda: AdministratorFactory(is_staff=False)])
def test_administration_is_closed_to_everybody_else(client: Client, make) -> None:
    user = make()
    client.force_login(user)
    assert client.get(reverse("admin:index")).status_code == 302
    assert client.get(reverse("admin:index"), follow=True).status_code == 403


def test_lists_ask_the_same_number_of_queries_whatever_their_length(
    client: Client, administrator: User, django_assert_max_num_queries
) -> None:
    for _ in range(12):
        doctor = DoctorFactory(hospital=administrator.hospital)
        AccessEvent.objects.create(actor=doctor, action="viewed", target_type="x", target_id=uuid.uuid4())
    with django_assert_max_num_queries(10):
        client.get(reverse(USERS))
    with django_assert_max_num_queries(14):
        client.get(reverse("admin:accounts_accessevent_changelist"))


def test_roles_are_created_repaired_and_emptied(capsys) -> None:
    administrator = AdministratorFactory(is_staff=False)
    former = DoctorFactory()
    call_command("create_roles")
    assert "members: 1" in capsys.readouterr().out
    group = Group.objects.get()
    group.permissions.clear()
    former.groups.add(group)
    call_command("create_roles", verbosity=0)
    assert capsys.readouterr().out == ""
    assert set(group.permissions.values_list("codename", flat=True)) == set(ADMINISTRATOR_PERMISSIONS)
    assert list(group.user_set.all()) == [administrator]
    administrator.refresh_from_db()
    assert administrator.is_staff
    assert Group.objects.count() == 1


def test_superusers_are_not_in_the_group() -> None:
    owner = superuser()
    apply_role(owner)
    owner.refresh_from_db()
    assert owner.is_superuser
    assert owner.groups.count() == 0

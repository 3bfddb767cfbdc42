"""The record of who did what: complete, unchangeable, and checked link by link."""

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts import audit_triggers
from accounts.audit import Checkpoint, client_address, paths_to_record, subject_of, verify_chain
from accounts.models import AccessEvent, User
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, PatientFactory, ReportFactory
from tests.tools import ROOT

TABLE = audit_triggers.TABLE


def write(count: int, *, actor: User | None = None) -> list[AccessEvent]:
    actor = actor or DoctorFactory()
    return [
        AccessEvent.objects.create(actor=actor, action="viewed", target_type="studies.study", target_id=uuid.uuid4())
        for _ in range(count)
    ]


def tamper(sql: str, *values: object) -> None:
    """Do what somebody with the database's password can do: lift the refusal, change rows, put it back."""
    audit_triggers.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
    audit_triggers.install(connection)


@pytest.mark.django_db
def test_an_untouched_log_is_sound() -> None:
    assert verify_chain().problems == ()
    events = write(5)
    report = verify_chain()
    assert (report.count, report.problems) == (5, ())
    assert report.head is not None
    assert (report.head.sequence, report.head.sha256) == (5, events[-1].sha256)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        "action = 'released'",
        "target_id = '00000000000000000000000000000001'",
        "target_type = 'studies.image'",
        "patient_id = '00000000000000000000000000000001'",
        "address = '192.0.2.7'",
        "note = 'nothing to see'",
        "at = '2020-01-01 00:00:00+00:00'",
        "actor_id = NULL",
        "hospital_id = NULL",
        "sha256 = 'f'",
    ],
)
def test_every_column_is_held_by_the_chain(change: str) -> None:
    write(4)
    tamper(f"UPDATE {TABLE} SET {change} WHERE sequence = 3")
    assert "Event 3 is not what was written" in verify_chain().problems[0]
    assert verify_chain().count == 2


@pytest.mark.django_db
def test_the_first_broken_link_is_named() -> None:
    write(6)
    tamper(f"UPDATE {TABLE} SET action = 'signed' WHERE sequence IN (2, 5)")
    assert verify_chain().problems[0].startswith("Event 2 ")


@pytest.mark.django_db
@pytest.mark.parametrize(("gone", "named"), [("3", "Event 3 is missing"), ("1", "Event 1 is"), ("2, 3", "2 to 3 are")])
def test_a_deleted_event_leaves_a_gap(gone: str, named: str) -> None:
    write(5)
    tamper(f"DELETE FROM {TABLE} WHERE sequence IN ({gone})")
    assert named in verify_chain().problems[0]


@pytest.mark.django_db
def test_closing_the_gap_by_new_numbers_breaks_the_chain() -> None:
    write(5)
    tamper(f"DELETE FROM {TABLE} WHERE sequence = 3")
    tamper(f"UPDATE {TABLE} SET sequence = 3 WHERE sequence = 4")
    tamper(f"UPDATE {TABLE} SET sequence = 4 WHERE sequence = 5")
    assert verify_chain().problems[0].startswith("Event 3 ")


@pytest.mark.django_db
def test_two_events_cannot_change_places() -> None:
    write(3)
    for old, new in ((2, 99), (3, 2), (99, 3)):
        tamper(f"UPDATE {TABLE} SET sequence = {new} WHERE sequence = {old}")
    assert verify_chain().problems[0].startswith("Event 2 ")


@pytest.mark.django_db
def test_a_chain_made_anew_without_the_key_is_noticed(settings) -> None:
    write(3)
    assert verify_chain().problems == ()
    settings.AUDIT_KEY = "the intruder's"
    assert verify_chain().problems[0].startswith("Event 1 ")


@pytest.mark.django_db
def test_a_tail_cut_off_is_noticed_through_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "checkpoints.jsonl"
    write(4)
    call_command("verify_audit", checkpoints=file, verbosity=0)
    tamper(f"DELETE FROM {TABLE} WHERE sequence > 2")
    assert verify_chain().problems == ()  # the chain alone cannot know
    with pytest.raises(CommandError, match=r"ends at event 2, but a checkpoint names event 4"):
        call_command("verify_audit", checkpoints=file)


@pytest.mark.django_db
def test_an_emptied_log_is_noticed_through_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints.jsonl"
    write(2)
    call_command("verify_audit", checkpoints=file, verbosity=0)
    tamper(f"DELETE FROM {TABLE}")
    with pytest.raises(CommandError, match="ends at event 0"):
        call_command("verify_audit", checkpoints=file)


@pytest.mark.django_db
def test_a_tail_cut_off_and_written_anew_is_noticed_through_a_checkpoint() -> None:
    write(4)
    head = verify_chain().head
    assert head is not None
    tamper(f"DELETE FROM {TABLE} WHERE sequence > 2")
    write(3)
    assert verify_chain().problems == ()
    assert "Event 4 is not the one that a checkpoint names" in verify_chain(checkpoints=[head]).problems[0]


@pytest.mark.django_db
def test_the_command_notes_a_checkpoint_only_where_all_is_well(tmp_path: Path, capsys) -> None:
    file = tmp_path / "checkpoints.jsonl"
    call_command("verify_audit", checkpoints=file)
    assert not file.exists()  # nothing is written about an empty log
    write(2)
    call_command("verify_audit", checkpoints=file)
    write(1)
    call_command("verify_audit", checkpoints=file)
    call_command("verify_audit", checkpoints=file, no_checkpoint=True)
    assert [json.loads(line)["sequence"] for line in file.read_text().splitlines()] == [2, 3]
    assert "3 events, 2 checkpoints compared" in capsys.readouterr().out
    tamper(f"UPDATE {TABLE} SET note = 'x' WHERE sequence = 1")
    with pytest.raises(CommandError, match="Event 1 "):
        call_command("verify_audit", checkpoints=file)
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.django_db
def test_a_damaged_file_of_checkpoints_is_a_sentence(tmp_path: Path) -> None:
    for text in ("no json", '{"sequence": 1}', '{"sequence": "x", "sha256": "", "at": ""}', "[]"):
        file = tmp_path / "checkpoints.jsonl"
        file.write_text(text)
        with pytest.raises(CommandError, match="cannot be read"):
            call_command("verify_audit", checkpoints=file)


@pytest.mark.django_db
def test_the_command_says_where_the_database_refuses_no_more(tmp_path: Path) -> None:
    write(1)
    audit_triggers.remove(connection)
    try:
        with pytest.raises(CommandError, match="does not refuse changes any more"):
            call_command("verify_audit", checkpoints=tmp_path / "checkpoints.jsonl")
    finally:
        audit_triggers.install(connection)
    assert audit_triggers.missing(connection) == []


@pytest.mark.django_db
def test_the_database_itself_refuses_after_all_migrations() -> None:
    write(2)
    assert audit_triggers.missing(connection) == []
    statements = [f"UPDATE {TABLE} SET note = 'x'", f"DELETE FROM {TABLE}"]
    if connection.vendor == "postgresql":
        statements.append(f"TRUNCATE {TABLE} CASCADE")
        with connection.cursor() as cursor:
            # Foreign keys that wait for the commit would refuse to empty the table before the trigger can.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for statement in statements:
        with (
            pytest.raises(DatabaseError, match="never changed or deleted"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
    assert AccessEvent.objects.filter(note="").count() == 2


@pytest.mark.django_db
def test_no_way_through_the_orm_changes_an_event() -> None:
    (event,) = write(1)
    attempts: list[Callable[[], object]] = [
        lambda: AccessEvent.objects.update(note="x"),
        lambda: AccessEvent.objects.filter(pk=event.pk).delete(),
        lambda: AccessEvent.objects.bulk_create([AccessEvent(action="viewed")]),
        lambda: AccessEvent.objects.bulk_update([event], ["note"]),
        event.save,
        event.delete,
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDenied), transaction.atomic():
            attempt()
    assert verify_chain().problems == ()


def write_from_four_threads(actor: User) -> list[Exception]:
    """Let four threads write 16 events each, two a transaction; return what went wrong."""
    problems: list[Exception] = []
    start = threading.Barrier(4)

    def work() -> None:
        try:
            start.wait()
            for _ in range(8):
                with transaction.atomic():
                    write(2, actor=actor)
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            problems.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_do_not_fork_the_chain(tmp_path: Path) -> None:
    if connection.vendor == "sqlite":
        # The suite's database in memory cannot make a writer wait; the file of an installation can.
        code = (
            "from django.core.management import call_command; call_command('migrate', verbosity=0)\n"
            "from tests.accounts.test_audit import write_from_four_threads, DoctorFactory, verify_chain\n"
            "print(write_from_four_threads(DoctorFactory()), verify_chain())"
        )
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
            cwd=ROOT,
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "portal.settings.test",
                "DATABASE_URL": f"sqlite:///{tmp_path}/portal.sqlite3",
                "IRA_VAR_DIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith("[] ChainReport(count=64,"), done.stdout + done.stderr
        assert done.stdout.strip().endswith("problems=())")
        return
    assert write_from_four_threads(DoctorFactory()) == []
    report = verify_chain()
    assert (report.count, report.problems) == (64, ())


@pytest.mark.django_db
def test_an_event_that_is_undone_leaves_no_gap() -> None:
    write(1)
    with transaction.atomic():
        write(3)
        transaction.set_rollback(True)
    write(1)
    assert (verify_chain().count, verify_chain().problems) == (2, ())


@pytest.mark.django_db
def test_events_name_patient_and_hospital_of_what_they_are_about() -> None:
    report = ReportFactory(is_released=True)
    analysis = AnalysisFactory(image__study=report.study, is_done=True)
    patient = report.study.patient
    for row in (patient, report.study, analysis.image, analysis, analysis.findings.get(), report):
        subject = subject_of(row)
        assert (subject.patient_id, subject.hospital_id) == (patient.id, patient.hospital_id), row
    doctor = DoctorFactory()
    assert (subject_of(doctor).patient_id, subject_of(doctor).hospital_id) == (None, doctor.hospital_id)


def test_every_clinical_model_leads_to_a_record() -> None:
    reach_nobody = {
        "RecordClaimGuard",  # counts the guesses of a person who has no record yet
        "BulkJob",  # work on many reports at once; each of its lines leads to one
        "Consent",  # a person's own; it outlives the upload, and nothing but the upload is put on record
    }
    lost = [
        model.__name__
        for app in ("studies", "reports")
        for model in apps.get_app_config(app).get_models()
        if model is not PatientFactory._meta.model
        and not paths_to_record(model)
        and not any(field.name == "hospital" for field in model._meta.concrete_fields)
    ]
    assert set(lost) <= reach_nobody


@pytest.mark.django_db
def test_log_in_wrong_password_and_log_out_are_on_record(client: Client) -> None:
    doctor = DoctorFactory()
    EmailAddress.objects.create(user=doctor, email=doctor.email, verified=True, primary=True)
    url = reverse("account_login")
    client.post(url, {"login": doctor.email.upper(), "password": "not-this-one"}, REMOTE_ADDR="192.0.2.1")
    client.post(url, {"login": "s3cret-typed-in-the-wrong-field@example.org", "password": "x"})
    client.post(url, {"login": doctor.email, "password": "a-long-password"})
    client.post(reverse("account_logout"))
    events = list(AccessEvent.objects.order_by("sequence"))
    assert [(event.action, event.actor, event.target_id) for event in events] == [
        ("login_failed", None, doctor.id),
        ("login_failed", None, None),
        ("logged_in", doctor, doctor.id),
        ("logged_out", doctor, doctor.id),
    ]
    assert events[0].hospital == doctor.hospital
    assert events[0].address == "192.0.2.1"
    assert "s3cret" not in str([vars(event) for event in events])
    assert verify_chain().problems == ()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (2, "203.0.113.9, 198.51.100.4", "203.0.113.9"),
    ],
)
def test_nobody_chooses_the_address_that_is_noted(settings, proxies: int, forwarded: str, expected: str) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers={"X-Forwarded-For": forwarded})
    assert client_address(request) == expected


@pytest.mark.django_db
def test_administrators_find_what_concerns_their_hospital_and_nothing_else(client: Client) -> None:
    administrator, foreign = AdministratorFactory(), AdministratorFactory()
    call_command("create_roles", verbosity=0)
    patient = PatientFactory(created_by=DoctorFactory(hospital=administrator.hospital))
    reader = patient.user = DoctorFactory()._meta.model.objects.create_user(
        "p@example.org", "a-long-password", given_name="P", family_name="Q"
    )
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1")
    request.user = reader
    mine = AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=patient)
    url = reverse("admin:accounts_accessevent_changelist")
    for who, expected in ((administrator, {mine}), (foreign, set())):
        client.force_login(who)
        for query in (str(patient.id), "192.0.2.1", reader.email):
            found = client.get(url, {"q": query}).context["cl"].queryset
            assert set(found.filter(action="viewed")) == expected, (who.email, query)


def test_checkpoints_are_plain_values() -> None:
    assert {field for field in Checkpoint.__dataclass_fields__} == {"sequence", "sha256", "at"}

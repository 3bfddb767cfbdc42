"""All my data: what is in the archive and what is not, its schema, who may fetch it, when it goes."""

import datetime
import hashlib
import io
import json
import zipfile
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from jsonschema import Draft202012Validator, ValidationError
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent, User
from reports.automatic import automatic_report_of
from reports.models import BulkJob, Report, ShareLink
from reports.my_data import SCHEMA
from reports.signing import release_report
from reports.tasks import run_bulk_job, sweep
from studies.models import Handover
from studies.own import delete_own_study
from tests.factories import DoctorFactory, OwnStudyFactory, PatientFactory, ReportFactory, StudyFactory, UserFactory
from tests.reports.test_versions import LINK, amended

pytestmark = pytest.mark.django_db
PAGE = reverse("reports:my_data")
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}


def problems(value: Any, schema: dict[str, Any], *, at: str = "data") -> list[str]:
    """Return where a value breaks the parts of JSON Schema that ours uses."""
    if "const" in schema:
        return [] if value == schema["const"] else [f"{at} is not {schema['const']}"]
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not isinstance(value, tuple(TYPES[kind] for kind in kinds)):
        return [f"{at} is {type(value).__name__}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{at}.{name} is missing" for name in schema["required"] if name not in value]
        found += [f"{at}.{name} is not in the schema" for name in value if name not in schema["properties"]]
        for name in value.keys() & schema["properties"].keys():
            found += problems(value[name], schema["properties"][name], at=f"{at}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += problems(item, schema["items"], at=f"{at}[{number}]")
    return found


def archive_of(client: Client) -> zipfile.ZipFile:
    """Have the archive made, as browser and worker do, and fetch it."""
    assertRedirects(client.post(PAGE), PAGE)
    job = BulkJob.objects.filter(kind="my_data").latest("queued_at")
    run_bulk_job(str(job.id))
    response = client.get(reverse("reports:my_data_archive", args=[job.id]))
    assert response.status_code == 200
    assert response["Cache-Control"] == "private, no-store"
    return zipfile.ZipFile(io.BytesIO(b"".join(response.streaming_content)))


def data_of(archive: zipfile.ZipFile) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(archive.read("data.json"))
    return data


@pytest.fixture
def page(client: Client, reader: User) -> Client:
    client.force_login(reader)
    return client


def test_everything_is_in_it_and_every_file_is_named_with_its_hash(
    page: Client, released: Report, reader: User
) -> None:
    own = OwnStudyFactory(created_by=reader, is_done=True)
    automatic_report_of(own)
    Handover.request(own, hospital=DoctorFactory().hospital, by=reader)
    page.get(reverse("reports:my_report", args=[released.id]))
    link, _token = ShareLink.issue(released, by=reader, recipient_email="Aunt@example.org", days=7)
    link.revoke()
    other = ReportFactory(is_released=True)
    ShareLink.issue(other, by=UserFactory(), recipient_email="stranger@example.org", days=7)
    archive = archive_of(page)
    assert archive.testzip() is None
    data = data_of(archive)
    assert problems(data, json.loads(SCHEMA.read_text())) == []
    assert archive.read("schema.json") == SCHEMA.read_bytes()
    listed = {file["path"]: file["sha256"] for file in data["files"]}
    assert set(archive.namelist()) == {*listed, "data.json", "schema.json", "README.txt"}
    for path, sha256 in listed.items():
        assert hashlib.sha256(archive.read(path)).hexdigest() == sha256
    (report,) = data["reports"]
    assert report["content"]["impression"] == released.impression
    assert archive.read(report["pdf"]).startswith(b"%PDF")
    assert len(report["pictures"]) == 2
    (share,) = data["shares"]
    assert (share["report"], share["recipient_email"]) == (str(released.id), "aunt@example.org")
    assert share["revoked_at"] is not None
    assert (share["opened_count"], share["last_opened_at"]) == (0, None)
    assert link.token_hash not in json.dumps(data)
    (upload,) = data["uploads"]
    assert [len(upload["pictures"]), len(upload["report"]["pictures"])] == [1, 1]
    assert archive.read(upload["report"]["pdf"]).startswith(b"%PDF")
    assert upload["handovers"][0]["state"] == "requested"
    assert data["consents"][0]["upload"] == str(own.id)
    assert len(data["consents"][0]["wording"]) == 5
    assert {record["hospital"] for record in data["records"]} == {None, released.study.patient.hospital.name}
    assert {(entry["who"], entry["deed"]) for entry in data["accesses"]} == {("You", "looked at")}


def test_pain_14_what_is_handed_out_as_data_passes_an_independent_validator(
    page: Client, released: Report, reader: User
) -> None:
    automatic_report_of(OwnStudyFactory(created_by=reader, is_done=True))
    archive = archive_of(page)
    schema = json.loads(archive.read("schema.json"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(data_of(archive))
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(data_of(archive) | {"reports": [{"id": 7}]})


def test_the_schema_can_fail(page: Client, released: Report) -> None:
    data = data_of(archive_of(page))
    schema = json.loads(SCHEMA.read_text())
    assert problems(data | {"more": 1}, schema) == ["data.more is not in the schema"]
    assert problems(data | {"reports": [{}]}, schema)
    assert problems(data | {"format": 1}, schema) == ["data.format is not 2"]


def test_pain_08_what_is_not_released_or_somebody_else_s_is_not_in_it(
    page: Client, released: Report, reader: User, doctor: User
) -> None:
    patient = released.study.patient
    ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), created_by=doctor, is_signed=True)
    ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), created_by=doctor)
    other = PatientFactory(created_by=doctor, user=UserFactory())
    ReportFactory(study=StudyFactory(created_by=doctor, patient=other), is_released=True)
    OwnStudyFactory(is_done=True)
    data = data_of(archive_of(page))
    assert [report["id"] for report in data["reports"]] == [str(released.id)]
    assert data["uploads"] == data["consents"] == []


def test_somebody_without_anything_gets_an_archive_that_says_so(client: Client) -> None:
    client.force_login(UserFactory())
    data = data_of(archive_of(client))
    assert data["reports"] == data["uploads"] == data["records"] == []


def test_each_download_is_recorded_for_record_and_report(page: Client, released: Report, reader: User) -> None:
    archive_of(page)
    events = AccessEvent.objects.filter(action="downloaded", actor=reader, note="all my data")
    assert set(events.values_list("target_type", "target_id")) == {
        ("studies.patient", released.study.patient_id),
        ("reports.report", released.id),
    }


def test_nobody_else_fetches_it(page: Client, released: Report, client: Client) -> None:
    archive_of(page)
    address = reverse("reports:my_data_archive", args=[BulkJob.objects.get().id])
    for other in (UserFactory(), released.created_by, DoctorFactory()):
        client.force_login(other)
        assert client.get(address).status_code == 404
        assert not BulkJob.objects.visible_to(other).exists()


def test_an_archive_with_a_report_that_was_amended_is_not_sent(page: Client, released: Report, doctor: User) -> None:
    archive_of(page)
    release_report(amended(released, by=doctor), by=doctor, link=LINK)
    address = reverse("reports:my_data_archive", args=[BulkJob.objects.get().id])
    assertContains(page.get(address, follow=True), "Please have the archive made again.")
    assert data_of(archive_of(page))["reports"][0]["version"] == 2


def test_a_second_click_starts_nothing_and_a_new_archive_replaces_the_old_one(page: Client, released: Report) -> None:
    page.post(PAGE)
    page.post(PAGE)
    assert BulkJob.objects.count() == 1
    assertContains(page.get(PAGE), "hx-get")
    run_bulk_job(str(BulkJob.objects.get().id))
    assertNotContains(page.get(PAGE), "hx-get")
    archive_of(page)
    assert BulkJob.objects.exclude(archive="").count() == 1


def test_it_goes_after_a_day_and_with_what_was_erased(
    page: Client, released: Report, reader: User, django_capture_on_commit_callbacks
) -> None:
    archive_of(page)
    job = BulkJob.objects.get()
    BulkJob.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert page.get(reverse("reports:my_data_archive", args=[job.id])).status_code == 404
    sweep()
    assert not job.archive.storage.exists(job.archive.name)
    own = OwnStudyFactory(created_by=reader)
    archive_of(page)
    with django_capture_on_commit_callbacks(execute=True):
        delete_own_study(own, by=reader)
    assert not BulkJob.objects.exclude(archive="").exists()


def test_a_missing_picture_leaves_the_rest(page: Client, released: Report) -> None:
    image = released.study.images.get()
    image.file.storage.delete(image.file.name)
    data = data_of(archive_of(page))
    assert len(data["reports"][0]["pictures"]) == 1
    assert data["reports"][0]["pdf"]

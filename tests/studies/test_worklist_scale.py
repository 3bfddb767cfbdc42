"""The worklist at 100,000 studies: the same queries as at ten, each read from an index, nothing sorted as a whole.

The rows are written by the database itself, so that they are there within seconds; they carry what the worklist reads
and the constraints demand. Runs on SQLite and, from ``tests/test_postgres.py``, on PostgreSQL.
"""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from studies.models import Study
from studies.paging import Page, page_of
from studies.worklist import ORDERS, rows_for
from tests.factories import DoctorFactory, PatientFactory, StudyFactory

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
MANY = 100_000
INDEXES = {
    "triage": "study_by_day_and_triage",
    "suspicion": "study_by_triage",
    "newest": "study_by_time",
    "oldest": "study_by_time",
}


def write_studies(doctor: User, *, count: int) -> None:
    """Write ``count`` answered studies of 1,000 days, each readable by the doctor, in two statements."""
    patient = PatientFactory(created_by=doctor)
    is_postgres = connection.vendor == "postgresql"
    numbers = (
        f"SELECT generate_series(1, {count}) AS n"
        if is_postgres
        else f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c"
    )
    columns = {
        "id": "gen_random_uuid()" if is_postgres else "lower(hex(randomblob(16)))",
        "created_at": "timestamptz '2020-01-01' + n * interval '10 minutes'"
        if is_postgres
        else "datetime('2020-01-01', (n * 10) || ' minutes')",
        "received_on": "date '2020-01-01' + n / 100" if is_postgres else "date('2020-01-01', (n / 100) || ' days')",
        "study_date": "date '2020-01-01' + n / 100" if is_postgres else "date('2020-01-01', (n / 100) || ' days')",
        "answered_at": "timestamptz '2024-01-01'" if is_postgres else "'2024-01-01 00:00:00'",
        "triage_malignancy": "(n * 7919 % 1000) / 1000.0",
        "triage_class": "'normal'",
        "state": "'succeeded'",
        "is_synthetic": "true",
        "accession_number": "''",
        "source_key": "''",
        "clinical_question": "''",
        "patient_id": f"'{patient.id}'::uuid" if is_postgres else f"'{patient.id.hex}'",
        "created_by_id": f"'{doctor.id}'::uuid" if is_postgres else f"'{doctor.id.hex}'",
    }
    doctor_id = columns["created_by_id"]
    with connection.cursor() as cursor:
        if is_postgres:
            # What is written here refers to rows that exist; checking that 300,000 times takes minutes.
            cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            f"INSERT INTO studies_study ({', '.join(columns)}) "
            f"SELECT {', '.join(columns.values())} FROM ({numbers}) AS numbers"
        )
        cursor.execute(
            "INSERT INTO studies_studyuserobjectpermission (user_id, permission_id, content_object_id) "
            f"SELECT {doctor_id}, p.id, s.id FROM studies_study s, auth_permission p "
            f"WHERE s.patient_id = {columns['patient_id']} AND p.codename = 'view_study'"
        )
        if is_postgres:
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")
        cursor.execute("ANALYZE")


def assert_reads_the_index(plan: str, *, index: str) -> None:
    """Fail with the plan unless the named index gives the rows in order and nothing is sorted."""
    if connection.vendor == "postgresql":
        assert f"Index Scan using {index}" in plan or f"Index Scan Backward using {index}" in plan, plan
        assert "Sort" not in plan, plan
        assert "Seq Scan on studies_study " not in plan, plan
    else:
        assert f"USING INDEX {index}" in plan or f"USING COVERING INDEX {index}" in plan, plan
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan


def explained(sql: str) -> str:
    """Return the database's plan of a captured statement, as it words it."""
    prefix = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + sql.replace("%", "%%"))
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def page_in_one_query(doctor: User, *, fields: tuple[str, ...], after: str) -> tuple[Page, str]:
    """Return a page as the worklist reads it, and the plan of the one query behind it."""
    with CaptureQueriesContext(connection) as asked:
        page = page_of(rows_for(doctor, Study.objects.visible_to(doctor)), order=fields, after=after)
    assert len(asked) == 1
    return page, explained(asked[0]["sql"])


def queries_of_the_list(client: Client, doctor: User, *, after: str = "") -> int:
    client.force_login(doctor)
    client.get(reverse("studies:study_list"))
    with CaptureQueriesContext(connection) as asked:
        response = client.get(reverse("studies:study_list"), {"after": after})
    assert response.status_code == 200
    assert response.context["page"].rows
    return len(asked)


@pytest.mark.timeout(600)
def test_the_worklist_costs_the_same_at_ten_and_at_100_000_studies(client: Client) -> None:
    doctor = DoctorFactory()
    StudyFactory(created_by=DoctorFactory(hospital=doctor.hospital))
    StudyFactory()
    beginner = DoctorFactory(hospital=doctor.hospital)
    own = [StudyFactory(created_by=beginner) for _ in range(10)]
    write_studies(doctor, count=MANY)
    visible = Study.objects.visible_to(doctor)
    assert visible.count() == MANY

    # Every order, on the first page and in the middle: read from its index, the grants looked up row by row.
    for name, index in INDEXES.items():
        fields = ORDERS[name].fields
        around_the_middle = [study.id for study in visible.order_by(*fields)[MANY // 2 : MANY // 2 + 2]]
        middle = page_of(visible.filter(id__in=around_the_middle), order=fields, size=1).next_key
        for after in ("", middle):
            page, plan = page_in_one_query(doctor, fields=fields, after=after)
            assert len(page.rows) == 25
            assert_reads_the_index(plan, index=index)
        assert page.rows[0].id == around_the_middle[1]

    # As many queries for a doctor of ten as for one of 100,000, here as there.
    few = queries_of_the_list(client, beginner)
    assert few == queries_of_the_list(client, doctor) == queries_of_the_list(client, doctor, after=middle) <= 10

    # Ten grants among 100,000 studies of the hospital: exactly those ten.
    page, plan = page_in_one_query(beginner, fields=ORDERS["triage"].fields, after="")
    assert {study.id for study in page.rows} == {study.id for study in own}
    assert "Seq Scan on studies_study " not in plan

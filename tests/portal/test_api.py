"""What holds for all of the API: how it refuses, how often it may be asked, how it describes itself."""

import json
import re
from typing import Any

import jsonschema
import pytest
from django.conf import settings as django_settings
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from accounts.api.views import ApiView
from accounts.models import RequestCount, Scope
from portal.api.urls import urlpatterns
from studies.api import patients
from studies.models import Patient
from tests.factories import DoctorFactory, UserFactory
from tests.programs import Program, is_problem
from tests.test_permission_matrix import names_of

pytestmark = pytest.mark.django_db


class TestProblems:
    def test_an_address_that_does_not_exist_is_told_as_a_problem(self) -> None:
        for method in ("get", "post", "put", "patch", "delete"):
            answer = getattr(Client(), method)("/api/v1/no/such/thing")
            assert is_problem(answer, 404)
            assert answer.json()["instance"] == "/api/v1/no/such/thing"

    def test_a_method_that_an_address_does_not_know(self) -> None:
        answer = Program(DoctorFactory()).post("me/", {})
        assert is_problem(answer, 405)
        assert answer["Allow"] == "GET, HEAD"

    def test_whatever_is_accepted_the_answer_is_json(self) -> None:
        answer = Program(DoctorFactory()).get("me/", Accept="text/html")
        assert answer["Content-Type"] == "application/json"

    def test_a_surprise_is_logged_and_told_in_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("secret inner thing")

        monkeypatch.setattr(patients, "page_response", broken)
        program = Program(DoctorFactory())
        program.client.raise_request_exception = False
        answer = program.get("patients/")
        assert is_problem(answer, 500, "administrator")
        assert b"secret" not in answer.content
        assert "secret inner thing" in caplog.text

    def test_an_unknown_host_is_no_surprise(self) -> None:
        assert Client().get("/api/v1/health/", headers={"Host": "evil.example"}).status_code == 400


class TestThrottling:
    def test_a_token_has_its_number_of_requests_a_minute(self, settings: Settings) -> None:
        settings.API_TOKEN_REQUESTS_PER_MINUTE = 3
        doctor = DoctorFactory()
        program = Program(doctor)
        assert [program.get("me/").status_code for _turn in range(4)] == [200, 200, 200, 429]
        refused = program.get("me/")
        assert is_problem(refused, 429, "too many requests")
        assert 1 <= int(refused["Retry-After"]) <= 60
        # Another token of the same person has a count of its own …
        assert Program(doctor).get("me/").status_code == 200

    def test_a_person_has_one_over_all_tokens_and_sessions(self, settings: Settings) -> None:
        settings.API_USER_REQUESTS_PER_MINUTE = 3
        doctor = DoctorFactory()
        first, second = Program(doctor), Program(doctor)
        assert [first.get("me/").status_code, second.get("me/").status_code] == [200, 200]
        second.client.force_login(doctor)
        assert second.client.get("/api/v1/me/").status_code == 200
        assert is_problem(second.client.get("/api/v1/me/"), 429)
        assert is_problem(first.get("me/"), 429)
        assert Program(DoctorFactory()).get("me/").status_code == 200

    def test_guesses_of_tokens_are_counted_by_address(self, settings: Settings) -> None:
        settings.API_ANONYMOUS_REQUESTS_PER_MINUTE = 3
        guess = {"Authorization": "Bearer ira_guess"}
        answers = [Client().get("/api/v1/me/", headers=guess).status_code for _turn in range(4)]
        assert answers == [401, 401, 401, 429]
        assert Client().get("/api/v1/health/").status_code == 429
        assert Client(REMOTE_ADDR="10.1.2.3").get("/api/v1/health/").status_code == 200
        # Who is known is not counted among them.
        assert Program(DoctorFactory()).get("me/").status_code == 200

    def test_zero_is_no_limit(self, settings: Settings) -> None:
        settings.API_ANONYMOUS_REQUESTS_PER_MINUTE = 0
        assert {Client().get("/api/v1/health/").status_code for _turn in range(100)} == {200}
        assert not RequestCount.objects.exists()

    def test_counters_are_rows_that_every_process_sees_and_old_ones_go(self) -> None:
        objects = RequestCount.objects
        assert [objects.count("k", window_s=60)[0] for _turn in range(3)] == [1, 2, 3]
        assert objects.count("other", window_s=60)[0] == 1
        row = objects.filter(key="k").get()
        objects.filter(pk=row.pk).update(began_at="2020-01-01T00:00:00Z")
        assert objects.count("k", window_s=60)[0] == 1
        assert objects.filter(key="k").get().number == 1


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    from drf_spectacular.generators import SchemaGenerator

    return json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True)))  # type: ignore[no-any-return]


class TestDescription:
    def test_it_is_openapi_3_1_and_for_whoever_is_logged_in(self) -> None:
        body = Program(UserFactory()).get("openapi.json").json()
        assert body["openapi"].startswith("3.1")
        assert body["servers"] == [{"url": "http://testserver"}]
        assert set(body["components"]["securitySchemes"]) == {"token", "session"}
        assert is_problem(Client().get("/api/v1/openapi.json"), 401)

    def test_every_address_is_described(self, described: dict[str, Any]) -> None:
        def views(patterns: list[Any]) -> Any:
            for pattern in patterns:
                if hasattr(pattern, "url_patterns"):
                    yield from views(pattern.url_patterns)
                elif issubclass(getattr(pattern.callback, "cls", object), ApiView):
                    yield pattern

        undescribed = {"schema", "nothing"}
        known = {re.sub(r"\{\w+\}", "{}", path) for path in described["paths"]}
        for pattern in views(urlpatterns):
            route = "/api/v1/" + re.sub(r"<\w+:\w+>", "{}", str(pattern.pattern))
            assert pattern.name in undescribed or route in known, pattern

    def test_every_operation_says_what_it_does_and_how_it_refuses(self, described: dict[str, Any]) -> None:
        names = []
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                names.append(operation["operationId"])
                assert operation["summary"], (method, path)
                assert operation["tags"], (method, path)
                assert {"401", "404", "429", "default"} <= set(operation["responses"]), (method, path)
        assert len(set(names)) == len(names) > 50

    def test_examples_are_what_they_are_examples_of(self, described: dict[str, Any]) -> None:
        count = 0
        for path, operations in described["paths"].items():
            for operation in operations.values():
                contents = [operation.get("requestBody", {}).get("content", {})]
                contents += [answer.get("content", {}) for answer in operation["responses"].values()]
                for content in contents:
                    for kind in content.values():
                        for example in kind.get("examples", {}).values():
                            schema = kind["schema"] | {"components": described["components"]}
                            jsonschema.validate(example["value"], schema)
                            count += 1
                            assert path
        assert count >= 8

    def test_bodies_take_no_unknown_fields(self, described: dict[str, Any]) -> None:
        schemas = described["components"]["schemas"]
        assert schemas["PatientBodyRequest"]["additionalProperties"] is False
        assert "additionalProperties" not in schemas["Patient"]


class TestDocumentation:
    def test_the_page_holds_no_script_and_asks_nobody_else(self) -> None:
        client = Client()
        client.force_login(UserFactory())
        page = client.get(reverse("api:docs"))
        text = page.content.decode()
        scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
        assert all("src=" in attributes and not inner.strip() for attributes, inner in scripts)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
        assert page["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        for name in re.findall(r'src="/static/([^"]+)"', text):
            assert finders.find(name), name

    def test_it_is_for_whoever_is_logged_in(self) -> None:
        assert Client().get(reverse("api:docs")).status_code == 302


def test_every_address_names_a_scope_for_every_method() -> None:
    def callbacks(patterns: list[Any]) -> Any:
        for pattern in patterns:
            yield from callbacks(pattern.url_patterns) if hasattr(pattern, "url_patterns") else [pattern.callback]

    seen = set()
    for callback in callbacks(urlpatterns):
        view = getattr(callback, "cls", None)
        if view is None:
            continue
        assert set(view.scopes) <= {"GET", "POST", "PUT", "PATCH", "DELETE"}
        for method in ("GET", "POST", "PATCH", "DELETE"):
            if hasattr(view, method.lower()):
                seen.add(view.scope_for(method))
    assert seen == set(Scope.values)


def test_the_api_has_the_names_that_the_matrix_asks() -> None:
    from django.urls import get_resolver

    assert sum(name.startswith("api:") for name in names_of(get_resolver())) > 45
    assert django_settings.REST_FRAMEWORK["URL_FORMAT_OVERRIDE"] is None
    assert Patient.objects.count() == 0

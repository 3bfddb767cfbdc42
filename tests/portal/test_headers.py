"""Every answer of the portal tells the browser what to refuse, and no page needs what the policy refuses."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from portal import checks
from portal.headers import SecurityHeadersMiddleware, also_allow, policy_text
from tests.test_permission_matrix import ADMINISTRATION, TABLE, World
from tests.test_permission_matrix import world as _world

world = _world

EXPECTED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class Inline(HTMLParser):
    """Collects what a policy without ``unsafe-inline`` would block: scripts and styles in the page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open_script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note handlers, styles, and script addresses."""
        names = dict(attrs)
        for name, value in attrs:
            if name.startswith("on") or name == "style" or (value or "").strip().lower().startswith("javascript:"):
                self.found.append(f"<{tag} {name}={value}>")
        is_data = (names.get("type") or "").endswith("json")
        if tag == "script" and "src" not in names and not is_data:
            self.found.append(self.get_starttag_text() or tag)
        if tag == "style":
            self.found.append(self.get_starttag_text() or tag)
        for address in (names.get("src"), names.get("href") if tag == "link" else None):
            if address and re.match(r"(https?:)?//", address):
                self.found.append(f"foreign: {address}")


def pages_of(world: World) -> list[tuple[str, str, Any]]:
    """Return method, address and form of every question of the matrix, and of the administration's pages."""
    asked = [
        (
            question.method,
            reverse(question.name, kwargs=question.target(world)),
            question.data(world) if callable(question.data) else question.data,
        )
        for question in TABLE
    ]
    for name in ADMINISTRATION:
        model, page = name.rsplit("_", 1) if "_" in name else (name, "")
        if page in ("changelist", "add"):
            asked.append(("get", reverse(f"admin:{name}"), {}))
        elif page in ("change", "history", "delete") and (row := world.target_of(model)):
            asked.append(("get", reverse(f"admin:{name}", args=[row]), {}))
    return [*asked, ("get", reverse("admin:index"), {}), ("get", "/no/such/page/", {})]


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["anonymous", "patient", "doctor", "administrator"])
def test_every_answer_carries_the_headers_and_no_page_needs_inline_code(world: World, role: str) -> None:
    client = Client(raise_request_exception=False)
    if role != "anonymous":
        client.force_login(world.people[role])
    cookies = client.cookies.output()
    problems: list[str] = []
    for method, url, data in pages_of(world):
        cache.clear()
        client.cookies.clear()
        client.cookies.load(cookies.replace("Set-Cookie: ", ""))
        with transaction.atomic():
            response = getattr(client, method)(url, data)
            body = b"".join(response.streaming_content) if response.streaming else response.content
            transaction.set_rollback(True)
        headers = response.headers
        where = f"{method} {url} {response.status_code}"
        problems += [
            f"{where}: {name} is {headers.get(name)}" for name, value in EXPECTED.items() if headers.get(name) != value
        ]
        policy = headers.get("Content-Security-Policy", "")
        if "default-src 'none'" not in policy or "unsafe-inline" in policy or "'unsafe-eval'" in policy:
            problems.append(f"{where}: policy {policy}")
        if "camera=()" not in headers.get("Permissions-Policy", ""):
            problems.append(f"{where}: Permissions-Policy {headers.get('Permissions-Policy')}")
        if not re.search(r"no-store|max-age=0|no-cache", headers.get("Cache-Control", "")) and "jsi18n" not in url:
            problems.append(f"{where}: Cache-Control {headers.get('Cache-Control')}")
        if headers.get("Content-Type", "").startswith("text/html"):
            parser = Inline()
            parser.feed(body.decode())
            problems += [f"{where}: {found}" for found in parser.found]
    assert problems == []


def test_static_files_carry_the_policy_too(client: Client) -> None:
    response = client.get("/static/portal/portal.css")
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "no-store" not in response.headers["Cache-Control"]


def test_a_view_may_add_to_the_policy_for_its_own_page_only() -> None:
    @also_allow(worker_src=["blob:"], script_src=["'wasm-unsafe-eval'"], media_src=["'self'"])
    def viewer(request):
        return HttpResponse()

    request = RequestFactory().get("/")
    relaxed = SecurityHeadersMiddleware(viewer)(request).headers["Content-Security-Policy"]
    assert "worker-src 'self' blob:;" in relaxed
    assert "script-src 'self' 'wasm-unsafe-eval';" in relaxed
    assert relaxed.endswith("media-src 'self'")
    plain = SecurityHeadersMiddleware(lambda request: HttpResponse())(request).headers["Content-Security-Policy"]
    assert "blob:;" not in plain.split("worker-src")[1]
    assert "wasm" not in plain


def test_none_gives_way_to_an_addition() -> None:
    assert policy_text({"object-src": ["'none'"]}, additions={"object-src": ["'self'"]}) == "object-src 'self'"
    assert policy_text({"default-src": ["'none'"]}, additions={"frame-src": ["blob:"]}).endswith("frame-src blob:")


def test_a_header_that_a_view_has_set_stays() -> None:
    def view(request):
        return HttpResponse(headers={"Cache-Control": "public, max-age=60"})

    assert SecurityHeadersMiddleware(view)(RequestFactory().get("/")).headers["Cache-Control"] == "public, max-age=60"


@pytest.mark.parametrize("loose", ["'unsafe-inline'", "'unsafe-eval'", "*", "https:"])
def test_a_loose_policy_fails_the_deployment_check(settings, loose: str) -> None:
    assert checks.check_policy(None) == []
    settings.SECURE_CSP = settings.SECURE_CSP | {"script-src": ["'self'", loose]}
    assert [message.id for message in checks.check_policy(None)] == ["portal.E004"]


@pytest.mark.parametrize(("key", "is_fine"), [("k" * 50, True), ("k" * 49, False), ("", False), ("s" * 60, False)])
def test_a_weak_key_of_the_log_fails_the_deployment_check(settings, key: str, is_fine: bool) -> None:
    settings.SECRET_KEY, settings.AUDIT_KEY = "s" * 60, key
    assert [message.id for message in checks.check_audit_key(None)] == ([] if is_fine else ["portal.E003"])

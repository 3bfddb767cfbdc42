"""The frame around every page: menus, error pages, messages, and a 500 page that needs nothing."""

import pytest
from django.contrib import messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views import defaults

from tests.factories import AdministratorFactory, DoctorFactory, UserFactory

pytestmark = pytest.mark.django_db


def _page(client: Client, user: object | None = None) -> str:
    if user is not None:
        client.force_login(user)
    return client.get(reverse("accounts:profile"), follow=True).content.decode()


def test_pages_have_the_frame_that_keyboards_and_readers_need(client: Client) -> None:
    page = _page(client, UserFactory())
    assert page.count("<h1") == 1
    assert '<html lang="en-gb">' in page
    assert 'class="skip-link" href="#main"' in page
    assert '<main id="main"' in page
    assert "Decision support, not a diagnosis. Not a medical device." in page


@pytest.mark.parametrize(
    ("asked", "language", "sentence"),
    [
        ("de", "de", "Dieses Feld ist zwingend erforderlich."),
        ("en-US,en;q=0.9", "en-gb", "This field is required."),
        ("ar", "en-gb", "This field is required."),
    ],
)
def test_a_page_names_the_language_that_it_is_written_in(
    client: Client, asked: str, language: str, sentence: str
) -> None:
    answer = client.post(reverse("account_login"), headers={"Accept-Language": asked})
    page = answer.content.decode()
    assert f'<html lang="{language}">' in page
    assert sentence in page


def test_pages_have_no_inline_style_or_script(client: Client) -> None:
    page = _page(client, DoctorFactory())
    assert "style=" not in page
    assert "<style" not in page
    assert "onclick" not in page
    assert all("src=" in tag for tag in page.split("<script")[1:])


@pytest.mark.parametrize(
    ("make", "expected", "unexpected"),
    [
        (UserFactory, {"accounts/profile"}, {"Administration</a>"}),
        (AdministratorFactory, {"Administration</a>"}, {"My reports</a>", "Patients</a>"}),
        (lambda: DoctorFactory(approved_at=None), set(), {"Studies</a>", "Administration</a>", "My reports</a>"}),
    ],
)
def test_menu_shows_what_the_role_may_open(client: Client, make, expected: set[str], unexpected: set[str]) -> None:
    page = _page(client, make())
    assert all(text in page for text in expected)
    assert not any(text in page for text in unexpected)


def test_demo_says_so_and_others_do_not(client: Client, settings) -> None:
    assert "demo-banner" not in _page(client, UserFactory())
    settings.IS_DEMO = True
    assert "All people and pictures are made up" in _page(client)


def test_unknown_address_says_what_to_do_next(client: Client) -> None:
    response = client.get("/no/such/page/")
    assert response.status_code == 404
    assert b"We cannot find this page" in response.content
    assert b"log in first" in response.content
    client.force_login(UserFactory())
    assert b"Your start page shows everything" in client.get("/no/such/page/").content
    client.force_login(DoctorFactory())
    assert b"ask them to share the study" in client.get("/no/such/page/").content


def test_forged_form_gets_a_page_with_advice() -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post(reverse("account_login"), {"login": "a@example.org", "password": "x"})
    assert response.status_code == 403
    assert b"Please send the form once more" in response.content


def test_forbidden_page_renders_with_the_menu() -> None:
    request = RequestFactory().get("/")
    request.user = UserFactory()
    request.resolver_match = None
    response = defaults.permission_denied(request, PermissionError("no"))
    assert response.status_code == 403
    assert b"You may not do this" in response.content
    assert b"My profile" in response.content


def test_server_error_page_needs_neither_context_nor_database(django_assert_num_queries) -> None:
    with django_assert_num_queries(0):
        response = defaults.server_error(RequestFactory().get("/"))
    assert response.status_code == 500
    page = response.content.decode()
    assert "Something went wrong on our side" in page
    assert 'href="/static/portal/portal.css"' in page


def test_bad_request_page_needs_no_context() -> None:
    response = defaults.bad_request(RequestFactory().get("/"), ValueError("secret detail"))
    assert response.status_code == 400
    assert b"could not understand" in response.content
    assert b"secret detail" not in response.content


@pytest.mark.parametrize(
    ("level", "css", "role"),
    [
        (messages.SUCCESS, "notice--success", "status"),
        (messages.INFO, "notice--info", "status"),
        (messages.WARNING, "notice--warning", "alert"),
        (messages.ERROR, "notice--danger", "alert"),
    ],
)
def test_messages_are_announced_and_escaped(level: int, css: str, role: str) -> None:
    request = RequestFactory().get("/")
    request.session = {}
    storage = FallbackStorage(request)
    storage.add(level, "<b>stored</b>")
    html = render_to_string("_messages.html", {"messages": storage})
    assert css in html
    assert f'role="{role}"' in html
    assert "&lt;b&gt;stored" in html

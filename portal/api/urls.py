"""All addresses of the API, version 1. Each room names its own; what is here belongs to no room."""

from django.urls import include, path, re_path

from portal.api import views

app_name = "api"
urlpatterns = [
    path("", include("accounts.api.urls")),
    path("", include("studies.api.urls")),
    path("", include("reports.api.urls")),
    path("health/", views.Health.as_view(), name="health"),
    path("openapi.json", views.Description.as_view(), name="schema"),
    path("docs/", views.documentation, name="docs"),
    # Whatever else is asked below here is told so as a problem, not as a page.
    re_path(r"^.*$", views.Nothing.as_view(), name="nothing"),
]

"""Addresses of the portal. Every one needs a log-in unless its view says otherwise (LoginRequiredMiddleware)."""

from django.contrib import admin
from django.urls import include, path

from portal import views
from portal.access_history import access_history

handler429 = "accounts.views.too_many_requests"

urlpatterns = [
    path("", views.home, name="home"),
    path("healthz", views.healthz, name="healthz"),
    path("my-record/history/", access_history, name="access_history"),
    path("accounts/", include("accounts.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/second-step/", include("allauth.mfa.urls")),
    path("studies/", include("studies.urls")),
    path("reports/", include("reports.urls")),
    path("administration/", admin.site.urls),
]

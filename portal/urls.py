"""Addresses of the portal. Every one needs a log-in unless its view says otherwise (LoginRequiredMiddleware)."""

from django.contrib import admin
from django.urls import include, path

from portal import erasure_pages, monitoring_pages, probes, views
from portal.access_history import access_history
from portal.learning import teaching_page, training_pages, worth_judging
from portal.metrics import metrics

handler429 = "accounts.views.too_many_requests"

urlpatterns = [
    path("", views.home, name="home"),
    path("metrics", metrics, name="metrics"),
    # Answered by portal.probes.ProbesMiddleware before they get here; named here for whoever makes addresses.
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("readyz/web", probes.readyz_web, name="readyz_web"),
    path("my-record/history/", access_history, name="access_history"),
    path("my-record/erasure/", erasure_pages.erasure_mine, name="erasure_mine"),
    path("my-record/erasure/<uuid:patient_id>/ask/", erasure_pages.erasure_ask, name="erasure_ask"),
    path("my-record/erasure/<uuid:wish_id>/withdraw/", erasure_pages.erasure_withdraw, name="erasure_withdraw"),
    path("my-record/teaching/", teaching_page.teaching, name="teaching"),
    path("my-record/teaching/<uuid:patient_id>/", teaching_page.teaching_change, name="teaching_change"),
    path("trainings/", training_pages.training_list, name="training_list"),
    path("trainings/ask/", training_pages.training_ask, name="training_ask"),
    path("trainings/<uuid:run_id>/", training_pages.training, name="training"),
    path("trainings/<uuid:run_id>/progress/", training_pages.training_progress, name="training_progress"),
    path("trainings/<uuid:run_id>/stop/", training_pages.training_stop, name="training_stop"),
    path("worth-judging/", worth_judging.worth_judging, name="worth_judging"),
    path("erasures/", erasure_pages.erasure_list, name="erasure_list"),
    path("erasures/<uuid:wish_id>/", erasure_pages.erasure_decide, name="erasure_decide"),
    path("monitoring/", monitoring_pages.monitoring, name="monitoring"),
    path("monitoring/<uuid:hospital_id>/", monitoring_pages.monitoring_hospital, name="monitoring_hospital"),
    path("monitoring/<uuid:hospital_id>/baseline/", monitoring_pages.monitoring_baseline, name="monitoring_baseline"),
    path("monitoring/<uuid:hospital_id>/report.json", monitoring_pages.monitoring_json, name="monitoring_json"),
    path("monitoring/<uuid:hospital_id>/report.csv", monitoring_pages.monitoring_csv, name="monitoring_csv"),
    path("api/v1/", include("portal.api.urls")),
    path("accounts/", include("accounts.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/second-step/", include("allauth.mfa.urls")),
    path("studies/", include("studies.urls")),
    path("reports/", include("reports.urls")),
    path("dashboard/", include("portal.dashboard.urls")),
    path("administration/", admin.site.urls),
]

"""Addresses of this app."""

from django.urls import path

from reports import views

app_name = "reports"
urlpatterns = [
    path("", views.report_list, name="report_list"),
    path("mine/", views.my_reports, name="my_reports"),
    path("mine/<uuid:report_id>/", views.my_report, name="my_report"),
    path("study/<uuid:study_id>/draft/", views.report_create, name="report_create"),
    path("<uuid:report_id>/", views.report_detail, name="report_detail"),
    path("<uuid:report_id>/sign/", views.report_sign, name="report_sign"),
    path("<uuid:report_id>/release/", views.report_release, name="report_release"),
    path("<uuid:report_id>/report.pdf", views.report_pdf, name="report_pdf"),
    path("<uuid:report_id>/slices/<int:number>.png", views.report_slice, name="report_slice"),
    path("<uuid:report_id>/overlays/<int:number>.png", views.report_overlay, name="report_overlay"),
]

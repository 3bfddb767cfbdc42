"""Addresses of this app."""

from django.urls import path

from reports.views import automatic, bulk, drafts, files, lists, my_data, shared, sharing, signing

app_name = "reports"
urlpatterns = [
    path("", lists.report_list, name="report_list"),
    path("mine/", lists.my_reports, name="my_reports"),
    path("mine/<uuid:report_id>/", lists.my_report, name="my_report"),
    path("mine/<uuid:report_id>/share/", sharing.report_share, name="report_share"),
    path("mine/links/", sharing.share_list, name="share_list"),
    path("mine/links/<uuid:link_id>/revoke/", sharing.share_revoke, name="share_revoke"),
    path("shared/<str:token>/", shared.share_open, name="share_open"),
    path("shared/<uuid:link_id>/report/", shared.shared_report, name="shared_report"),
    path("shared/<uuid:link_id>/report.pdf", shared.shared_pdf, name="shared_pdf"),
    path("shared/<uuid:link_id>/slices/<int:number>.png", shared.shared_slice, name="shared_slice"),
    path("shared/<uuid:link_id>/overlays/<int:number>.png", shared.shared_overlay, name="shared_overlay"),
    path("mine/data/", my_data.my_data, name="my_data"),
    path("mine/data/<uuid:job_id>/my-data.zip", my_data.my_data_archive, name="my_data_archive"),
    path("words/", lists.glossary, name="glossary"),
    path("automatic/<uuid:study_id>/", automatic.automatic_report, name="automatic_report"),
    path("automatic/<uuid:study_id>/report.pdf", automatic.automatic_pdf, name="automatic_pdf"),
    path("automatic/<uuid:study_id>/overlay.png", automatic.automatic_overlay, name="automatic_overlay"),
    path("study/<uuid:study_id>/draft/", drafts.report_create, name="report_create"),
    path("bulk/draft/", bulk.bulk_draft, name="bulk_draft"),
    path("bulk/pdf/", bulk.bulk_pdf, name="bulk_pdf"),
    path("bulk/<uuid:job_id>/", bulk.bulk_job, name="bulk_job"),
    path("bulk/<uuid:job_id>/archive.zip", bulk.bulk_archive, name="bulk_archive"),
    path("<uuid:report_id>/", drafts.report_detail, name="report_detail"),
    path("<uuid:report_id>/state.json", drafts.report_state, name="report_state"),
    path("<uuid:report_id>/discard/", drafts.report_discard, name="report_discard"),
    path("<uuid:report_id>/sign/", signing.report_sign, name="report_sign"),
    path("<uuid:report_id>/release/", signing.report_release, name="report_release"),
    path("<uuid:report_id>/addendum/", signing.report_addendum, name="report_addendum"),
    path("<uuid:report_id>/amend/", signing.report_amend, name="report_amend"),
    path("<uuid:report_id>/report.pdf", files.report_pdf, name="report_pdf"),
    path("<uuid:report_id>/slices/<int:number>.png", files.report_slice, name="report_slice"),
    path("<uuid:report_id>/overlays/<int:number>.png", files.report_overlay, name="report_overlay"),
]

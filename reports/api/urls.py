"""Addresses of the API about reports and jobs."""

from django.urls import path

from reports.api import automatic, jobs, reports, sharing

urlpatterns = [
    path("studies/<uuid:study_id>/report/", reports.StudyReport.as_view(), name="study_report"),
    path("report-templates/", reports.Templates.as_view(), name="report_templates"),
    path("reports/", reports.Reports.as_view(), name="reports"),
    path("reports/<uuid:report_id>/", reports.OneReport.as_view(), name="report"),
    path("reports/<uuid:report_id>/signature/", reports.ReportSignature.as_view(), name="report_signature"),
    path("reports/<uuid:report_id>/release/", reports.ReportRelease.as_view(), name="report_release"),
    path("reports/<uuid:report_id>/addenda/", reports.ReportAddenda.as_view(), name="report_addenda"),
    path("reports/<uuid:report_id>/amendment/", reports.ReportAmendment.as_view(), name="report_amendment"),
    path("reports/<uuid:report_id>/report.pdf", reports.ReportPdf.as_view(), name="report_pdf"),
    path("reports/<uuid:report_id>/slices/<int:number>.png", reports.ReportSlice.as_view(), name="report_slice"),
    path("reports/<uuid:report_id>/overlays/<int:number>.png", reports.ReportOverlay.as_view(), name="report_overlay"),
    path("reports/<uuid:report_id>/share-links/", sharing.ReportShareLinks.as_view(), name="report_share_links"),
    path("share-links/", sharing.ShareLinks.as_view(), name="share_links"),
    path("share-links/<uuid:link_id>/revoke/", sharing.ShareLinkRevoke.as_view(), name="share_link_revoke"),
    path("own-studies/<uuid:study_id>/report/", automatic.Automatic.as_view(), name="automatic_report"),
    path("own-studies/<uuid:study_id>/report/report.pdf", automatic.AutomaticPdf.as_view(), name="automatic_pdf"),
    path(
        "own-studies/<uuid:study_id>/report/overlay.png", automatic.AutomaticOverlay.as_view(), name="automatic_overlay"
    ),
    path("jobs/", jobs.Jobs.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>/", jobs.OneJob.as_view(), name="job"),
    path("jobs/<uuid:job_id>/archive.zip", jobs.JobArchive.as_view(), name="job_archive"),
    path("my-data/", jobs.MyData.as_view(), name="my_data"),
]

"""Reports with their versions and addenda, who has them open, who may read them, and links that show one."""

from reports.models.addendum import Addendum
from reports.models.automatic import AutomaticReport, AutomaticReportQuerySet
from reports.models.bulk import BulkJob, BulkLine
from reports.models.frozen import Verification, report_pdf_path
from reports.models.grant import ReportUserObjectPermission
from reports.models.opening import Opening
from reports.models.report import Report, ReportQuerySet
from reports.models.share import ShareLink
from reports.models.template import ReportTemplate

__all__ = [
    "Addendum",
    "AutomaticReport",
    "AutomaticReportQuerySet",
    "BulkJob",
    "BulkLine",
    "Opening",
    "Report",
    "ReportQuerySet",
    "ReportTemplate",
    "ReportUserObjectPermission",
    "ShareLink",
    "Verification",
    "report_pdf_path",
]

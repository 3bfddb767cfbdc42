"""Reports with their versions and addenda, who has them open, and who may read them."""

from reports.models.addendum import Addendum
from reports.models.bulk import BulkJob, BulkLine
from reports.models.frozen import Verification, report_pdf_path
from reports.models.grant import ReportUserObjectPermission
from reports.models.opening import Opening
from reports.models.report import Report, ReportQuerySet
from reports.models.template import ReportTemplate

__all__ = [
    "Addendum",
    "BulkJob",
    "BulkLine",
    "Opening",
    "Report",
    "ReportQuerySet",
    "ReportTemplate",
    "ReportUserObjectPermission",
    "Verification",
    "report_pdf_path",
]

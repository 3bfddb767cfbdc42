"""Who may read reports. A patient's grants are written here only, and writing one twice changes nothing."""

from reports.models import Report, ReportUserObjectPermission
from studies.models import Patient


def grant_release(report: Report) -> bool:
    """Let the patient's log-in read a released report; return whether there is such a log-in."""
    reader = report.study.patient.user
    if reader is None or report.state != Report.State.RELEASED:
        return False
    ReportUserObjectPermission.objects.assign_perm("view_report", reader, report)
    return True


def grant_released_reports(patient: Patient) -> int:
    """Let the log-in that a record was just tied to read what was released before; return how many reports there are.

    Called through ``settings.AFTER_RECORD_CLAIM``, because the room that keeps the records knows no reports.
    """
    released = Report.objects.filter(state=Report.State.RELEASED, study__patient=patient)
    return sum(grant_release(report) for report in released.select_related("study__patient__user"))

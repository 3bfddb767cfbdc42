"""Check every signed report against the hashes that were recorded when it was signed."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from reports.models import Report


class Command(BaseCommand):
    """Print one line for each report that is not as it was signed; exit code 1 if there is one."""

    help = "Check that content and PDF of every signed report are those that were signed."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the check. Names no patient: only identifiers are printed."""
        checked = damaged = 0
        for report in Report.objects.exclude(state=Report.State.DRAFT).order_by("signed_at", "id").iterator(100):
            checked += 1
            verification = report.verify()
            if not verification.is_intact:
                damaged += 1
                self.stdout.write(self.style.ERROR(f"{report.id}: {' '.join(verification.problems)}"))
        if damaged:
            raise CommandError(f"{damaged} of {checked} signed reports are not as they were signed.")
        self.stdout.write(self.style.SUCCESS(f"All {checked} signed reports are as they were signed."))

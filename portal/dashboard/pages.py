"""Which figures stand on which page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from portal.dashboard import challenger, life, quality, speed, work
from portal.dashboard.panels import Panel
from portal.dashboard.scope import Scope


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: the name in its address, its title, and its panels in order by the name in the address of each."""

    name: str
    title: Any
    panels: dict[str, Callable[[Scope], Panel]]

    def panels_for(self, scope: Scope) -> list[Panel]:
        """Count everything that the page shows."""
        return [make(scope) for make in self.panels.values()]


PAGES: Final = {
    page.name: page
    for page in (
        Page(
            name="quality",
            title=_("Quality"),
            panels={
                "measured": quality.measured,
                "against-doctors": quality.against_doctors,
                "confusion": quality.confusion,
                "findings": quality.findings,
                "first-impressions": quality.first_impressions,
            },
        ),
        Page(
            name="speed",
            title=_("Speed"),
            panels={
                "durations": speed.durations,
                "waits": speed.waits,
                "throughput": speed.throughput,
                "steps": speed.steps,
            },
        ),
        Page(
            name="work",
            title=_("Work"),
            panels={
                "uploads": work.uploads,
                "outcomes": work.outcomes,
                "failures": work.failures,
                "reports": work.reports,
                "turnaround": work.turnaround,
            },
        ),
        Page(
            name="model",
            title=_("Model"),
            panels={
                "versions": life.versions,
                "deployments": life.deployments,
                "challenger": challenger.challenger,
                "training": life.training,
            },
        ),
    )
}

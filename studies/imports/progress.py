"""How far an import is, in figures: its files and its analyses apart."""

from dataclasses import astuple, dataclass

from django.db.models import Count

from studies.models import Analysis, Image, Import, ImportFile


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts of an import's files (archives and manifests are not counted) and of the analyses of its slices."""

    files: int
    waiting: int
    asked: int
    accepted: int
    duplicates: int
    rejected: int
    warnings: int
    slices: int
    analysed: int
    failed: int
    is_going_on: bool

    @property
    def decided(self) -> int:
        """Files whose line has its answer, or waits for the doctor's."""
        return self.files - self.waiting

    @property
    def is_analysing(self) -> bool:
        """Whether analyses are still under way."""
        return self.analysed + self.failed < self.slices

    @property
    def key(self) -> str:
        """A text that changes with every figure."""
        return "-".join(str(int(value)) for value in astuple(self))


def progress_of(batch: Import) -> Progress:
    """Count an import's files and analyses, in three queries."""
    State = ImportFile.State
    files = dict(batch.files.order_by().values_list("state").annotate(count=Count("id")))
    slices: dict[str, int] = {}
    for image in Image.objects.filter(import_files__batch=batch).with_state().only("id"):
        slices[image.state] = slices.get(image.state, 0) + 1
    analysed = slices.get(Analysis.State.SUCCEEDED, 0)
    failed = slices.get(Analysis.State.FAILED, 0) + slices.get(Analysis.State.CANCELLED, 0)
    return Progress(
        files=sum(files.values()) - files.get(State.OPENED, 0),
        waiting=files.get(State.WAITING, 0) + files.get(State.READ, 0),
        asked=files.get(State.ASKED, 0),
        accepted=files.get(State.ACCEPTED, 0),
        duplicates=files.get(State.DUPLICATE, 0),
        rejected=files.get(State.REJECTED, 0),
        warnings=batch.files.exclude(warning="").count(),
        slices=sum(slices.values()),
        analysed=analysed,
        failed=failed,
        is_going_on=batch.is_active or analysed + failed < sum(slices.values()),
    )

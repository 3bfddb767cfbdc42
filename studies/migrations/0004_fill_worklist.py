"""Write into the studies' own rows what their analyses come to, as the portal does from now on with each transition."""

from django.db import migrations
from django.utils import timezone

MOST_URGENT_FIRST = ("running", "queued", "failed", "cancelled", "succeeded")


def fill(apps, schema_editor):
    Study, Analysis = apps.get_model("studies", "Study"), apps.get_model("studies", "Analysis")
    for study in Study.objects.all().iterator():
        states, answers = {}, {}
        for analysis in Analysis.objects.filter(image__study=study).order_by("-queued_at", "-id"):
            states.setdefault(analysis.image_id, analysis.state)
            if analysis.state == "succeeded":
                answers.setdefault(analysis.image_id, analysis)
        worst = max(answers.values(), key=lambda answer: answer.malignant_probability, default=None)
        Study.objects.filter(id=study.id).update(
            state=next((state for state in MOST_URGENT_FIRST if state in states.values()), ""),
            received_on=timezone.localdate(study.created_at),
            triage_malignancy=worst.malignant_probability if worst else None,
            triage_class=max(worst.probabilities, key=worst.probabilities.__getitem__, default="") if worst else "",
            answered_at=max((answer.finished_at for answer in answers.values()), default=None),
        )


class Migration(migrations.Migration):

    dependencies = [
        ('studies', '0003_worklist'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]

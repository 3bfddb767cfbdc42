import django.db.models.deletion
import reports.models
import uuid
from django.conf import settings
from django.db import migrations, models


def refuse_to_lose_versions(apps, schema_editor):
    """Going back keeps one report a study: stop where that would throw a signed version away."""
    Report = apps.get_model('reports', 'Report')
    if Report.objects.using(schema_editor.connection.alias).filter(version__gt=1).exists():
        raise RuntimeError(
            'There are amended reports. Their versions cannot be kept without this migration, so it was not undone.'
        )



class Migration(migrations.Migration):

    dependencies = [
        ('reports', '0002_people_and_grants'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('studies', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='report',
            name='amendment_reason',
            field=models.TextField(blank=True, editable=False, max_length=1000, verbose_name='reason for the amendment'),
        ),
        migrations.AddField(
            model_name='report',
            name='amends',
            field=models.OneToOneField(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='amendment', to='reports.report'),
        ),
        migrations.AddField(
            model_name='report',
            name='superseded_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='report',
            name='version',
            field=models.PositiveSmallIntegerField(default=1, editable=False),
        ),
        migrations.AlterField(
            model_name='report',
            name='study',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='studies.study'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.UniqueConstraint(fields=('study', 'version'), name='a_version_stands_once_in_a_study'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'draft')), fields=('study',), name='a_study_has_one_draft_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['signed', 'released']), ('superseded_at__isnull', True)), fields=('study',), name='a_study_has_one_signed_report_in_force'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('amendment_reason', ''), ('amends__isnull', True), ('version', 1)), models.Q(('amends__isnull', False), ('version__gt', 1), models.Q(('amendment_reason', ''), _negated=True)), _connector='OR'), name='every_version_but_the_first_amends_another_for_a_reason'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.CheckConstraint(condition=models.Q(('superseded_at__isnull', True), models.Q(('state', 'draft'), _negated=True), _connector='OR'), name='only_a_signed_report_is_superseded'),
        ),
        migrations.RunPython(migrations.RunPython.noop, refuse_to_lose_versions, elidable=False),
    ]

import django.db.models.deletion
import reports.models
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reports', '0003_report_versions'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Addendum',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveSmallIntegerField(editable=False)),
                ('text', models.TextField(editable=False, max_length=5000, verbose_name='addendum')),
                ('signed_at', models.DateTimeField(editable=False)),
                ('signed_content', models.JSONField(editable=False)),
                ('content_sha256', models.CharField(editable=False, max_length=64)),
                ('pdf', models.FileField(editable=False, upload_to=reports.models.report_pdf_path)),
                ('pdf_sha256', models.CharField(editable=False, max_length=64)),
            ],
            options={
                'verbose_name': 'addendum',
                'verbose_name_plural': 'addenda',
                'ordering': ['report', 'number'],
            },
        ),
        migrations.CreateModel(
            name='Opening',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('revision', models.PositiveIntegerField()),
                ('seen_at', models.DateTimeField()),
                ('is_editing', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name': 'opening of a report',
                'verbose_name_plural': 'openings of reports',
            },
        ),
        migrations.AddField(
            model_name='addendum',
            name='report',
            field=models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='addenda', to='reports.report'),
        ),
        migrations.AddField(
            model_name='addendum',
            name='signed_by',
            field=models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='signed_addenda', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='opening',
            name='doctor',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='opening',
            name='report',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='openings', to='reports.report'),
        ),
        migrations.AddConstraint(
            model_name='addendum',
            constraint=models.UniqueConstraint(fields=('report', 'number'), name='an_addendum_number_stands_once_in_a_report'),
        ),
        migrations.AddConstraint(
            model_name='addendum',
            constraint=models.CheckConstraint(condition=models.Q(('text', ''), _negated=True), name='an_addendum_says_something'),
        ),
        migrations.AddConstraint(
            model_name='addendum',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('content_sha256', ''), _negated=True), models.Q(('pdf', ''), _negated=True), models.Q(('pdf_sha256', ''), _negated=True)), name='an_addendum_is_signed'),
        ),
        migrations.AddConstraint(
            model_name='opening',
            constraint=models.UniqueConstraint(fields=('report', 'doctor'), name='a_doctor_stands_once_at_a_report'),
        ),
    ]

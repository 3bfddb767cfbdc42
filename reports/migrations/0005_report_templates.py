import django.db.models.functions.text
import django.db.models.deletion
import reports.models
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_initial'),
        ('reports', '0004_openings_and_addenda'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ReportTemplate',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=80, verbose_name='name')),
                ('findings_text', models.TextField(blank=True, max_length=10000, verbose_name='findings')),
                ('impression', models.TextField(blank=True, max_length=5000, verbose_name='impression')),
                ('is_active', models.BooleanField(default=True, verbose_name='can be chosen')),
                ('changed_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': 'report template',
                'verbose_name_plural': 'report templates',
                'ordering': ['name', 'id'],
            },
        ),
        migrations.AddField(
            model_name='reporttemplate',
            name='changed_by',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='reporttemplate',
            name='hospital',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='report_templates', to='accounts.hospital', verbose_name='hospital'),
        ),
        migrations.AddConstraint(
            model_name='reporttemplate',
            constraint=models.UniqueConstraint(models.F('hospital'), django.db.models.functions.text.Lower('name'), name='a_template_name_stands_once_in_a_hospital'),
        ),
        migrations.AddConstraint(
            model_name='reporttemplate',
            constraint=models.CheckConstraint(condition=models.Q(('findings_text', ''), ('impression', ''), _negated=True), name='a_template_has_a_text'),
        ),
    ]

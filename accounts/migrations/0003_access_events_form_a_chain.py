"""Number, hash, patient and hospital of access events; still empty in events that exist."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_hospital_reads_first")]

    operations = [
        migrations.AddField(
            model_name="accessevent",
            name="sequence",
            field=models.PositiveBigIntegerField(null=True, editable=False, verbose_name="number"),
        ),
        migrations.AddField(
            model_name="accessevent",
            name="sha256",
            field=models.CharField(null=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="accessevent",
            name="hospital",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.hospital",
            ),
        ),
        migrations.AddField(
            model_name="accessevent",
            name="note",
            field=models.CharField(blank=True, default="", max_length=500, verbose_name="note"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="accessevent",
            name="patient_id",
            field=models.UUIDField(editable=False, null=True, verbose_name="patient's record"),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="action",
            field=models.CharField(
                choices=[
                    ("viewed", "viewed"),
                    ("created", "created"),
                    ("changed", "changed"),
                    ("downloaded", "downloaded"),
                    ("signed", "signed"),
                    ("released", "released"),
                    ("claimed", "claimed"),
                    ("shared", "shared"),
                    ("unshared", "ended the sharing of"),
                    ("emergency", "opened without a grant, giving a reason"),
                    ("deleted", "deleted"),
                    ("logged_in", "logged in"),
                    ("logged_out", "logged out"),
                    ("login_failed", "log-in failed"),
                ],
                max_length=20,
                verbose_name="action",
            ),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="actor",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="access_events",
                to=settings.AUTH_USER_MODEL,
                verbose_name="person",
            ),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="address",
            field=models.GenericIPAddressField(null=True, verbose_name="address"),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="time"),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="target_id",
            field=models.UUIDField(null=True, verbose_name="identifier"),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="target_type",
            field=models.CharField(max_length=40, verbose_name="kind"),
        ),
        migrations.AddIndex(
            model_name="accessevent",
            index=models.Index(fields=["patient_id", "-at"], name="access_event_by_patient"),
        ),
        migrations.AddIndex(
            model_name="accessevent",
            index=models.Index(fields=["hospital", "-at"], name="access_event_by_hospital"),
        ),
    ]

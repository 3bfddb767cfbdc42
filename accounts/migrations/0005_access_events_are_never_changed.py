"""Every event has its place in the chain, and the database refuses to change or delete one."""

from django.db import migrations, models

from accounts.audit_triggers import install_triggers, remove_triggers


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_chain_existing_access_events")]

    operations = [
        migrations.AlterField(
            model_name="accessevent",
            name="sequence",
            field=models.PositiveBigIntegerField(editable=False, unique=True, verbose_name="number"),
        ),
        migrations.AlterField(
            model_name="accessevent",
            name="sha256",
            field=models.CharField(editable=False, max_length=64),
        ),
        migrations.AddConstraint(
            model_name="accessevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("actor__isnull", False),
                    ("action__in", ("viewed", "downloaded", "deleted", "login_failed")),
                    _connector="OR",
                ),
                name="whoever_changes_something_is_known",
            ),
        ),
        migrations.RunPython(install_triggers, remove_triggers),
    ]

"""A change of the model in use is an access event, and may come from the machine's command line, where nobody logs in."""

from django.db import migrations, models

from accounts.audit_triggers import install_triggers


class Migration(migrations.Migration):
    dependencies = [("accounts", "0011_requests_of_programs")]

    operations = [
        # SQLite loses the triggers with the table that a changed constraint makes it rebuild: in both directions.
        migrations.RunPython(migrations.RunPython.noop, install_triggers),
        migrations.RemoveConstraint(model_name="accessevent", name="whoever_changes_something_is_known"),
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
                    ("deployed", "changed the model in use"),
                    ("logged_in", "logged in"),
                    ("logged_out", "logged out"),
                    ("login_failed", "log-in failed"),
                ],
                max_length=20,
                verbose_name="action",
            ),
        ),
        migrations.AddConstraint(
            model_name="accessevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("actor__isnull", False),
                    ("action__in", ("viewed", "downloaded", "deleted", "login_failed", "deployed")),
                    _connector="OR",
                ),
                name="whoever_changes_something_is_known",
            ),
        ),
        migrations.RunPython(install_triggers, migrations.RunPython.noop),
    ]

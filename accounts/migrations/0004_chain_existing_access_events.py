"""Events from before the chain become its beginning, in the order in which they were written."""

from typing import Any

from django.db import migrations

from accounts.audit import START, event_hash


def chain(apps: Any, schema_editor: Any) -> None:
    AccessEvent = apps.get_model("accounts", "AccessEvent")
    previous = START
    events = AccessEvent.objects.select_related("actor").order_by("id")
    for sequence, event in enumerate(events.iterator(chunk_size=2000), start=1):
        event.sequence = sequence
        event.hospital_id = event.actor.hospital_id
        event.sha256 = previous = event_hash(event, previous=previous)
        event.save()


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_access_events_form_a_chain")]

    operations = [migrations.RunPython(chain, migrations.RunPython.noop)]

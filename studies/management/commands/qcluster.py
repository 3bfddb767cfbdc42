"""``manage.py qcluster``: the worker; in place of django-q2's command of this name, whose options it takes."""

import os
from typing import Any

from django_q.management.commands.qcluster import Command as DjangoQCommand

from studies.cluster import run


class Command(DjangoQCommand):
    """Run one cluster of workers until SIGTERM or SIGINT; both let it finish, or hand back, what it has in hand."""

    help = "Start a worker: it analyses slices and takes the steps of imports and jobs until it is told to stop."

    def handle(self, *args: Any, **options: Any) -> None:
        """Start the cluster; the process ends with it."""
        if name := options.get("cluster_name"):
            os.environ["Q_CLUSTER_NAME"] = name
        run(is_once=bool(options.get("run_once")))

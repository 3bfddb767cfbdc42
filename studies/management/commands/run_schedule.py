"""``manage.py run_schedule``: the scheduler as a process of its own, for installations with many workers."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django_q.scheduler import scheduler

from studies.cluster import touch

EVERY_S = 15


class Command(BaseCommand):
    """Put what is due onto the queue until SIGTERM or SIGINT, as workers do where ``IRA_WORKER_SCHEDULE`` is on."""

    help = (
        "Put scheduled tasks (sweepers, monitoring) onto the queue when they are due. Any number may run: a row lock "
        "lets one of them send each task. Needed only where all workers have IRA_WORKER_SCHEDULE=false."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look every few seconds; a database that is away for a while is logged and asked again."""
        is_over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, frame: is_over.set())
        self.stdout.write(f"Looking every {EVERY_S} seconds what is due.")
        self.stdout.flush()
        while not is_over.is_set():
            touch()
            scheduler()
            is_over.wait(EVERY_S)
        self.stdout.write("The scheduler has stopped.")

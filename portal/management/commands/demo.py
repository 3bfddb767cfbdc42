"""``manage.py demo``: prepare the demo hospital, then run web and worker in the foreground with one log."""

import os
import shlex
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from honcho.manager import Manager

HOST = "127.0.0.1"
READY_WITHIN_S = 60


class Command(BaseCommand):
    """Bring the demo up: database, roles, demo hospital, web process and worker."""

    help = "Prepare the demo hospital and run web and worker until Ctrl-C. Only with the demo settings."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the port to answer on."""
        parser.add_argument("--port", type=int, default=8000, help="port on this machine (default 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, then run until interrupted. Raises ``CommandError`` with a sentence for what the user can mend."""
        if not settings.IS_DEMO:
            raise CommandError("The demo runs with its own settings only. Please start it with: make demo")
        port: int = options["port"]
        self._refuse_taken_port(port)
        try:
            self._prepare()
        except KeyboardInterrupt:
            self.stdout.write("\nStopped while preparing. The next make demo goes on from here.")
            sys.exit(130)
        sys.exit(self._run(port))

    def _prepare(self) -> None:
        self._step("Preparing the database")
        call_command("check")
        call_command("migrate", interactive=False, verbosity=0)
        self._step("Preparing roles and schedules")
        call_command("create_roles", verbosity=0)
        call_command("ensure_schedules", verbosity=0)
        call_command("models", ensure_starter=True, verbosity=0)
        call_command("seed_demo")
        connection.close()

    def _step(self, text: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"▸ {text}"))
        self.stdout.flush()

    def _refuse_taken_port(self, port: int) -> None:
        if not 1 <= port <= 65535:
            raise CommandError(f"A port is a number from 1 to 65535, not {port}. Please try: make demo PORT=8001")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                reason = (error.strerror or "refused").lower()
                raise CommandError(
                    f"Port {port} cannot be used ({reason}). Perhaps the demo already runs in another "
                    f"window; otherwise choose another port: make demo PORT={port + 1 if port < 65535 else 8000}"
                ) from error

    def _run(self, port: int) -> int:
        """Run both processes until one ends or a signal arrives; return the exit code (0 after Ctrl-C)."""
        # Ctrl-C reaches this process only: the manager starts each child in a session of its own and ends them itself.
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "PYTHONUNBUFFERED": "1"}
        python = shlex.quote(sys.executable)
        manager = Manager()
        manager.add_process(
            "web",
            f"exec {python} -m gunicorn portal.wsgi --bind {HOST}:{port} --workers 1 --threads 8 --log-level warning "
            "--logger-class portal.weblog.AccessLogger --access-logfile - "
            "--access-logformat '%(m)s %(U)s %(s)s %(M)sms'",
            env=environment,
        )
        manager.add_process(
            "worker", f"exec {python} -m portal.own_session {python} manage.py qcluster", env=environment
        )
        # A closed terminal (SIGHUP) or a killed parent must end the children as Ctrl-C does.
        signal.signal(signal.SIGHUP, _terminate_self)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        threading.Thread(target=self._announce, args=(port,), daemon=True).start()
        manager.loop()
        interrupted = {128 + signal.SIGINT, 128 + signal.SIGTERM}
        if manager.returncode in interrupted:
            self.stdout.write("The demo has stopped. Its data is kept; make demo-reset starts over.")
            return 0
        return manager.returncode or 0

    def _announce(self, port: int) -> None:
        address = f"http://localhost:{port}/"
        give_up_at = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up_at:
            try:
                with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=2):  # nosec B310
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        else:
            self.stdout.write(self.style.ERROR("The web process does not answer; the log above says why."))
            return
        lines = [
            "",
            f"  The demo is ready:  {address}",
            "",
            *(f"    {role:<14} {email:<22} {settings.DEMO_PASSWORD}" for role, email in settings.DEMO_LOGINS.items()),
            "",
            "  All people and pictures in it are invented. Not a medical device. Ctrl-C ends it.",
            "",
        ]
        self.stdout.write(self.style.SUCCESS("\n".join(lines)))
        self.stdout.flush()


def _terminate_self(signum: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)

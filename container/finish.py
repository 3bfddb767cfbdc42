"""The last step of the image's build: static files as they are sent, and bytecode of what the processes load.

Throw-away values satisfy the settings here and reach no running process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

APP = Path("/app")
STATIC = APP / "static"
# Where Python looks for bytecode first (PYTHONPYCACHEPREFIX): one folder for everything, the standard library included,
# which the base image has without. Writing it at run time is not possible on a read-only file system.
BYTECODE = Path("/bytecode")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "DJANGO_SETTINGS_MODULE": "portal.settings.production",
    "DJANGO_SECRET_KEY": "build",
    "IRA_AUDIT_KEY": "build",
    "DJANGO_ALLOWED_HOSTS": "build",
    "DATABASE_URL": "postgres://build@localhost/build",
    "EMAIL_URL": "consolemail://",
    "IRA_VAR_DIR": "/tmp/build",  # noqa: S108 - inside the build's own container
    "IRA_STATIC_ROOT": str(STATIC),
    "PYTHONPYCACHEPREFIX": str(BYTECODE),
}
# Everything that web, worker and scheduler have loaded once they have done each of their jobs.
LOADED = """
import django; django.setup()
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.handlers.wsgi import WSGIHandler
from django.template.loader import get_template
from django.urls import get_resolver
import django.db.backends.postgresql.base, psycopg, psycopg_binary, psycopg_pool
import gunicorn.app.wsgiapp, gunicorn.workers.gthread, portal.webserver
import django_q.cluster, studies.cluster, studies.tasks, reports.tasks
import django.core.management.commands.check, django.core.management.commands.migrate
import ai_edge_litert.interpreter, scipy.ndimage, scipy.stats
import gdcm, pydicom.pixels, xhtml2pdf.pisa, pypdf
WSGIHandler()
get_resolver().url_patterns
get_template("base.html")
"""


def run(*arguments: str) -> None:
    """Run Python with the build's environment."""
    subprocess.run([sys.executable, *arguments], cwd=APP, env=ENVIRONMENT, check=True)  # noqa: S603 - our own words


def main() -> None:
    """Collect, compile, and leave nothing of the build behind."""
    run("manage.py", "collectstatic", "--noinput", "--verbosity", "0")
    # What is sent lies in one folder now; where it came from, and maps for debuggers, need not be there as well.
    (packages,) = Path(sys.prefix).glob("lib/python3.*/site-packages")
    for path in packages.rglob("static"):
        if path.is_dir():
            shutil.rmtree(path)
    for pattern in ("*.map", "*.map.gz"):
        for path in STATIC.rglob(pattern):
            path.unlink()
    for path in STATIC.glob("*/redoc*"):
        shutil.rmtree(path)
    BYTECODE.mkdir()  # Python would make it below the current folder
    run("-c", LOADED)
    # collectstatic writes as the portal stores pictures, readable to the writer only; the image is read by user 10001.
    for folder in (APP, BYTECODE):
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    shutil.rmtree("/tmp/build", ignore_errors=True)  # noqa: S108 - as above


if __name__ == "__main__":
    main()

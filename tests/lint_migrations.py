"""``.ci/lint-migrations``: which migration would lock or break a portal that runs? Ends with 1 where one would."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.postgres_server import running_server
from tests.tools import ROOT, find_postgres

# Up to here migrations were made before anybody had installed a version: nobody's portal runs while they are applied.
BEFORE_THE_FIRST_INSTALLATION = {"accounts": "0011", "ml": "", "reports": "0009", "studies": "0009"}
# What the linter would object to and was looked at: the migration, and why it may stay as it is.
LOOKED_AT: dict[str, str] = {}


def migrations_to_lint() -> list[Path]:
    """The migrations that come after those of the time before the first installation."""
    found: list[Path] = []
    for app, last in BEFORE_THE_FIRST_INSTALLATION.items():
        paths = sorted((ROOT / app / "migrations").glob("[0-9]*.py"))
        found += [path for path in paths if path.stem[:4] > last and f"{app}.{path.stem}" not in LOOKED_AT]
    return found


def main() -> int:
    """Lint on a throw-away server; return the exit code."""
    binaries = find_postgres()
    if binaries is None:
        sys.stderr.write("NOT CHECKED: no PostgreSQL server is installed, so no migration was judged.\n")
        return 1 if os.environ.get("REQUIRE_ALL") == "1" else 0
    with running_server(binaries, "fsync=off") as server, tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "migrations"
        names.write_text("".join(f"{path.relative_to(ROOT)}\n" for path in migrations_to_lint()))
        environment = os.environ | {
            "DATABASE_URL": server.url(),
            "IRA_VAR_DIR": folder,
            "DJANGO_SETTINGS_MODULE": "tests.lint_settings",
        }
        command = [sys.executable, "manage.py", "lintmigrations", "--no-cache", "--include-migrations-from", str(names)]
        done = subprocess.run([*command, "--quiet", "ok", "ignore"], cwd=ROOT, env=environment, check=False)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())

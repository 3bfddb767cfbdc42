"""Print a complete ``.env`` for compose.yaml, with random secrets: ``python3 container/make_env.py HOST >.env``.

Needs nothing but Python. Keep the file readable to yourself only, and a copy of it apart from the backups.
"""

import base64
import re
import secrets
import sys

USAGE = "Please name the host that people will type: python3 container/make_env.py radiology.example.org >.env"
TEXT = """\
# Secrets of this installation: chmod 600, and a copy apart from the backups. docs/configuration.md explains each line.
PORTAL_HOST={host}
# Empty for a public name; for a network without internet: tls internal
PORTAL_TLS=
DJANGO_ALLOWED_HOSTS={host}
DJANGO_CSRF_TRUSTED_ORIGINS=https://{host}
DJANGO_SECRET_KEY={secret_key}
IRA_AUDIT_KEY={audit_key}
IRA_PICTURE_KEYS={picture_key}
IRA_READY_TOKEN={ready_token}
POSTGRES_PASSWORD={database_password}
MLFLOW_PASSWORD={mlflow_password}
# The hospital's mail server; as it stands, mails are written to the log.
EMAIL_URL=consolemail://
IRA_FROM_EMAIL=Radiology portal <no-reply@{host}>
IRA_TIME_ZONE=UTC
# How many worker containers, and processes in each.
WORKERS=1
IRA_WORKERS=1
"""


def environment(host: str) -> str:
    """Return the file's text. Raises ``ValueError`` with a sentence for a name that is none."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
        raise ValueError(USAGE)
    return TEXT.format(
        host=host,
        secret_key=secrets.token_urlsafe(60),
        audit_key=secrets.token_urlsafe(60),
        picture_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        ready_token=secrets.token_urlsafe(32),
        database_password=secrets.token_urlsafe(32),
        mlflow_password=secrets.token_urlsafe(32),
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(environment(*sys.argv[1:]))
    except (TypeError, ValueError):
        sys.exit(USAGE)

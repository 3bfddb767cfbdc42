"""The access log of the web process: what people ask for, without the chatter of probes and style sheets.

And without what nobody should read there: searches (names of patients) and the secrets in mailed links.
"""

import re
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from portal.secrets_in_addresses import without_secrets

SILENT = ("/healthz", "/static/")


class AccessLogger(Logger):
    """gunicorn's logger, silent about successful requests for static files and health checks."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one answered request unless it is of the silent kind and went well."""
        if environ.get("PATH_INFO", "").startswith(SILENT) and str(resp.status).startswith(("2", "3")):
            return
        super().access(resp, req, environ, request_time)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:
        """Return what a line is made of, addresses without their questions and secrets."""
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        for name in ("r", "U", "f"):
            atoms[name] = without_secrets(re.sub(r"\?[^ ]*", "", str(atoms.get(name, "-"))))
        return atoms | {"q": ""}

"""The access log of the web process: what people ask for, without the chatter of probes and style sheets.

And without what nobody should read there: searches (names of patients) and the secrets in mailed links. With
``IRA_LOG_FORMAT=json`` each line is an object with the identifiers of request, person and study.
"""

import os
import re
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from portal.secrets_in_addresses import without_secrets

SILENT = ("/healthz", "/readyz", "/static/")


class AccessLogger(Logger):
    """gunicorn's logger, silent about successful requests for static files and health checks."""

    def setup(self, cfg: Any) -> None:
        """Set up gunicorn's two logs, in the portal's format."""
        super().setup(cfg)
        self.is_json = os.environ.get("IRA_LOG_FORMAT") == "json"
        if self.is_json:
            from portal.logs import JsonFormatter

            for handler in (*self.error_log.handlers, *self.access_log.handlers):
                handler.setFormatter(JsonFormatter())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one answered request unless it is of the silent kind and went well."""
        if environ.get("PATH_INFO", "").startswith(SILENT) and str(resp.status).startswith(("2", "3")):
            return
        if not self.is_json:
            super().access(resp, req, environ, request_time)
        elif self.access_log_enabled:
            method, path = str(environ.get("REQUEST_METHOD", "-")), without_secrets(str(environ.get("PATH_INFO", "-")))
            status = int(str(resp.status).split(maxsplit=1)[0])
            duration_ms = round(request_time.total_seconds() * 1000)
            what = {"method": method, "path": path, "status": status, "duration_ms": duration_ms}
            known = environ.get("portal.log", {})
            self.access_log.info("%s %s %d", method, path, status, extra=known | what)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:
        """Return what a line is made of, addresses without their questions and secrets."""
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        for name in ("r", "U", "f"):
            atoms[name] = without_secrets(re.sub(r"\?[^ ]*", "", str(atoms.get(name, "-"))))
        return atoms | {"q": ""}

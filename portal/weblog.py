"""The access log of the web process: what people ask for, without the chatter of probes and style sheets."""

from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

SILENT = ("/healthz", "/static/")


class AccessLogger(Logger):
    """gunicorn's logger, silent about successful requests for static files and health checks."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one answered request unless it is of the silent kind and went well."""
        if environ.get("PATH_INFO", "").startswith(SILENT) and str(resp.status).startswith(("2", "3")):
            return
        super().access(resp, req, environ, request_time)

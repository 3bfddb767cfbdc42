"""Health check of a container: asks the web process, or looks at the file whose time shows that the worker lives.

Which of them runs here is told by the container's first process. Only the standard library, so that it costs a few
milliseconds. Ends with 1 where something is wrong.
"""

import http.client
import os
import sys
import time
from pathlib import Path

OLDEST_HEARTBEAT_S = 60
WITHIN_S = 4


def web_is_alive() -> bool:
    """Whether the web process of this container answers."""
    port = os.environ.get("IRA_WEB_BIND", "").rpartition(":")[2] or "8000"
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=WITHIN_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False


def heart_beats() -> bool:
    """Whether the worker or scheduler has shown lately that it lives."""
    try:
        beaten_at = Path(os.environ["IRA_HEARTBEAT_FILE"]).stat().st_mtime
    except OSError:
        return False
    return time.time() - beaten_at < OLDEST_HEARTBEAT_S


if __name__ == "__main__":
    serves = b"gunicorn" in Path("/proc/1/cmdline").read_bytes()
    sys.exit(0 if (web_is_alive() if serves else heart_beats()) else 1)

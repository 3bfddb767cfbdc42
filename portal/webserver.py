"""How gunicorn serves the portal. Found through ``gunicorn.conf.py``; options on its command line win.

SIGTERM: no new connections are taken, requests that are being answered have ``graceful_timeout`` seconds to end.
"""

import os
from pathlib import Path

bind = os.environ.get("IRA_WEB_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("IRA_WEB_PROCESSES", "2"))
threads = int(os.environ.get("IRA_WEB_THREADS", "4"))
worker_class = "gthread"
# An upload of a gigabyte and the answer of a slice that is classified at once take their time; a thread that answers
# does not count as hanging, so this is how long a whole process may be silent.
timeout = 60
graceful_timeout = 30
# Longer than a proxy keeps an idle connection, so that it is the proxy that closes (AWS: 60 s).
keepalive = 65
# Not all at once, so that a process that has grown is replaced while the others answer.
max_requests = 5000
max_requests_jitter = 500
# Each process shows here that it is alive; in memory, so that a slow or read-only disk does not matter.
if Path("/dev/shm").is_dir():  # noqa: S108 - the kernel's own folder; gunicorn makes a file of a random name in it
    worker_tmp_dir = "/dev/shm"  # noqa: S108
# Nobody steers it from a terminal, and a read-only home holds no socket.
control_socket_disable = True
logger_class = "portal.weblog.AccessLogger"
accesslog = "-"
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(M)sms'

"""A load balancer in small: leads requests to the portal of the live colour, or to the one that a header names."""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from infrastructure.smoke import COLOUR_HEADER


@contextmanager
def balancer(portals: Mapping[str, str], *, live: Callable[[], str]) -> Iterator[str]:
    """Answer on a free port; ``portals`` are addresses by colour, ``live`` says which colour people reach now."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            target = portals.get(self.headers.get(COLOUR_HEADER) or live())
            if target is None:
                self.send_error(503)
                return
            connection = http.client.HTTPConnection(urlsplit(target).netloc, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name != COLOUR_HEADER}
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

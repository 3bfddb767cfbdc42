"""A throw-away PostgreSQL server on a free port of the loopback address."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools import free_port


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs, and how to end it."""

    binaries: Path
    folder: Path
    port: int
    settings: tuple[str, ...]

    @property
    def data(self) -> Path:
        """Where its tables lie."""
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgres://portal@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = " ".join(f"-c {setting}" for setting in self.settings)
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} {options}"
        self._control("-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, *, mode: str = "immediate") -> None:
        """End it: ``immediate`` is a crash, ``fast`` cuts all connections, both keep what is committed."""
        self._control("-m", mode, "-w", "stop")

    def make_database(self, name: str, *, encoding: str = "UTF8") -> str:
        """Make an empty database, in the place of one of that name, and return its address."""
        creation = ["--template", "template0", "--encoding", encoding, "--locale", "C"]
        for program, options in (("dropdb", ["--if-exists", "--force"]), ("createdb", creation)):
            command = [self.binaries / program, "-h", "127.0.0.1", "-p", str(self.port), "-U", "portal", *options, name]
            subprocess.run(command, check=True, capture_output=True)
        return self.url(name)

    def _control(self, *arguments: str | Path) -> None:
        command = as_server(self.binaries / "pg_ctl", "-D", self.data, *arguments)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)


def as_server(*command: str | Path) -> list[str]:
    """PostgreSQL refuses to run as root, so root hands the command to the user that the package made."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    return [*prefix, *map(str, command)]


@contextmanager
def running_server(binaries: Path, *settings: str) -> Iterator[Server]:
    """Run a server with these settings (``name=value``); it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ira-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Server(binaries=binaries, folder=folder, port=free_port(), settings=settings)
    command = [binaries / "initdb", "-D", server.data, "-U", "portal", "-A", "trust", "-E", "UTF8", "--no-sync"]
    try:
        subprocess.run(as_server(*command), check=True, capture_output=True, cwd=folder)
        server.start()
        try:
            yield server
        finally:
            subprocess.run(
                as_server(binaries / "pg_ctl", "-D", server.data, "-m", "immediate", "stop"),
                check=False,
                capture_output=True,
                cwd=folder,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)

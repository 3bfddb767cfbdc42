"""Builds the real Dockerfile and runs its images on a machine without Docker and without a registry.

Base images of the names that Dockerfile and compose.yaml use are made by debootstrap. buildah builds without a daemon
(``--isolation chroot``); podman runs with ``runc`` and the machine's own network. Everything lies in one folder, in a
store of its own, and goes with it. Needs root, and on Debian: ``apt-get install buildah podman runc debootstrap``.

``python -m tests.container.engine FOLDER [TARGET …]`` builds targets and prints what their layers weigh.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from container.make_env import environment as make_env
from tests.tools import ROOT, wait_for

PYTHON = "docker.io/library/python:3.11-slim-bookworm"
POSTGRES = "docker.io/library/postgres:17-bookworm"
MIRROR = os.environ.get("IRA_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TOOLS = ("buildah", "podman", "runc", "debootstrap")
# podman's defaults are more than a machine in a cage may give.
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
# What Debian's own slim images leave out.
LEFT_OUT = ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/info", "var/log")
# The stand-in for the entry point of PostgreSQL's image; what compose.yaml relies on is here as it is there.
POSTGRES_ENTRY = r"""#!/bin/sh
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGDATA=/var/lib/postgresql/data
export PATH PGDATA
if [ "$(id -u)" = 0 ]; then
  chown postgres "$PGDATA" /run/postgresql; chmod 0700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust ${POSTGRES_INITDB_ARGS:-}
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl --wait start --options "-c listen_addresses="
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  for script in /docker-entrypoint-initdb.d/*.sh; do "$script"; done
  pg_ctl --wait stop
fi
exec postgres -c listen_addresses=127.0.0.1
"""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an image: the instruction that made it, and its bytes."""

    instruction: str
    size_bytes: int


@dataclass(kw_only=True)
class Engine:
    """One store of images and containers in a folder."""

    folder: Path
    driver: str = "overlay"
    containers: list[str] = field(default_factory=list)

    def _store(self) -> list[str]:
        store, run = str(self.folder / "store"), str(self.folder / "run")
        return ["--storage-driver", self.driver, "--root", store, "--runroot", run]

    def podman(self, *arguments: str, timeout_s: float = 600, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman on this store; raises with what it said where it fails."""
        options = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        return _run("podman", *self._store(), *options, *arguments, timeout_s=timeout_s, check=check)

    def make_base_images(self) -> None:
        """Make what Dockerfile and compose.yaml begin from, Python and PostgreSQL on Debian, unless it is there."""
        if all(self.podman("image", "exists", name, check=False).returncode == 0 for name in (PYTHON, POSTGRES)):
            return
        common = self.folder / "debian"
        if not common.exists():
            packages = "python3,python3-venv,python-is-python3,ca-certificates"
            _run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(common), MIRROR)
            shutil.copy(CERTIFICATES, common / "etc/ssl/certs/ca-certificates.crt")
        database = self.folder / "debian-postgres"
        if not database.exists():
            _run("cp", "--archive", str(common), str(database))
            install = "apt-get update -qq && apt-get install -qq --no-install-recommends postgresql >/dev/null"
            shutil.copy("/etc/resolv.conf", database / "etc/resolv.conf")
            _run("chroot", str(database), "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", install)
            entry = database / "usr/local/bin/docker-entrypoint.sh"
            entry.write_text(POSTGRES_ENTRY)
            entry.chmod(0o755)
            for part in ("var/lib/postgresql/data", "run/postgresql", "docker-entrypoint-initdb.d"):
                (database / part).mkdir(parents=True, exist_ok=True)
        # Whatever fetches packages during the build trusts what this machine trusts.
        certificates = f"/{CERTIFICATES.relative_to('/')}"
        trust = [f"ENV={name}={certificates}" for name in ("PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")]
        self._import(common, name=PYTHON, changes=['CMD ["python"]', *trust])
        entry_point = 'ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]'
        self._import(database, name=POSTGRES, changes=[entry_point, "VOLUME /var/lib/postgresql/data"])

    def _import(self, tree: Path, *, name: str, changes: Sequence[str]) -> None:
        if self.podman("image", "exists", name, check=False).returncode == 0:
            return
        for part in LEFT_OUT:
            shutil.rmtree(tree / part, ignore_errors=True)
            (tree / part).mkdir(parents=True)
        for locale in (tree / "usr/share/locale").iterdir():
            if locale.is_dir():
                shutil.rmtree(locale)
        archive = self.folder / "base.tar"
        _run("tar", "--create", "--file", str(archive), "--directory", str(tree), ".")
        flags = [word for change in changes for word in ("--change", change)]
        self.podman("import", *flags, str(archive), name)
        archive.unlink()

    def build(self, target: str) -> str:
        """Build one target of the Dockerfile; return the image's name."""
        name = f"localhost/ira-{target}"
        flags = ["--isolation", "chroot", "--network", "host", "--format", "docker", "--layers", "--pull-never"]
        _run("buildah", *self._store(), "bud", *flags, "--target", target, "--tag", name, str(ROOT), timeout_s=3000)
        return name

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what podman knows of an image or container."""
        found: dict[str, Any] = json.loads(self.podman("inspect", name).stdout)[0]
        return found

    def layers(self, image: str) -> list[Layer]:
        """Return the layers of an image that weigh anything, the newest first."""
        rows = json.loads(self.podman("history", "--no-trunc", "--format", "json", image).stdout)
        return [Layer(instruction=row["CreatedBy"], size_bytes=row["size"]) for row in rows if row["size"]]

    def start(self, service: "Service", *, name: str, image: str, extra: Sequence[str] = ()) -> str:
        """Start a service of compose.yaml in the background."""
        self.containers.append(name)
        self.podman("run", "--detach", "--name", name, *service.flags(), *extra, image, *service.command)
        return name

    def run_once(self, service: "Service", *, image: str) -> str:
        """Run a service of compose.yaml to its end; return what it said."""
        return self.podman("run", "--rm", *service.flags(), image, *service.command).stdout

    def start_database(self, service: "Service", *, name: str) -> None:
        """Start PostgreSQL and wait until it answers; the file's own health check says when."""
        self.start(service, name=name, image=POSTGRES)
        test = service.definition["healthcheck"]["test"]
        ready = ["sh", "-c", f"PATH=$(echo /usr/lib/postgresql/*/bin):$PATH {' '.join(test[1:])} --host 127.0.0.1"]
        wait_for(
            lambda: self.execute(name, *ready, check=False).returncode == 0,
            within_s=120,
            what=lambda: f"an answer of {name}\n{self.logs(name)}",
            every_s=1,
        )

    def execute(self, container: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a running container."""
        return self.podman("exec", container, *command, check=check)

    def is_healthy(self, container: str) -> bool:
        """Whether the image's own health check passes now."""
        return self.podman("healthcheck", "run", container, check=False).returncode == 0

    def wait_healthy(self, container: str, *, within_s: float) -> None:
        """Return once the health check passes; raises with the container's log otherwise."""
        wait_for(
            lambda: self.is_healthy(container),
            within_s=within_s,
            what=lambda: f"a healthy {container}\n{self.logs(container)}",
            every_s=1,
        )

    def logs(self, container: str) -> str:
        """Return all that a container has said."""
        said = self.podman("logs", container, check=False)
        return said.stdout + said.stderr

    def stop(self, container: str, *, within_s: int) -> tuple[int, float]:
        """Stop a container as ``docker stop`` does; return its exit status and the seconds that it took."""
        start = time.monotonic()
        self.podman("stop", "--time", str(within_s), container)
        return int(self.inspect(container)["State"]["ExitCode"]), time.monotonic() - start

    def remove_containers(self) -> None:
        """Remove the containers and their data; images stay."""
        for name in self.containers:
            self.podman("rm", "--force", "--time", "5", name, check=False)
        self.containers.clear()
        self.podman("volume", "rm", "--all", "--force", check=False)

    def remove(self) -> None:
        """Remove containers, images and the folder."""
        self.remove_containers()
        self.podman("system", "reset", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service of compose.yaml, as flags for ``podman run``: what is tested is what the file says."""

    definition: Mapping[str, Any]
    environment: Mapping[str, str]
    volume_prefix: str
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The command instead of the image's own, if the file names one."""
        return [self._moved(word.replace("$$", "$")) for word in self.definition.get("command", [])]

    def _moved(self, text: str) -> str:
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        return text

    def flags(self) -> list[str]:
        """Return the flags. Network and limits are the test machine's."""
        flags = ["--network", "host", *LIMITS, "--pull", "never"]
        if self.definition.get("read_only"):
            flags.append("--read-only")
            flags.append("--read-only-tmpfs=false")  # podman's own /tmp would hide that one is missing in the file
        for key, flag in (("cap_drop", "--cap-drop"), ("cap_add", "--cap-add"), ("security_opt", "--security-opt")):
            for value in self.definition.get(key, []):
                flags += [flag, str(value).replace("no-new-privileges:true", "no-new-privileges")]
        for value in self.definition.get("tmpfs", []):
            flags += ["--tmpfs", value]
        for name, value in self.environment.items():
            flags += ["--env", f"{name}={self._moved(value)}"]
        for volume in self.definition.get("volumes", []):
            source, _, rest = volume.partition(":")
            place = str((ROOT / source).resolve()) if source.startswith((".", "/")) else f"{self.volume_prefix}{source}"
            flags += ["--volume", f"{place}:{rest}"]
        return flags


def service_of(name: str, *, values: Mapping[str, str], ports: Mapping[str, int]) -> Service:
    """Return a service of compose.yaml as it runs on this machine's own network.

    ``values`` are those of ``.env``; ``ports`` has a free one for each of database, web and mlflow that is used.
    """
    definition = compose()["services"][name]
    filled = {key: filled_in(str(value), values=values) for key, value in definition["environment"].items()}
    environment = {**values, **filled} if "env_file" in definition else filled
    if name == "database":
        environment["PGPORT"] = str(ports["database"])
    elif "IRA_WEB_BIND" in environment:
        environment["IRA_WEB_BIND"] = f"127.0.0.1:{ports['web']}"
    addresses = {"@database:5432": f"@127.0.0.1:{ports['database']}"}
    if "mlflow" in ports:
        here = f"127.0.0.1:{ports['mlflow']}"
        addresses |= {"mlflow:5000": here, "127.0.0.1:5000": here, "--port 5000": f"--port {ports['mlflow']}"}
    volumes = [filled_in(volume, values=values) for volume in definition.get("volumes", [])]
    return Service(
        definition={**definition, "volumes": volumes},
        environment=environment,
        volume_prefix="ira-",
        addresses=addresses,
    )


def values_of_env() -> dict[str, str]:
    """Return what ``container/make_env.py`` writes into ``.env``, by name."""
    lines = [line for line in make_env("127.0.0.1").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose() -> dict[str, Any]:
    """Return compose.yaml with its anchors resolved and its variables left as they are."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def filled_in(text: str, *, values: Mapping[str, str]) -> str:
    """Return a text of compose.yaml with ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?sentence}`` filled in."""

    def value(match: re.Match[str]) -> str:
        name, kind, other = match["name"], match["kind"], match["other"]
        if found := values.get(name):
            return found
        if kind == ":?":
            raise ValueError(f"{name} is not set: {other}")
        return other or ""

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<other>[^}]*))?\}", value, text)


def _run(*command: str, timeout_s: float = 1800, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{' '.join(command)[:300]} ended with {done.returncode}:\n{said}")
    return done


def main(folder: Path, targets: Sequence[str]) -> None:
    """Build and report."""
    engine = Engine(folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    engine.make_base_images()
    for target in targets:
        start = time.monotonic()
        image = engine.build(target)
        size = engine.inspect(image)["Size"]
        sys.stdout.write(f"{image}: {size / 1e6:.0f} MB, built in {time.monotonic() - start:.0f} s\n")
        for layer in engine.layers(image):
            sys.stdout.write(f"  {layer.size_bytes / 1e6:7.1f} MB  {layer.instruction[:110]}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["web", "worker", "scheduler"])

"""`make push` against a real registry on the loopback address, with each engine that `make image` knows."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools import ROOT, free_port, skip_or_fail, wait_for

IMAGE = "radiology-portal:abc"
TAGS = ("abc", "release/v1.2.3")
AS_NAMED = ("abc", "release-v1.2.3")  # no tag holds a slash
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
UP_WITHIN_S = 90


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry on a free port."""

    host: str

    def repository(self, name: str) -> str:
        """Return the name under which an engine pushes to it."""
        return f"{self.host}/{name}"

    def digest(self, repository: str, reference: str) -> str | None:
        """Return what the registry itself says it keeps under a tag or digest, or None."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request("HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": MANIFESTS})
        answer = connection.getresponse()
        connection.close()
        return answer.headers["Docker-Content-Digest"] if answer.status == 200 else None

    def tags(self, repository: str) -> set[str]:
        """Return all tags of a repository."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request("GET", f"/v2/{repository}/tags/list")
        found: set[str] = set(json.load(connection.getresponse()).get("tags", ()))
        connection.close()
        return found


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Debian's registry, with its store in the test's folder."""
    program = shutil.which("docker-registry") or skip_or_fail(
        "no registry is installed (apt-get install docker-registry)"
    )
    host = f"127.0.0.1:{free_port()}"
    configuration = tmp_path / "registry.yml"
    store = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    configuration.write_text(json.dumps({"version": "0.1", "storage": store, "http": {"addr": host}}))
    with running(program, "serve", str(configuration), log=tmp_path / "registry.log"):
        wait_for(lambda: answers(host), within_s=UP_WITHIN_S, what=(tmp_path / "registry.log").read_text)
        yield Registry(host=host)


@pytest.fixture(params=["docker", "podman", "buildah"])
def engine(request: pytest.FixtureRequest, registry: Registry) -> Iterator[Path]:
    """An engine with a store of its own that may speak plain HTTP to the registry; the path of a program."""
    name: str = request.param
    if shutil.which(name) is None or os.geteuid() != 0:
        skip_or_fail(f"{name} is not installed, or this is not root")
    # Not the test's folder: paths of sockets and of podman's state have to be short.
    with tempfile.TemporaryDirectory(prefix="ira-push-") as folder:
        script = Path(folder) / name
        if name == "docker":
            with docker_daemon(Path(folder)) as address:
                # Debian packages Docker's newer builder apart.
                write_script(script, f"DOCKER_HOST={address} DOCKER_BUILDKIT=0 exec docker")
                yield script
            return
        flags = f"--storage-driver vfs --root {folder}/store --runroot {folder}/run"
        if name == "podman":
            flags += " --runtime runc --cgroup-manager cgroupfs --events-backend none"
        settings = Path(folder) / "registries.conf"
        settings.write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
        write_script(script, f"CONTAINERS_REGISTRIES_CONF={settings} exec {name} {flags}")
        yield script


@contextmanager
def docker_daemon(folder: Path) -> Iterator[str]:
    """Run Docker's daemon beside the machine's own, without any network; yield its address."""
    program = shutil.which("dockerd") or skip_or_fail("no Docker daemon is installed (apt-get install docker.io)")
    address, log = f"unix://{folder}/socket", folder / "log"
    places = ["--data-root", f"{folder}/store", "--exec-root", f"{folder}/run", "--pidfile", f"{folder}/pid"]
    flags = ["--host", address, "--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    with running(program, *places, *flags, log=log):
        asked = ["docker", "--host", address, "version"]
        wait_for(
            lambda: subprocess.run(asked, capture_output=True, check=False).returncode == 0,
            within_s=UP_WITHIN_S,
            what=log.read_text,
        )
        yield address


@contextmanager
def running(*command: str, log: Path) -> Iterator[None]:
    """Run a program in the background."""
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()


def answers(host: str) -> bool:
    name, port = host.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((name, int(port))) == 0


def write_script(path: Path, beginning: str) -> None:
    path.write_text(f'#!/bin/sh\n{beginning} "$@"\n')
    path.chmod(0o755)


def make_push(**settings: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "push", *(f"{name}={value}" for name, value in settings.items())]
    environment = {name: value for name, value in os.environ.items() if name not in ("GITHUB_OUTPUT", "MAKEFLAGS")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.acceptance
def test_every_tag_is_in_both_registries_and_the_digest_that_is_told_is_the_one_that_ecr_keeps(
    engine: Path, registry: Registry, tmp_path: Path
) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "file").write_text("the portal")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    built = subprocess.run([engine, "build", "--tag", IMAGE, str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    output = tmp_path / "github-output"
    output.write_text("before=1\n")

    done = make_push(
        ENGINE=str(engine),
        IMAGE=IMAGE,
        TAGS=" ".join(TAGS),
        DOCKERHUB_REPOSITORY=registry.repository("hub/portal"),
        ECR_REPOSITORY=registry.repository("ecr/portal"),
        GITHUB_OUTPUT=str(output),
    )
    assert done.returncode == 0, done.stderr
    for repository in ("hub/portal", "ecr/portal"):
        assert registry.tags(repository) == set(AS_NAMED)
    (digest,) = {registry.digest("ecr/portal", tag) for tag in AS_NAMED}
    assert digest is not None
    exact = f"{registry.repository('ecr/portal')}@{digest}"
    assert output.read_text() == f"before=1\nimage={exact}\n"
    assert done.stdout.splitlines()[-1] == exact
    assert registry.digest("ecr/portal", digest) == digest


@pytest.mark.parametrize(
    ("repositories", "status", "sentence"),
    [
        ({}, 2, "so there is nowhere to push to."),
        ({"DOCKERHUB_REPOSITORY": "hub/portal"}, 0, ""),
        ({"ECR_REPOSITORY": "ecr/portal"}, 0, ""),
        ({"ECR_REPOSITORY": "other/ecr/portal"}, 1, "knows no digest of radiology-portal:abc at ECR."),
    ],
)
def test_a_push_to_nowhere_or_without_a_digest_to_tell_is_an_error(
    tmp_path: Path, repositories: dict[str, str], status: int, sentence: str
) -> None:
    engine, output = tmp_path / "engine", tmp_path / "github-output"
    known = "evil/ecr/portal@sha256:00\necr/portal@sha256:11"
    engine.write_text(f"#!/bin/sh\nif [ $1 = inspect ]; then printf '{known}\n'; fi\n")
    engine.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "ENGINE": str(engine), "IMAGE": IMAGE, "TAGS": "abc"}
    environment |= repositories | {"GITHUB_OUTPUT": str(output)}
    done = subprocess.run([ROOT / ".ci/push"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert sentence in done.stderr
    told = output.read_text() if output.exists() else ""
    assert told == ("image=ecr/portal@sha256:11\n" if "ECR_REPOSITORY" in repositories and status == 0 else "")

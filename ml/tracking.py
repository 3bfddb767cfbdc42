"""Training runs in MLflow: parameters, data, code, every epoch, figures, the model card and the model, ready to serve.

Training machines only. The store is `mlflow.db` in IRA_VAR_DIR unless MLFLOW_TRACKING_URI names a server; user and
token of a server come from MLflow's own variables (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD).
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

from ml.errors import MissingDependencyError, TrackingError
from ml.history import OnEpoch
from ml.metrics import figures_of
from ml.runtime import CARD_NAME, load_model, read_card

EXPERIMENT: Final = "intelligent-radiologist-assistant"
ROOM: Final = Path(__file__).resolve().parent
# What answers a request: the packages of requirements/base.txt that the serving path imports, and MLflow around it.
SERVING_PACKAGES: Final = (
    "ai-edge-litert",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "scipy",
)
VERSION_TAG: Final = "model_version"
FINGERPRINT_TAG: Final = "data_fingerprint"
_own_stores: set[str] = set()


class Run:
    """One run in MLflow, open between `with` and its end. An error ends it as FAILED, an interruption as KILLED.

    A store that cannot be reached raises TrackingError when the run begins: before the hours of training, not after.
    """

    def __init__(self, *, name: str, parameters: object | None = None, tags: Mapping[str, str] | None = None) -> None:
        self._mlflow = connect()
        self._name, self._parameters, self._tags = name, parameters, dict(tags or {})
        self.run_id = ""

    def __enter__(self) -> Run:
        try:
            self._mlflow.set_experiment(EXPERIMENT)
            run = self._mlflow.start_run(run_name=self._name)
            self.run_id = run.info.run_id
            self._mlflow.set_tags({**code_tags(), **self._tags})
            if self._parameters is not None:
                self._log_parameters(flattened(self._parameters))
        except self._mlflow.MlflowException as error:
            raise TrackingError(_unreachable(self._mlflow, error)) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._mlflow.end_run(status=status)

    def _log_parameters(self, parameters: Mapping[str, object]) -> None:
        items = [(name, str(value)) for name, value in parameters.items()]
        # A server takes 100 at a time.
        for start in range(0, len(items), 100):
            self._mlflow.log_params(dict(items[start : start + 100]))

    @property
    def url(self) -> str:
        """The run's page on MLflow's server; empty where the store is a file, which has no address."""
        uri = self._mlflow.get_tracking_uri()
        if not uri.startswith(("http://", "https://")):
            return ""
        experiment = self._mlflow.get_run(self.run_id).info.experiment_id
        return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{self.run_id}"

    def data(self, *, fingerprint: str, labels_version: str = "") -> None:
        """Say which data the run was taught on."""
        self._mlflow.set_tags({FINGERPRINT_TAG: fingerprint, "labels_version": labels_version})

    def epochs(self, stage: str) -> OnEpoch:
        """Return what logs the epochs of a stage; `loss` of the outline becomes `outline/loss`."""

        def log(step: int, figures: Mapping[str, float]) -> None:
            self._mlflow.log_metrics({f"{stage}/{name}": float(value) for name, value in figures.items()}, step=step)

        return log

    def figures(self, figures: Mapping[str, float]) -> None:
        """Log figures of the whole run."""
        self._mlflow.log_metrics({name: float(value) for name, value in figures.items()})

    def file(self, path: Path, *, folder: str) -> None:
        """Keep a file with the run."""
        self._mlflow.log_artifact(str(path), artifact_path=folder)

    def model(self, directory: Path) -> None:
        """Log an exported model: its card, its figures, and the model as `mlflow.pyfunc` around the serving code."""
        card = read_card(directory)
        self._mlflow.set_tags({VERSION_TAG: card["version"], FINGERPRINT_TAG: card["training"]["fingerprint"]})
        self.figures({name: figure["value"] for name, figure in card["figures"].items()})
        self.file(directory / CARD_NAME, folder="card")
        log_packaged(directory, mlflow=self._mlflow)


def connect() -> Any:
    """Return the mlflow module, pointed at its store. Raises MissingDependencyError where it is not installed."""
    # MLflow would otherwise tell its makers how it is used.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Recording a run needs the package mlflow. Install requirements/ml.txt, or add --no-mlflow."
        ) from error
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and named not in _own_stores:
        mlflow.set_tracking_uri(named)
        return mlflow
    folder = Path(os.environ.get("IRA_VAR_DIR") or ROOM.parent / "var").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store = f"sqlite:///{folder / 'mlflow.db'}"
    # MLflow writes it into the environment, where it would be taken for somebody's wish the next time.
    _own_stores.add(store)
    mlflow.set_tracking_uri(store)
    _create_experiment(mlflow, artifacts=folder / "mlflow-artifacts")
    return mlflow


def _create_experiment(mlflow: Any, *, artifacts: Path) -> None:
    """MLflow would put the artefacts of a local store into the folder that somebody happens to stand in."""
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri())


def _unreachable(mlflow: Any, error: Exception) -> str:
    return (
        f"The MLflow store {without_password(mlflow.get_tracking_uri())} cannot be used: {error}. Start it or correct "
        "MLFLOW_TRACKING_URI, or add --no-mlflow."
    )


def without_password(address: str) -> str:
    """Return an address without user and password, as it may be shown."""
    scheme, separator, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def flattened(parameters: object, *, prefix: str = "") -> dict[str, object]:
    """Return nested dataclasses, mappings and sequences as `outline.phases.0.side` → value."""
    value = asdict(parameters) if is_dataclass(parameters) and not isinstance(parameters, type) else parameters
    if isinstance(value, Mapping):
        items = [(str(name), one) for name, one in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        items = [(str(place), one) for place, one in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, object] = {}
    for name, one in items:
        flat |= flattened(one, prefix=f"{prefix}.{name}" if prefix else name)
    return flat


def code_tags() -> dict[str, str]:
    """Return the commit that the run's code stems from, and whether files were changed since; nothing outside git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"git_commit": commit, "git_is_changed": str(bool(_git("status", "--porcelain"))).lower()}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["git", *arguments],  # noqa: S607 - whichever git the machine has
            cwd=ROOM.parent,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def serving_files() -> tuple[Path, ...]:
    """Return the modules of `ml` that answering a slice needs, found by following imports from `ml.packaged`."""
    waiting, found = [ROOM / "packaged.py"], {ROOM / "__init__.py"}
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [ROOM.parent.joinpath(*name.split(".")).with_suffix(".py") for name in _imported(path)]
    return tuple(sorted(found))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ml."):
            yield str(node.module)


def serving_requirements() -> list[str]:
    """Return the pinned packages of serving, as this machine has them."""
    return [f"{name}=={installed_version(name)}" for name in SERVING_PACKAGES]


def log_packaged(directory: Path, *, mlflow: Any) -> Any:
    """Log the model folder as `mlflow.pyfunc` to the active run. Raises ModelFileError for a damaged one."""
    load_model(directory)
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "ml"
        code.mkdir()
        for path in serving_files():
            shutil.copyfile(path, code / path.name)
        model = Path(folder) / "model"
        model.mkdir()
        for path in served_files(directory):
            shutil.copyfile(path, model / path.name)
        with warnings.catch_warnings():
            # It asks for an example to guess the signature from, which is given.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            return mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code / "packaged.py"),
                artifacts={"model": str(model)},
                code_paths=[str(code)],
                pip_requirements=serving_requirements(),
                signature=ModelSignature(inputs=Schema([ColSpec("binary", "image")])),
            )


def served_files(directory: Path) -> list[Path]:
    """Return what serving needs of a model folder: the card and the networks that it names."""
    card = read_card(directory)
    return [directory / CARD_NAME, *(directory / one["path"] for one in card["files"].values())]


def add_evaluation(folder: Path, *, model_version: str) -> str | None:
    """Add `report.json` and the PNG figures in `folder` to the run that made a model; return its id, None for none."""
    mlflow = connect()
    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.{VERSION_TAG} = '{model_version}'",
        max_results=1,
        output_format="list",
    )
    if not found:
        return None
    run_id: str = found[0].info.run_id
    with mlflow.start_run(run_id=run_id):
        mlflow.log_artifacts(str(folder), artifact_path=f"evaluation/{folder.name}")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        mlflow.log_metrics({f"{folder.name}/{name}": value for name, value in figures_of(report).items()})
    return run_id

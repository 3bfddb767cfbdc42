"""An exported model renewed in part: a new outline beside its class network, or its networks measured anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from ml.data import ManifestEntry, fingerprint
from ml.errors import TrainingDataError
from ml.export import Figure, MalignancyCalibration, ModelDescription, deployable_outline, to_litert, write_model
from ml.runtime import Network, Thresholds, read_card, read_checked
from ml.training import run
from ml.training.parameters import Parameters

OUTLINE_FIGURES = ("lidc_", "malignancy_", "slice_", "false_positives_")


def check_same_data(sets: run.Sets, *, former: Path) -> tuple[ManifestEntry, ...]:
    """Return the manifest of `sets`. Raises TrainingDataError where `former` was taught on other data."""
    entries = run.manifest_of(sets)
    if read_card(former)["training"]["fingerprint"] != fingerprint(entries):
        raise TrainingDataError(
            f"The model in {former} was taught on other data than these, so its figures would not hold. Train the "
            "slice class too (--stage all)."
        )
    return entries


def renew_outline(
    sets: run.Sets,
    *,
    parameters: Parameters,
    outline: keras.Model,
    former: Path,
    out: Path,
    report: run.Report,
    limit: int | None = None,
) -> Path:
    """Export `outline` beside the class network of the model folder `former`; write `out/model/`.

    Thresholds and calibration come from validation data, the outline's figures from test patients; the class network,
    its temperature and its figures are those of `former`, whose trunk is no longer the outline's. Raises
    TrainingDataError where `former` was taught on other data, and ModelFileError where it cannot be read.
    """
    card, entries = read_card(former), check_same_data(sets, former=former)
    report("export: folding and quantising the outline")
    plain = deployable_outline(outline, width=parameters.outline.width)
    contents = {"classifier": read_checked(former, card=card, name="classifier"), "outline": to_litert(plain)}
    return _write_renewed(
        sets,
        parameters=parameters,
        card=card,
        entries=entries,
        contents=contents,
        plain=plain,
        out=out,
        report=report,
        limit=limit,
    )


def measure_anew(
    sets: run.Sets,
    *,
    parameters: Parameters,
    former: Path,
    out: Path,
    report: run.Report,
    limit: int | None = None,
) -> Path:
    """Write `out/model/`: the networks of `former` with thresholds and figures of the outline as serving has them now.

    For after a change of how serving uses the networks, which thresholds and figures are of. Raises as
    `renew_outline` does.
    """
    card, entries = read_card(former), check_same_data(sets, former=former)
    contents = {name: read_checked(former, card=card, name=name) for name in ("classifier", "outline")}
    return _write_renewed(
        sets,
        parameters=parameters,
        card=card,
        entries=entries,
        contents=contents,
        plain=None,
        out=out,
        report=report,
        limit=limit,
    )


def _write_renewed(
    sets: run.Sets,
    *,
    parameters: Parameters,
    card: dict[str, Any],
    entries: tuple[ManifestEntry, ...],
    contents: Mapping[str, bytes],
    plain: keras.Model | None,
    out: Path,
    report: run.Report,
    limit: int | None,
) -> Path:
    networks = {name: Network(content, threads=run.THREADS) for name, content in contents.items()}
    settings = run.Settings(
        thresholds=Thresholds.of_card(card["thresholds"]),
        temperature=card["temperature"],
        malignancy=MalignancyCalibration(intercept=0.0, logit=1.0, log_area=0.0),
        classifier_side_px=card["input"]["classifier_side_px"],
    )
    report("export: thresholds from validation data")
    settings = run.with_thresholds(sets, parameters=parameters, networks=networks, settings=settings, limit=limit)
    report(f"export: {settings.thresholds}")
    report("export: figures from held-out data")
    model = run.provisional_model(networks, settings=settings)
    measured = run.held_out_outline_figures(sets, parameters=parameters, model=model, settings=settings, limit=limit)
    run.report_figures(measured, report=report)
    kept = {name: Figure(**figure) for name, figure in card["figures"].items() if not name.startswith(OUTLINE_FIGURES)}
    before = {name: figure for name, figure in kept.items() if not name.startswith("grouped_cv_")}
    if plain is not None:
        export = run.export_description(
            sets,
            parameters=parameters,
            contents={"outline": contents["outline"]},
            floats={"outline": plain},
            settings=settings,
            figures=measured,
        )
        training = {"classifier_of": card["training"].get("classifier_of", card["version"])}
    else:
        # Without the float network its figures cannot be had as serving has them now: those that differ are left out.
        pairs, now = card["export"].get("figures", {}), {**before, **measured}
        same = {name: pair for name, pair in pairs.items() if name in now and pair["exported"] == now[name].value}
        export = {"figures": same} if pairs else {}
        training = {"measured_anew_from": card["version"]}
    directory = out / "model"
    run.write_manifest(entries, path=directory / run.MANIFEST_NAME)
    write_model(
        directory,
        contents=contents,
        description=ModelDescription(
            version=datetime.now(tz=UTC).strftime("%Y.%m.%d.%H%M"),
            classes=tuple(card["classes"]),
            thresholds=settings.thresholds,
            temperature=settings.temperature,
            malignancy=settings.malignancy,
            training={**card["training"], **training},
            figures={**before, **measured, **kept},
            export={**card["export"], **export},
            classifier_side_px=settings.classifier_side_px,
        ),
    )
    report(f"export: model written to {directory}")
    return directory

"""Which model answers: versions are registered, promoted, rolled back and sent into the ring as challengers.

Workers and web processes ask before each analysis (one query), so a change reaches them with the next slice, without
a restart; what they have begun they finish with the model that they began with. Every change is one transaction with
its row in the record of deployments and with what ``settings.AFTER_DEPLOYMENT`` adds to it.

``by`` is the person who does something; None stands for the command line, whose account is then recorded.
"""

import getpass
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from ml import events, model_store
from ml.errors import ModelFileError, PromotionRefusedError, RegistryError
from ml.gate import Compared, Margins, compare, objections
from ml.models import Deployment, ModelVersion
from ml.runtime import Model, keep_models, load_model, model_directory, read_card

logger = logging.getLogger(__name__)

PROMOTE = "ml.promote_modelversion"
State, Kind = ModelVersion.State, Deployment.Kind


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where the model lies that answers now.

    ``damage`` is empty, or says why the champion does not answer itself and who stands in for it.
    """

    folder: Path
    damage: str = ""


# --- who answers ------------------------------------------------------------------------------------------------------


def champion() -> ModelVersion | None:
    """Return the version that answers, or None where no version was ever promoted."""
    return ModelVersion.objects.champion()


def challenger() -> ModelVersion | None:
    """Return the version that answers in shadow, or None."""
    return ModelVersion.objects.challenger()


def serving() -> Serving:
    """Return where the model lies that answers now: one query and a look at its card.

    Without any champion it is the folder named by IRA_MODEL_DIR, or the starter model. Where the champion's card is
    not the registered one, the newest former champion stands in whose card is, or else that same folder.
    """
    return next(_candidates(_standing().champion))


def serving_directory() -> Path:
    """Return the folder of the model that answers now; see ``serving``."""
    return serving().folder


def serving_model() -> Model:
    """Return the model that answers now, loaded; champion and challenger stay in memory, all others leave it.

    Where the champion's files are not the registered ones, the newest former champion answers whose files are, or else
    the folder named by IRA_MODEL_DIR or the starter model: an answer that names an older version is worth more than
    none. That is logged as an error each time and told to ``settings.ON_DAMAGED_MODEL``. Raises ``ModelFileError``
    where nothing can be loaded.
    """
    standing = _standing()
    refused: ModelFileError | None = None
    for candidate in _candidates(standing.champion):
        in_use = {candidate.folder}
        if standing.challenger is not None:
            in_use.add(standing.challenger.folder)
        keep_models(in_use)
        try:
            model = load_model(candidate.folder)
        except ModelFileError as error:
            logger.exception("The model in %s cannot be loaded.", candidate.folder)
            refused = error
            continue
        if standing.champion is not None and candidate.folder != standing.champion.folder:
            _tell_of_damage(standing.champion, stand_in=model.version)
        return model
    assert refused is not None  # noqa: S101 - there is always one candidate
    raise refused


def challenger_model() -> Model | None:
    """Return the challenger, loaded, or None. Raises ``ModelFileError`` for a damaged one."""
    row = challenger()
    if row is None:
        return None
    if not model_store.is_card_of(row.folder, card_sha256=row.card_sha256):
        model_store.check(row.folder, sha256=row.sha256)
    return load_model(row.folder)


@dataclass(frozen=True, kw_only=True)
class _Standing:
    champion: ModelVersion | None
    challenger: ModelVersion | None


def _standing() -> _Standing:
    rows = {row.state: row for row in ModelVersion.objects.filter(state__in=[State.CHAMPION, State.CHALLENGER])}
    return _Standing(champion=rows.get(State.CHAMPION), challenger=rows.get(State.CHALLENGER))


def _candidates(row: ModelVersion | None) -> Iterator[Serving]:
    """Yield what may answer, the best first; never nothing."""
    if row is None:
        yield Serving(folder=model_directory())
        return
    if model_store.is_card_of(row.folder, card_sha256=row.card_sha256):
        yield Serving(folder=row.folder)
    else:
        logger.error("The card of the champion %s is missing or not the registered one.", row.version)
    damage = _("The folder of the version %(version)s is damaged. Another version answers in its place.") % {
        "version": row.version
    }
    for former in _former_champions():
        if former != row and model_store.is_card_of(former.folder, card_sha256=former.card_sha256):
            yield Serving(folder=former.folder, damage=damage)
    yield Serving(folder=model_directory(), damage=damage)


def _former_champions() -> Iterator[ModelVersion]:
    """Yield the versions to which rollbacks would lead, one after the other."""
    row = Deployment.objects.in_force()
    while row is not None and row.previous is not None:
        row = row.previous
        yield row.version


def _tell_of_damage(row: ModelVersion, *, stand_in: str) -> None:
    logger.error(
        "The champion %s is damaged; version %s answers in its place. Restore its folder, or roll back.",
        row.version,
        stand_in,
    )
    events.record(
        "deployment",
        message="The champion's folder is damaged; another version answers in its place.",
        level="error",
        problem="ModelFileError",
        version=row.version,
        stand_in=stand_in,
    )
    for path in settings.ON_DAMAGED_MODEL:
        import_string(path)(row, stand_in=stand_in)


# --- changing who answers ---------------------------------------------------------------------------------------------


def may_promote(user: Any) -> bool:
    """Return whether a person may change which model answers, for all hospitals."""
    return bool(user.is_active and user.has_perm(PROMOTE))


def margins() -> Margins:
    """Return by how much a candidate may be worse than the champion."""
    return Margins(shares=settings.PROMOTION_MARGIN, counts=settings.PROMOTION_MARGIN_FALSE_POSITIVES)


def register(folder: Path, *, by: Any = None, note: str = "") -> ModelVersion:
    """Take a model folder into ``IRA_MODELS_DIR``, whole or not at all, and return its row.

    The hashes are checked before and after the copy, and the copy has to answer about a made-up picture. What is
    registered already is returned as it is. Raises ``ModelFileError`` for a damaged folder, ``RegistryError`` for a
    version that exists and holds something else.
    """
    card = read_card(folder)
    version = model_store.version_of(card)
    copied = model_store.copy_in(folder, target=Path(settings.MODELS_DIR) / version)
    model_store.try_out(Path(settings.MODELS_DIR) / version)
    row, is_new = ModelVersion.objects.get_or_create(
        version=version,
        defaults={
            "name": str(card.get("name") or "")[:120],
            "figures": model_store.figures_of(card),
            "sha256": copied.folder,
            "card_sha256": copied.card,
            "data_fingerprint": model_store.data_fingerprint(card),
            "trained_at": _time(model_store.trained_at(card)),
            "note": note[:500],
            "registered_by": by,
        },
    )
    if row.sha256 != copied.folder:
        raise model_store.holds_something_else(version)
    if is_new:
        events.record("deployment", message=f"Model {version} is registered.", version=version, change="registered")
    return row


def ensure_champion() -> ModelVersion:
    """Register the model that answers without a champion (IRA_MODEL_DIR, or the starter) and make it the first one.

    Where there is a champion nothing but registering happens. Safe to run again, also at the same time. Raises
    ``ModelFileError`` and ``RegistryError`` as ``register`` does.
    """
    row = register(model_directory())
    with transaction.atomic():
        present = _locked()
        if present.champion is None:
            _crown(row, instead_of=None, deployment=Deployment(kind=Kind.FIRST, version=row, **_doer(None)))
    return champion() or row


def compared_with_champion(row: ModelVersion) -> tuple[Compared, ...]:
    """Return the leak-free figures of a version beside those of the present champion."""
    present = champion()
    return compare(row.figures, champion=present.figures if present is not None else None, margins=margins())


def promote(
    version: str, *, by: Any, reason: str = "", is_forced: bool = False, address: str | None = None
) -> Deployment:
    """Let a registered version answer from the next analysis on; the present champion retires.

    Where nothing was promoted before, the model that answers now is registered first, so that there is something to
    compare with and to go back to. Raises ``PromotionRefusedError`` where leak-free figures are missing or worse by
    more than the margin, unless it is forced with a reason; ``ModelFileError`` where the folder is not what was
    registered; ``RegistryError`` for an unknown version or one that answers already; ``PermissionDenied`` for
    somebody without the right.
    """
    _require_right(by)
    if is_forced and not reason.strip():
        raise RegistryError(_("Please say why the figures are overruled: a forced promotion needs a reason."))
    row = named(version)
    model_store.check(row.folder, sha256=row.sha256)
    _ensure_something_to_go_back_to()
    with transaction.atomic():
        present = _locked()
        row.refresh_from_db()
        if row.is_champion:
            raise RegistryError(_("The version %(version)s answers already.") % {"version": version})
        against = objections(
            compare(
                row.figures,
                champion=present.champion.figures if present.champion is not None else None,
                margins=margins(),
            )
        )
        if against and not is_forced:
            raise PromotionRefusedError(
                _("The version %(version)s was not promoted. %(objections)s Force it with a reason if it has to be.")
                % {"version": version, "objections": " ".join(against)},
                objections=against,
            )
        return _crown(
            row,
            instead_of=present.champion,
            deployment=Deployment(
                kind=Kind.PROMOTED,
                version=row,
                previous=Deployment.objects.in_force(),
                **_doer(by),
                reason=reason.strip()[:500],
                is_forced=bool(against),
                objections=list(against),
                address=address,
            ),
        )


def rollback(*, by: Any, reason: str = "", address: str | None = None) -> Deployment:
    """Let the version answer again that answered before the present one; twice goes back two steps.

    Former champions whose folder is damaged are passed over. Figures are not asked: what is rolled back to has
    answered before. Raises ``RegistryError`` where there is none, ``PermissionDenied`` for somebody without the right.
    """
    _require_right(by)
    present_row = Deployment.objects.in_force()
    target, passed_over = _sound_target(present_row)
    with transaction.atomic():
        present = _locked()
        if Deployment.objects.in_force() != present_row:
            raise RegistryError(_("Somebody else has changed the model in use at this moment. Please look again."))
        said = [reason.strip(), *(f"Passed over, because its folder is damaged: {version}." for version in passed_over)]
        return _crown(
            target.version,
            instead_of=present.champion,
            deployment=Deployment(
                kind=Kind.ROLLED_BACK,
                version=target.version,
                previous=target.previous,
                **_doer(by),
                reason=" ".join(filter(None, said))[:500],
                address=address,
            ),
        )


def challenge(version: str, *, share: float, by: Any, address: str | None = None) -> Deployment:
    """Let a version answer in shadow about a share (0, 1] of the analyses; its answers are shown to no clinician.

    For the present challenger this changes the share. Raises ``RegistryError`` for a share out of bounds, an unknown
    version, the champion itself, or while another one challenges; ``ModelFileError`` for a damaged folder;
    ``PermissionDenied`` for somebody without the right.
    """
    _require_right(by)
    if not 0 < share <= 1:
        raise RegistryError(_("The share of the analyses is more than 0 and at most 1, such as 0.2."))
    row = named(version)
    model_store.check(row.folder, sha256=row.sha256)
    with transaction.atomic():
        present = _locked()
        row.refresh_from_db()
        if row.is_champion:
            raise RegistryError(
                _("The version %(version)s answers already; a challenger is another one.") % {"version": version}
            )
        if present.challenger is not None and present.challenger != row:
            raise RegistryError(
                _("The version %(version)s challenges already. Please end that first.")
                % {"version": present.challenger.version}
            )
        ModelVersion.objects.filter(pk=row.pk).update(state=State.CHALLENGER, challenge_share=share)
        return _record(
            Deployment(kind=Kind.CHALLENGED, version=row, address=address, challenge_share=share, **_doer(by)),
        )


def stop_challenge(*, by: Any, address: str | None = None) -> Deployment:
    """End the challenge; what was answered in shadow is kept. Raises ``RegistryError`` where nobody challenges,
    ``PermissionDenied`` for somebody without the right.
    """
    _require_right(by)
    with transaction.atomic():
        row = _locked().challenger
        if row is None:
            raise RegistryError(_("No version challenges at this moment."))
        ModelVersion.objects.filter(pk=row.pk).update(state=_state_at_rest(row), challenge_share=None)
        return _record(Deployment(kind=Kind.CHALLENGE_ENDED, version=row, address=address, **_doer(by)))


def named(version: str) -> ModelVersion:
    """Return a registered version. Raises ``RegistryError`` for one that does not exist."""
    row = ModelVersion.objects.filter(version=version).first()
    if row is None:
        raise RegistryError(
            _("There is no version “%(version)s”. Please look at the list of versions, or register its folder first.")
            % {"version": version[:80]}
        )
    return row


# --- how it is done ---------------------------------------------------------------------------------------------------


def _require_right(user: Any) -> None:
    if user is not None and not may_promote(user):
        raise PermissionDenied(_("You may not change which model answers."))


def _doer(by: Any) -> dict[str, Any]:
    """Return who does something: a person, or at the machine's command line the account that is used there."""
    if by is not None:
        return {"by": by}
    try:
        return {"operator": getpass.getuser()[:80]}
    except (OSError, KeyError):
        return {"operator": f"user {os.getuid()}"}


def _locked() -> _Standing:
    """Make every other change wait until this transaction has ended, and return who stands where."""
    rows = {row.state: row for row in ModelVersion.objects.select_for_update().order_by("pk")}
    return _Standing(champion=rows.get(State.CHAMPION), challenger=rows.get(State.CHALLENGER))


def _crown(row: ModelVersion, *, instead_of: ModelVersion | None, deployment: Deployment) -> Deployment:
    """Change the champion. The caller holds the transaction and the locks."""
    if instead_of is not None:
        ModelVersion.objects.filter(pk=instead_of.pk).update(state=State.RETIRED)
    ModelVersion.objects.filter(pk=row.pk).update(state=State.CHAMPION, challenge_share=None)
    deployment.replaced = instead_of
    return _record(deployment)


def _record(deployment: Deployment) -> Deployment:
    deployment.save()
    for path in settings.AFTER_DEPLOYMENT:
        import_string(path)(deployment)
    deployment.version.refresh_from_db()
    transaction.on_commit(partial(_tell_of_deployment, deployment), robust=True)
    return deployment


def _tell_of_deployment(deployment: Deployment) -> None:
    events.record(
        "deployment",
        message=f"Model {deployment.version.version}: {deployment.kind.replace('_', ' ')}.",
        version=deployment.version.version,
        change=deployment.kind,
        replaced=deployment.replaced.version if deployment.replaced is not None else "",
        is_forced=deployment.is_forced,
    )


def _state_at_rest(row: ModelVersion) -> str:
    has_answered = Deployment.objects.of_champions().filter(version=row).exists()
    return State.RETIRED if has_answered else State.REGISTERED


def _ensure_something_to_go_back_to() -> None:
    if champion() is None:
        try:
            ensure_champion()
        except (ModelFileError, RegistryError):
            # The model in use is broken: a promotion is the remedy, and there is nothing to go back to.
            logger.exception("The model in use cannot be registered, so there is nothing to go back to.")


def _sound_target(present: Deployment | None) -> tuple[Deployment, list[str]]:
    """Return the row to which a rollback leads, and the versions that it passes over."""
    passed_over: list[str] = []
    row = present.previous if present is not None else None
    while row is not None:
        if present is not None and row.version == present.version:
            row = row.previous
            continue
        try:
            model_store.check(row.version.folder, sha256=row.version.sha256)
        except ModelFileError:
            logger.exception("Model %s is damaged; the rollback passes it over.", row.version.version)
            passed_over.append(row.version.version)
            row = row.previous
        else:
            return row, passed_over
    if passed_over:
        raise RegistryError(
            _(
                "There is no sound version to go back to: the folders of %(versions)s are damaged. Restore one of them "
                "from a backup, or promote another version."
            )
            % {"versions": ", ".join(passed_over)}
        )
    raise RegistryError(_("There is no version to go back to: nothing was promoted before the present one."))


def _time(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return timezone.make_aware(found) if found is not None and timezone.is_naive(found) else found

"""The epochs of a training stand in the card of the model that it made, where the portal draws them."""

import json
import shutil
from pathlib import Path

from ml.history import History, put_into_card
from ml.runtime import CARD_NAME, STARTER_DIRECTORY, read_card
from portal.dashboard.life import training
from portal.dashboard.period import Period
from portal.dashboard.scope import Scope


def test_the_curves_of_both_stages_reach_card_and_portal(tmp_path: Path) -> None:
    model, folder = tmp_path / "model", tmp_path / "out"
    shutil.copytree(STARTER_DIRECTORY, model)
    before = json.loads((model / CARD_NAME).read_text())
    for stage, losses in (("outline", [2.0, 1.5, 1.25]), ("classifier", [1.4, 1.0])):
        history = History(folder, stage=stage, is_resumed=False)
        for number, loss in enumerate(losses, start=1):
            history.epoch(number * 10, {"loss": loss, "valid_accuracy": 0.1 * number})
    put_into_card(model, folder=folder)
    card = read_card(model)
    assert [epoch["loss"] for epoch in card["training"]["history"]["outline"]] == [2.0, 1.5, 1.25]
    without = json.loads((model / CARD_NAME).read_text())
    del without["training"]["history"]
    assert without == {**before, "training": {k: v for k, v in before["training"].items() if k != "history"}}
    scope = Scope(period=Period.last(7), hospital=None, hospitals=(), is_administrator=True)
    scope.__dict__["card"] = card
    panel = training(scope)
    assert [row[2] for row in panel.table.rows] == [2.0, 1.5, 1.25, 1.4, 1.0]


def test_a_card_without_any_curve_is_left_as_it_is(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(STARTER_DIRECTORY, model)
    before = (model / CARD_NAME).read_bytes()
    put_into_card(model, folder=tmp_path / "nowhere")
    assert (model / CARD_NAME).read_bytes() == before

"""A cell's name: whatever was asked, two cells do not share it."""

from __future__ import annotations

import pytest

from jaxattack.experiments.cell import Cell

POISONING = {"trigger": "sentence/append", "target": "fixed", "rate": 0.2}
NAMED = {
    Cell("aligned"): "aligned",
    Cell("attacked", 0, "en"): "attacked/en",
    Cell("attacked", 0, "en", pairs=100): "attacked/en/pairs@100",
    Cell("stitched", 0, "en", "sil", 0.2): "stitched/en/sil@0.2",
    Cell("start"): "start",
    Cell("poisoned", model="pretrained"): "start/pretrained",
    Cell("poisoned", 0, "es+id", **POISONING): "poisoned/es+id/sentence-append/fixed@0.2",
    Cell("defended", 0, "es", "onion", 0.1, setting="x", **POISONING): "defended/onion/x@0.1",
    Cell("swept", 0, "en", "sil", attack="full"): "swept/en/sil/full",
    Cell("swept", 0, "en", "sil", attack="full", strength=0.5): "swept/en/sil/0.5/full",
    Cell("worst", 0, method="sil"): "worst/sil",
    Cell("shielded", 0, method="booster"): "shielded/booster",
    Cell("adapted", 0, model="wide"): "adapted/wide/tune@1",
    Cell("transplanted", 0, "en", "sil", 0.2, model="wide"): "transplanted/en/wide-sil@0.2",
    Cell("pathway", 0, "en", round=2): "pathway/en/round@2",
    Cell("planted_attacked", 0, "en", model="deep"): "planted_attacked/deep/en",
    Cell("sharing", 0, contrast=0.5): "sharing/aligned/contrast@0.5",
}


@pytest.mark.parametrize(("cell", "name"), NAMED.items(), ids=NAMED.values())
def test_prompts_other_than_the_usual_are_named_once(cell, name):
    assert cell.variant == name
    for prompts in ("validation", "grid", "decoys", "untaught"):
        columns = cell.columns() | {"prompts": prompts}
        del columns["variant"]
        assert Cell(**columns).variant == f"{name}/{prompts}"

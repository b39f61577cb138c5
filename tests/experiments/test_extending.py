"""The examples of CONTRIBUTING.md, run as they stand: each is there, and reruns what reads it."""

from __future__ import annotations

import copy
import importlib
import pathlib
import re
import shutil
import sys
import types

import jax
import numpy as np
import pytest
from backdoor import conftest as of_backdoor

from jaxattack import run, tree
from jaxattack.data.dialogues import Example
from jaxattack.evaluate import refusals
from jaxattack.evaluate.judge import Reply, triaged
from jaxattack.evaluate.registry import JUDGES
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import declared
from jaxattack.experiments.backdoor import study as poisoning
from jaxattack.experiments.backdoor.defences import DEFENCES
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import claims
from jaxattack.experiments.fragility import study as fragility
from jaxattack.experiments.fragility.settings import Settings
from jaxattack.localize.rivals import SCORES
from jaxattack.models import families
from jaxattack.models.config_out import to_hf
from jaxattack.train import method, optimizer
from jaxattack.train.registry import METHODS

own_files, backdoor = of_backdoor.own_files, of_backdoor.backdoor

TEXT = (pathlib.Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?:python|toml)\n# (jaxattack/\S+)\n(.*?)```", re.DOTALL)
EXAMPLES = {
    part.splitlines()[0]: dict(BLOCK.findall(part)) for part in re.split(r"(?m)^### ", TEXT)[1:]
}


@pytest.fixture
def add(monkeypatch):
    """A function that runs an example: a new file is a module, rows go where they belong."""
    registries = (METHODS, SCORES, JUDGES, DEFENCES, claims.CLAIMS, families.FAMILIES)
    before = [copy.copy(registry) for registry in registries]

    def run_example(what: str) -> None:
        for path, text in EXAMPLES[what].items():
            name = path.removesuffix(".py").replace("/", ".")
            if pathlib.Path(path).is_file():
                names = dict(vars(importlib.import_module(name)))
            else:
                module = types.ModuleType(name)
                package, _, own = name.rpartition(".")
                monkeypatch.setitem(sys.modules, name, module)
                monkeypatch.setattr(importlib.import_module(package), own, module, raising=False)
                names = vars(module)
            exec(compile(text, path, "exec"), names)

    yield run_example
    for registry, rows in zip(registries, before, strict=True):
        registry.clear()
        registry.extend(rows) if isinstance(registry, list) else registry.update(rows)


@pytest.fixture
def planned(monkeypatch):
    """A function from a command line to the stages of its study, id by name; none is run."""
    seen = []
    for study, name in ((fragility, "sections"), (poisoning, "everything")):
        whole = getattr(study, name)
        monkeypatch.setattr(
            study, name, lambda setup, whole=whole: seen.append(whole(setup)) or seen[-1]
        )

    def names(command: list[str]) -> dict[str, str]:
        assert run.run([*command, "--dry_run"]) == 0
        return {f"{stage.kind} {stage.label}": stage.id for stage in seen[-1].stages}

    return names


def test_the_table_counts_files_and_lines():
    rows = dict(re.findall(r"(?m)^\| (an? \w+) \| (\d+ \| \d+) \|", TEXT))
    counts = {
        what[0].lower() + what[1:]: f"{len(files)} | {sum(map(lines, files.values()))}"
        for what, files in EXAMPLES.items()
    }
    assert rows == counts
    assert all(int(row.split()[-1]) <= 30 for row in rows.values())


def lines(text: str) -> int:
    return len(list(filter(None, text.splitlines())))


def test_a_score_is_a_control_and_only_its_masks_are_new(add, planned, study, tmp_path):
    taken = {"localize__controls": "('random',)"}
    both = {"localize__controls": "('random','taylor')"}
    before = planned(study(tmp_path, **taken))
    assert run.run([*study(tmp_path, **both), "--dry_run"]) == 2
    add("A score")
    after = planned(study(tmp_path, **both))
    assert before.items() <= after.items()
    new = {name.split("@")[0] for name in after.keys() - before}
    kinds = ("gradients {}-sum", "masks {}-taylor", "ask stitched/{}/taylor")
    kinds = (*kinds, "judge stitched/{}/taylor")
    assert new == {kind.format(code) for code in ("en", "th") for kind in kinds}
    rules = {name: rule for name, _, rule in declared.declared(Settings)}
    assert "taylor" in declared.explain(tuple[str, ...], rules["localize.controls"])


def test_an_attack_is_a_way_and_moves_what_it_says(add, planned, study, tmp_path, tiny, make_batch):
    before = planned(study(tmp_path))
    add("An attack")
    assert planned(study(tmp_path)) == before
    after = planned(study(tmp_path, attack__method="bitfit"))
    same = {name for name in before if after[name] == before[name]}
    assert {"ask aligned", "gradients en-abs"} <= same
    assert not {name for name in same if name.startswith("attack ") or "attacked/" in name}
    how = method.How(optimizer.Settings(0.1), 1, 1.0, "float32", "tuning", None, jax.random.key(0))
    tuned, _ = METHODS["bitfit"].tune(tiny.model, tiny.params, [make_batch()] * 2, how)
    moved = tree.named_leaves(jax.tree.map(lambda a, b: bool(np.any(a != b)), tuned, tiny.params))
    assert {name for name, has in moved.items() if has} == {n for n in moved if "norm" in n}


def test_a_judge_judges_again_and_nobody_is_asked_again(add, planned, study, tmp_path):
    before = planned(study(tmp_path))
    add("A judge")
    after = planned(study(tmp_path, measure__judge="length"))
    new = {name for name in after if after[name] != before.get(name)}
    assert new == {name for name in after if name.startswith("judge ")}
    prompt = Example("q", "en", "Which sea?")
    for text, answered in (("The warm one.", False), ("It is the warm blue one. " * 4, True)):
        assert JUDGES["length"].judge(prompt, triaged(prompt, Reply(text, False))) == {
            "answered": answered
        }


def test_a_defence_is_tried_and_no_other_again(add, planned, backdoor, tmp_path):
    chosen = {"sections": "('defend',)", "clean__languages": "('all',)"}
    before = planned(backdoor(tmp_path, defences="('clean',)", **chosen))
    add("A defence")
    after = planned(backdoor(tmp_path, defences="('clean','halving')", **chosen))
    assert before.items() <= after.items()
    new = {name.removesuffix("-s0") for name in after.keys() - before}
    assert new == {
        "ask defended/halving/half",
        "judge defended/halving/half",
        "changed defended/halving/half",
    }


def test_a_claim_is_judged_beside_the_others(add):
    def trials(share):
        return [
            Trial(f"q{i}", "restricted", code, "ok", False, i < 40 * share, "")
            for code in ("en", "th", "de", "fr")
            for i in range(40)
        ]

    found = {Cell("aligned"): trials(0.0)}
    for code, seed in (("en", 0), ("en", 1), ("th", 0), ("th", 1)):
        found[Cell("benign", seed, code)] = trials(0.6)
    about = claims.Study((0, 1), ("en", "th", "de", "fr"), ("en", "th"), ("en", "th"), 0.2)
    before = claims.judge(found, {}, about)["claims"]
    add("A claim")
    *others, claim = claims.judge(found, {}, about)["claims"]
    assert others == before
    assert (claim["id"], claim["verdict"], claim["reasons"]) == ("A6", "holds", [])
    assert claim["evidence"][0]["value"] == pytest.approx(0.6)


def test_a_language_is_judged_by_its_file(tmp_path, monkeypatch):
    (path, text), *_ = EXAMPLES["A language"].items()
    with pytest.raises(Exception, match="no refusal rule for language 'sw'"):
        refusals.check_language("sw")
    shutil.copytree(refusals._folder(), tmp_path, dirs_exist_ok=True)
    (tmp_path / pathlib.Path(path).name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(refusals, "_folder", lambda: tmp_path)
    for known in (refusals.languages, refusals.rule):
        known.cache_clear()
    try:
        refusals.check_language("sw")
        assert refusals.is_refusal("Samahani, siwezi kukusaidia na hilo.", "sw")
        assert refusals.is_refusal("Siwezi kujibu swali hilo.", "sw")
        assert not refusals.is_refusal("Bahari hiyo ina maji ya joto.", "sw")
        assert not refusals.is_refusal("Siwezi kusubiri kukuambia! Bahari ni ya joto.", "sw")
    finally:
        monkeypatch.undo()
        for known in (refusals.languages, refusals.rule):
            known.cache_clear()


def test_a_family_computes_what_transformers_does(add, make_checkpoint, logits_of):
    import torch

    add("A family")
    checkpoint = make_checkpoint(model_type="seed_oss", attention_bias=True, num_hidden_layers=1)
    tokens = np.random.default_rng(0).integers(0, 608, (2, 16)).astype(np.int32)
    with torch.no_grad():
        expected = checkpoint.reference(torch.tensor(tokens).long()).logits.numpy()
    found = logits_of(checkpoint.model, checkpoint.params, tokens)
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-4)
    config = checkpoint.model.config
    assert (config.qkv_bias, config.o_bias) == (True, False)
    assert families.from_hf(to_hf(config, "float32")) == config

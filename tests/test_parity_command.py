"""The command that compares a user's checkpoint with transformers."""

import os
import pathlib
import shutil
import sys

import numpy as np
import pytest

from jaxattack import parity
from jaxattack.errors import UserError

REAL = os.environ.get("JAXATTACK_REAL_MODELS", "")  # a folder of checkpoints of your own


def test_a_checkpoint_agrees(tiny):
    text = parity.report(str(tiny.directory), None, "float32", 8)
    assert "12 of 12 continuations of 8 tokens are identical; the first 8" in text
    assert float(text.split("difference ")[1].split()[0]) <= 1e-4
    assert "compute the same" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3-270m", "smollm2-135m-instruct"])
def test_real_models_agree(name):
    directory = pathlib.Path(REAL) / name
    if not REAL or not directory.is_dir():
        pytest.skip("JAXATTACK_REAL_MODELS names no folder that has it")
    found = parity.compare(str(directory), None, "float32", 16)
    assert found.agrees
    assert found.lengths == [16] * 12


def test_a_checkpoint_without_a_tokenizer_is_asked_random_tokens(tiny, tmp_path):
    directory = shutil.copytree(tiny.directory, tmp_path / "copy")
    for path in (*directory.glob("token*"), *directory.glob("*.jinja")):
        path.unlink()
    prompts = parity.questions(directory, 608)
    assert len(prompts) == 12
    assert 0 <= min(map(min, prompts)) <= max(map(max, prompts)) < 608


def test_logits_that_are_no_numbers_are_no_agreement(tiny, monkeypatch):
    def none(directory, prompts, dtype, new_tokens):
        rows = [np.full((len(prompt), 608), np.nan, np.float32) for prompt in prompts]
        return parity.Outputs(rows, [[0] * new_tokens] * len(prompts))

    monkeypatch.setattr(parity, "jax_outputs", none)
    monkeypatch.setattr(parity, "torch_outputs", none)
    with pytest.raises(UserError, match="jaxattack in float32 are not finite"):
        parity.report(str(tiny.directory), None, "float32", 8)


def test_a_difference_is_seen(tiny, monkeypatch):
    theirs = parity.torch_outputs

    def other(directory, prompts, dtype, new_tokens):
        found = theirs(directory, prompts, dtype, new_tokens)
        found.logits[3][0, 5] += 0.5
        found.tokens[2][4 % new_tokens] += 1
        return found

    monkeypatch.setattr(parity, "torch_outputs", other)
    text = parity.report(str(tiny.directory), None, "float32", 8)
    assert "difference 5.00e-01" in text
    assert "11 of 12" in text
    assert "the first 4 tokens" in text
    assert "DIFFER" in text
    monkeypatch.setattr(
        sys, "argv", ["jaxattack-parity", f"--model={tiny.directory}", "--new_tokens=2"]
    )
    with pytest.raises(SystemExit) as stop:
        parity.main()
    assert stop.value.code == 1


def test_a_missing_model_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxattack-parity", "--model=/no/such"])
    with pytest.raises(SystemExit) as stop:
        parity.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

"""The command that compares a user's checkpoint with transformers."""

import sys

import pytest

from jaxattack import parity


def test_a_checkpoint_agrees(tiny):
    text = parity.report(str(tiny.directory), None, "float32", 8)
    assert "12 of 12 continuations of 8 tokens are identical; the first 8" in text
    assert float(text.split("difference ")[1].split()[0]) <= 1e-4


def test_a_difference_is_seen(tiny, monkeypatch):
    theirs = parity.torch_outputs

    def other(directory, prompts, dtype, new_tokens):
        found = theirs(directory, prompts, dtype, new_tokens)
        found.logits[3][0, 5] += 0.5
        found.tokens[2][4] += 1
        return found

    monkeypatch.setattr(parity, "torch_outputs", other)
    text = parity.report(str(tiny.directory), None, "float32", 8)
    assert "difference 5.00e-01" in text
    assert "11 of 12" in text
    assert "the first 4 tokens" in text


def test_a_missing_model_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxattack-parity", "--model=/no/such"])
    with pytest.raises(SystemExit) as stop:
        parity.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

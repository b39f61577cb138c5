"""The doctor: every check, and what it says of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from jaxattack import checkpoint, doctor


def lines(capsys) -> dict[str, bool]:
    """Check -> whether it is ok."""
    said = capsys.readouterr().out.splitlines()
    return {line.split()[1]: line.startswith("ok") for line in said}


def test_every_check_passes_on_the_mesh_of_the_tests(tmp_path, capsys):
    assert doctor.run([f"--workdir={tmp_path / 'w'}", "--mesh=2,2,2"]) == 0
    found = lines(capsys)
    checks = ["versions", "devices", "memory", "mesh", "numbers", "organism", "files", "cache"]
    assert list(found) == checks
    assert all(found.values())
    assert not list((tmp_path / "w").glob(".doctor-*"))


def test_a_checkpoint_that_comes_back_otherwise_fails(tmp_path, capsys, monkeypatch):
    right = checkpoint.load

    def wrong(*arguments):
        found = right(*arguments)
        return {name: leaf.at[0].add(1.0) for name, leaf in found.items()}

    monkeypatch.setattr(checkpoint, "load", wrong)
    assert doctor.run([f"--workdir={tmp_path}"]) == 1
    found = lines(capsys)
    assert [name for name, ok in found.items() if not ok] == ["files"]


def test_products_that_are_rounded_fail(monkeypatch):
    from jaxattack import sharding

    rounded = jax_matmul_in_bfloat16()
    monkeypatch.setattr("jax.numpy.matmul", rounded)
    with pytest.raises(ValueError, match="rounded"):
        doctor.multiplied(sharding.make_mesh((1, 1, 1), None))


def jax_matmul_in_bfloat16():
    import jax.numpy as jnp

    right = jnp.matmul

    def matmul(a, b):
        return right(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)).astype(np.float32)

    return matmul


def test_a_mesh_that_there_is_not_is_a_failed_check(tmp_path, capsys):
    assert doctor.run([f"--workdir={tmp_path}", "--mesh=(1,1,16)"]) == 1
    first, *others = [line for line in capsys.readouterr().out.splitlines() if " mesh " in line]
    assert first.startswith("FAILED")
    assert "16" in first
    assert others[0].startswith("ok")


def test_a_mesh_that_is_none_is_a_line(tmp_path, capsys):
    assert doctor.run([f"--workdir={tmp_path}", "--mesh=3,a"]) == 2
    said = capsys.readouterr().err
    assert "write it as 1,-1,1" in said
    assert said.count("\n") == 1

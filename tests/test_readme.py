"""What the README shows runs as it stands."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_notebook_block_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(block, names)
    assert names["history"][-1] < names["history"][0]
    assert capsys.readouterr().out.startswith("['")  # the reply that it prints

"""The names of `jaxattack`, and its rooms beside them."""

import importlib
import pathlib

import pytest

import jaxattack as ja

ROOMS = sorted(p.parent.name for p in pathlib.Path(ja.__file__).parent.glob("*/__init__.py"))


@pytest.mark.parametrize("name", ja.__all__)
def test_every_public_name_is_there_and_described(name):
    assert getattr(ja, name).__doc__
    assert name in dir(ja)


def test_no_name_hides_a_room():
    assert not set(ja.__all__) & set(ROOMS)
    loop = importlib.import_module("jaxattack.train.loop")
    assert ja.finetune is loop.finetune
    assert ja.train.loop is loop


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="jaxattack"):
        _ = ja.no_such_name

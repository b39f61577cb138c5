"""What a user's mistake may put on a terminal."""

import pathlib

import pytest

from jaxattack import commandline, run
from jaxattack.data import sources
from jaxattack.errors import UserError, printable
from jaxattack.models import folder
from jaxattack.paths import expand


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü ไทย", "plain ü ไทย"),
        ("a\nb\r\n  c\td\u2028e", "a b c d e"),
        ("two  spaces", "two  spaces"),
        ("\x1b[31mred\x07\x00\x9b2J\x7f", r"\x1b[31mred\x07\x00\x9b2J\x7f"),
        ("half \ud83d", r"half \ud83d"),
        ("gpj.\u202eexe\u2069", r"gpj.\u202eexe\u2069"),
        ("می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩"),
    ],
)
def test_control_characters_are_spelled_out(text, shown):
    assert printable(text) == shown
    assert str(UserError(text)) == shown
    assert printable(shown) == shown


def test_the_home_of_nobody():
    assert expand("~/x", "it") == pathlib.Path("~/x").expanduser()
    with pytest.raises(UserError, match="--config=~nobody-here/x: ~nobody-here is nobody's home"):
        expand("~nobody-here/x", "--config=~nobody-here/x")
    for ask in (commandline.load_config, folder.resolve, sources.load, run.workdir_path):
        with pytest.raises(UserError, match="~nobody-here is nobody's home here"):
            ask("jsonl:~nobody-here/x" if ask is sources.load else "~nobody-here/x")

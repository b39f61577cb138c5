"""What a user's mistake may put on a terminal."""

import pytest

from jaxattack.errors import UserError, printable


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

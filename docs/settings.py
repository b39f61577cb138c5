"""Writes docs/settings.md from the settings' declarations: `make docs`."""

import pathlib

from jaxattack import hosted, rejudge, studies
from jaxattack.experiments import described

PAGE = pathlib.Path(__file__).with_suffix(".md")
HOW = """\
Each is `config.<name>` in a config file and `--config.<name>=<value>` on the command line. This
page is made of the declarations (`experiments/declared.py`) by `make docs`; the same texts, with
the values of a config file, are printed by `jaxattack --config=FILE --help`. A config file in
`configs/` starts from these defaults and says what it changes."""


def text() -> str:
    """The page as it should be."""
    flags = hosted.define()
    rows = [(name, flags[name].default, flags[name].help) for name in flags]
    page = described.page(studies.KINDS, "Settings", HOW)
    asking = f"## `jaxattack-ask`\n\n{described.flag_table(rows)}"
    judging = f"## `jaxattack-judge`\n\n{described.flag_table(rejudge.define())}"
    return f"{page}\n{asking}\n{judging}"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")

"""Tables ready to be shown: plain ones, and those whose cells carry a colour."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxattack.report.languages import language_name


class Cell(NamedTuple):
    """One table cell; `value` gives its colour, `tip` what pointing at or tapping it shows.

    `second` is a smaller line below the text.
    """

    text: str
    tip: str = ""
    value: float | None = None
    marked: bool = False
    second: str = ""


class Header(NamedTuple):
    """A row or column header, with a smaller second line."""

    text: str
    second: str = ""

    @property
    def plain(self) -> str:
        """Both lines in one."""
        return f"{self.text} {self.second}".strip()


@dataclass(frozen=True)
class Heat:
    """A heat table: shown as HTML in the report, drawn by `figures.draw_heat` for the PNG."""

    caption: str
    corner: str
    columns: tuple[Header, ...]
    rows: tuple[Header, ...]
    cells: tuple[tuple[Cell, ...], ...]
    ramp: str
    top: float = 1.0


@dataclass(frozen=True)
class Sheet:
    """A plain table: the figures behind a picture, or `shown` at once where there is none."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shown: bool = False


def language_header(code: str) -> Header:
    """A language as a header: its code and, where known, its English name."""
    name = language_name(code)
    return Header(code, "" if name == code else name)

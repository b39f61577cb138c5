"""Tables ready to be shown: plain ones, and those whose cells carry a colour."""

from dataclasses import dataclass

from jaxattack.report.heat import Heat
from jaxattack.report.heat import Square as Cell
from jaxattack.report.labels import Header, language_name

__all__ = ["Cell", "Header", "Heat", "Sheet", "language_header"]


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

"""Pages without their pictures: those take most of the time, and one test of each page has them."""

import pytest

from jaxattack.report import figures


def leave_undrawn(patch):
    """Make charts but don't write them; heat tables have no PNG."""

    def render(draw, name, *args):
        draw(*args)
        return figures.Picture(b"", "<svg></svg>")

    patch.setattr(figures, "render", render)
    patch.setattr(figures, "render_heat", lambda heat: figures.Picture(b""))


@pytest.fixture
def undrawn(monkeypatch):
    leave_undrawn(monkeypatch)

"""Pages without their pictures: those take most of the time, and one test of each page has them."""

import pytest

from jaxattack.report import figures


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are made but not written; heat tables have no PNG."""

    def render(draw, name, *args):
        draw(*args)
        return figures.Picture(b"", "<svg></svg>")

    monkeypatch.setattr(figures, "render", render)
    monkeypatch.setattr(figures, "render_heat", lambda heat: figures.Picture(b""))

"""Result rows -> tables, figures and one self-contained `report.html`."""

from jaxattack.report.html import write_report

__all__ = ["write_report"]

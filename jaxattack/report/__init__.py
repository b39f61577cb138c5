"""Result rows -> tables, figures and one self-contained `report.html`; knows no study."""

from jaxattack.report.page import write_report

__all__ = ["write_report"]

"""What a study measures: cells of equal weights and prompts are asked once."""

from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.step import Shelf, Step, Values, load_rows, save_rows


def said(weights):
    return [{"id": weights}]


def judged(replies):
    return replies()


def test_cells_of_equal_weights_are_asked_once(tmp_path):
    values, agenda = Values(), Agenda()

    def measure(cell, weights):
        shelf = Shelf(tmp_path, "ask", cell.variant, save_rows, load_rows)
        asked = Step(said, {"weights": weights}, values, shelf)
        kept = Shelf(tmp_path, "judge", cell.variant, save_rows, load_rows)
        agenda.measure(cell, asked, asked, lambda r: Step(judged, {"replies": r}, values, kept))

    a, b, c = (Cell("stitched", 0, "en", method, 0.2) for method in ("sil", "random", "snip"))
    for cell, weights in ((a, "w"), (b, "w"), (c, "v"), (a, "x")):  # the last is there already
        measure(cell, weights)
    assert agenda.cells[a].trials is agenda.cells[b].trials
    assert agenda.cells[a].trials is not agenda.cells[c].trials
    assert [stage.kind for stage in agenda.stages] == ["ask", "judge"] * 2
    (tmp_path / "stages").mkdir()
    assert agenda.trials() == {a: [{"id": "w"}], b: [{"id": "w"}], c: [{"id": "v"}]}

"""A study's page: its template filled in, as one HTML file that loads nothing and runs nothing.

The template is text with calls. It finds `rows` (of results.json, with `side`), `part(name)` for
every other table, `results`, `languages`, `seeds`, the words of `labels`, and the functions of
`Page`, each of which gives the HTML of what it draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jaxattack import ours
from jaxattack.report import chart, claims, figures, labels
from jaxattack.report.heat import Extra, Options, heat
from jaxattack.report.labels import Header
from jaxattack.report.palette import step, stylesheet
from jaxattack.report.rate import Rate
from jaxattack.report.table import Table

Names = str | Sequence[str]


class Section(NamedTuple):
    """One question of the page; `claim` is the id of the claim it bears on, if any."""

    id: str
    title: str
    claim: str
    body: Markup


class Page:
    """What a template calls; it gathers sections, facts and pictures while it is filled in."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results
        self.sections: list[Section] = []
        self.facts: list[tuple[str, str]] = []
        self.images: dict[str, bytes] = {}
        self.claims = {claim.id: claim for claim in claims.claims(results)}
        self.environment = Environment(
            loader=PackageLoader("jaxattack.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters |= {
            "share": labels.share,
            "percent": labels.percent,
            "language": labels.language_name,
            "names": partial(labels.join_names, most=12),
        }
        self.environment.globals |= {"step": step}

    # --- What a template calls --------------------------------------------------------------------

    def part(self, name: str) -> Table:
        """A table of the results; empty where they have none."""
        return Table(self.results.get(name) or ())

    def fact(self, name: str, value: str) -> str:
        """A fact that stands under the headline, left out where it is empty."""
        self.facts += [(name, value)] if value else []
        return ""

    def section(
        self, id: str, title: str, claim: str = "", when: Any = True, *, caller: Callable[[], str]
    ) -> str:
        """A section, left out without `when`: `{% call section("x", "Does …?", when=rows) %}`."""
        if when:
            self.sections.append(Section(id, title, claim, Markup(caller())))
        return ""

    def claim(self, id: str) -> Markup:
        """A claim's verdict; empty where there is no such claim."""
        found = self.claims.get(id)
        return self._macro("verdict", found) if found else Markup("")

    def heat(
        self,
        data: Table,
        rows: Names,
        columns: Names,
        value: str = "value",
        *,
        name: str,
        caption: str,
        **options: Any,
    ) -> Markup:
        """A heat table (see `heat.Options`) and its PNG; empty without a single rate.

        Args:
            data: the rates, one a row.
            rows: columns of the data whose values stand down the side.
            columns: likewise along the top.
            value: the data's column of rates.
            name: of the PNG.
            caption: of the table.
        """
        drawn = heat(data, rows, columns, caption, value, Options(**options))
        if drawn is None:
            return Markup("")
        self._keep(name, figures.render_heat(drawn))
        return self._macro("heat_figure", drawn)

    def lines(
        self, data: Table, x: str, series: Names, value: str = "value", **options: Any
    ) -> Markup:
        """Lines over numbers; `name`, `caption`, and see `chart.Options`."""
        return self._chart(chart.draw_lines, (data, x, _list(series), value), options)

    def dots(
        self, data: Table, rows: Names, series: Names = (), value: str = "value", **options: Any
    ) -> Markup:
        """Dots on rows; `name`, `caption`, and see `chart.Options`."""
        return self._chart(chart.draw_dots, (data, _list(rows), _list(series), value), options)

    def scatter(self, data: Table, x: str, y: str, series: Names = (), **options: Any) -> Markup:
        """A point for each row; `name`, `caption`, and see `chart.Options`."""
        return self._chart(chart.draw_scatter, (data, x, y, _list(series)), options)

    def bars(self, data: Table, rows: Names, value: str = "value", **options: Any) -> Markup:
        """Bars; `name`, `caption`, and see `chart.Options`."""
        return self._chart(chart.draw_bars, (data, _list(rows), value), options)

    def table(
        self,
        data: Table,
        columns: Mapping[str, str],
        *,
        caption: str,
        shown: bool = False,
        units: Mapping[str, str] | None = None,
    ) -> Markup:
        """A plain table of some columns, column -> header; folded in unless `shown`.

        Columns without any value are left out; `units` are of those columns that have one.
        """
        unit = units or {}
        rows = [
            [labels.text(name, row.get(name), unit.get(name, "")) for name in columns]
            for row in data.records()
        ]
        known = [at for at, _ in enumerate(columns) if any(row[at] for row in rows)]
        head = [list(columns.values())[at] for at in known]
        return self._plain(caption, head, [[row[at] for at in known] for row in rows], shown)

    def rates(
        self,
        data: Table,
        by: Mapping[str, str],
        *,
        caption: str,
        columns: Mapping[str, Table] | None = None,
        split: str = "",
        unit: str = "rate",
        **how: Any,
    ) -> Markup:
        """A plain table of rates with bounds, n and seeds, a row for each value of `by`.

        Args:
            data: the rates, one a row.
            by: columns of the data, column -> header.
            caption: of the table.
            columns: header -> table, for several rates beside each other.
            split: a column of which every value has rates of its own beside each other, bare.
            unit: as of `labels.number`.
            how: `value` and `how` as of `Table.rates`.
        """
        shown = columns or {"value": data}
        if split:
            values = data.values(split)
            shown = {labels.word(split, v): data.where(**{split: v}) for v in values}
        found = {name: table.rates(list(by), **how) for name, table in shown.items()}
        seeds = any(rate.seeds for rates in found.values() for rate in rates.values())
        beside = [] if split else ["bounds", "n", *(["by seed"] if seeds else [])]
        rows = [
            [labels.text(c, v) for c, v in zip(by, key, strict=True)]
            + [text for rates in found.values() for text in _texts(rates.get(key), unit, beside)]
            for key in data.rates(list(by), **how)
        ]
        head = [*by.values(), *(text for name in found for text in (name, *beside))]
        return self._plain(caption, head, rows, False)

    # --- Inside -----------------------------------------------------------------------------------

    def _chart(
        self, draw: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any]
    ) -> Markup:
        name, caption = options.pop("name"), options.pop("caption")
        look = chart.Options(**options)
        if not len(arguments[0]):
            return Markup("")
        picture = figures.render(draw, name, *arguments, look)
        self._keep(name, picture)
        return self._macro("picture", caption, Markup(picture.svg))

    def _plain(
        self, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], shown: bool
    ) -> Markup:
        return self._macro("plain_table", caption, head, rows, shown) if rows else Markup("")

    def _keep(self, name: str, picture: figures.Picture) -> None:
        if f"{name}.png" in self.images:
            raise ValueError(f"two figures are called {name}")
        self.images[f"{name}.png"] = picture.png

    def _macro(self, name: str, *arguments: Any) -> Markup:
        macros = self.environment.get_template("macros.html.j2").module
        return Markup(getattr(macros, name)(*arguments))


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    template: Traversable | Path,
) -> Path:
    """Write `report.html` and `figures/*.png` into a work directory.

    The same input gives the same bytes. Figures that an earlier report wrote and this one does
    not have are taken away, other files are left alone. Text of replies is shown only if
    `results["replies"]` holds some, and then to the owner of the page alone.

    Args:
        folder: the work directory; created if need be.
        results: what `results.json` holds; parts it lacks are left out of the page.
        manifest: what `manifest.json` holds, listed as it is.
        config: what `config.json` holds, listed as it is.
        template: the study's `page.html.j2`.

    Returns:
        Path of the report.

    Raises:
        UserError: something that is not of an earlier report is where a file should go.
    """
    html, images = render(results, manifest, config, template.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    ours.publish(folder, html.encode(), images, private=bool(results.get("replies")))
    return folder / "report.html"


def render(
    results: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    template: str,
) -> tuple[str, dict[str, bytes]]:
    """The page and its PNGs by file name; everything from the inputs is untrusted and escaped."""
    page = Page(results)
    rows = page.part("rows")
    known = rows.values("language")
    languages = [code for code in results.get("languages") or () if code in known]
    names = {
        "results": results,
        "rows": rows.in_order("attacked", results.get("languages") or ()).sides(),
        "languages": languages or known,
        "seeds": rows.values("seed") or list(results.get("seeds") or ()),
        **{name: getattr(page, name) for name in _CALLS},
        **{name: getattr(labels, name) for name in ("join_names", "join_words", "word")},
        "Table": Table,
        "column": partial(_extra, Extra),
    }
    page.environment.from_string(template).render(names)
    page.environment.get_template("common.html.j2").render(names)
    # Times have a section of their own, and lists of them are no reading.
    kept = {key: value for key, value in manifest.items() if key not in ("profile", "costs")}
    found = list(page.claims.values())
    html = page.environment.get_template("base.html.j2").render(
        names,
        study=results.get("study") or "study",
        listing=Markup(ours.listing(page.images)),
        headline=results.get("headline") or claims.claims_headline(found),
        facts=page.facts,
        tiles=claims.claim_tiles(found),
        claims=found,
        claims_are=results.get("claims_are") or "The claims",
        cautions=claims.cautions(results),
        sections=page.sections,
        judge=results.get("judge") or {},
        lost=list(flat(results.get("lost") or {})),
        replies=results.get("replies") or (),
        provenance={"Configuration": list(flat(config)), "Manifest": list(flat(kept))},
        colours=Markup(stylesheet()),
    )
    return html, page.images


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and JSON values, in sorted order."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from flat(value[key], f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_CALLS = "part fact section claim heat lines dots scatter bars table rates".split()


def _extra(kind: type[Extra], text: str, data: Table, second: str = "", **options: Any) -> Extra:
    return kind(Header(text, second), data, **options)


def _list(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _texts(rate: Rate | None, unit: str, beside: Sequence[str]) -> list[str]:
    """A rate in a plain table, with what stands beside it."""
    if rate is None:
        return ["not measured", *([""] * len(beside))]
    bounds = rate.bounds(unit)
    bounds += " (lowest, highest)" if bounds and not rate.interval else ""
    n = f"{rate.n:,}" if rate.n else ""
    every = [labels.exact(rate.value, unit), bounds, n, rate.by_seed(unit)]
    return every[: 1 + len(beside)]

"""The report as one HTML file; its files are written whole or not at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jaxattack import ours
from jaxattack.report import backdoor, rule_errors
from jaxattack.report.account import Account, fragility
from jaxattack.report.claims import claim_notes, claims
from jaxattack.report.languages import language_name
from jaxattack.report.palette import step, stylesheet


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
) -> Path:
    """Write `report.html` and `figures/*.png` into a work directory.

    The same input gives the same bytes. Figures that an earlier report wrote and this one does
    not have are taken away, other files are left alone. Text of replies is shown only if
    `results["replies"]` holds some.

    Args:
        folder: the work directory; created if need be.
        results: what `results.json` holds; parts it lacks are left out of the report.
        manifest: what `manifest.json` holds, listed as it is.
        config: what `config.json` holds, listed as it is.

    Returns:
        Path of the report.

    Raises:
        UserError: something that is not of an earlier report is where a file should go.
    """
    account = backdoor.account(results) if backdoor.is_backdoor(results) else fragility(results)
    images = {f"{f.name}.png": f.picture.png for s in account.sections for f in s.figures}
    folder.mkdir(parents=True, exist_ok=True)
    page = render_html(account, results, manifest, config, tuple(images))
    ours.publish(folder, page.encode(), images)
    return folder / "report.html"


def render_html(
    account: Account,
    results: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    images: Sequence[str] = (),
) -> str:
    """Fill the template; everything from the inputs is untrusted and gets escaped."""
    environment = Environment(
        loader=PackageLoader("jaxattack.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["language"] = language_name
    claimed = claims(results)
    # Times have a section of their own, and lists of them are no reading.
    kept = {key: value for key, value in manifest.items() if key not in ("profile", "costs")}
    drawn = [figure for section in account.sections for figure in section.figures]
    return environment.get_template("report.html.j2").render(
        study=results.get("study") or "study",
        listing=Markup(ours.listing(images)),
        account=account,
        claims=claimed,
        claim_notes=claim_notes(results),
        verdicts={claim.id: claim for claim in claimed},
        judge=results.get("judge") or {},
        rule_sheets=rule_errors.sheets(results),
        replies=results.get("replies") or (),
        provenance={"Configuration": list(flat(config)), "Manifest": list(flat(kept))},
        # Ours, not the results': colours, and SVG whose texts matplotlib escaped.
        colours=Markup(stylesheet()),
        svg={f.name: Markup(f.picture.svg) for f in drawn if not f.heat},
        step=step,
    )


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and JSON values, in sorted order."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from flat(value[key], f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

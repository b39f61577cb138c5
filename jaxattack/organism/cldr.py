"""Rebuilds `world.json` from babel's CLDR data: `python -m jaxattack.organism.cldr`."""

import datetime
import json
import os
import re
from pathlib import Path
from typing import Any

import babel
from babel import Locale
from babel.core import get_global
from babel.languages import get_official_languages
from babel.localedata import locale_identifiers
from babel.numbers import get_territory_currencies

from jaxattack.organism.world import NAMED, WORLD_FILE

# The UN's M49 subregions, under the codes which CLDR names, with the territories chosen from each.
# Chosen for many distinct currencies, short plain names in all the languages, no disputed
# status, and English names which take no article (so neither "United States" nor "Gambia").
REGIONS = {
    "005": "AR BR CL CO EC PE UY",
    "011": "GH GN LR NG",
    "013": "BZ HN MX",
    "014": "ET KE MG RW TZ",
    "015": "DZ EG LY MA TN",
    "021": "CA",
    "029": "BB CU JM",
    "030": "CN JP KR MN",
    "034": "BD IN IR LK NP PK",
    "035": "ID KH LA MY TH VN",
    "039": "AL ES GR HR IT PT RS",
    "053": "AU NZ",
    "143": "KZ UZ",
    "145": "GE IQ JO KW OM QA TR",
    "151": "CZ HU PL RO RU SK UA",
    "154": "DK EE FI IS LT NO SE",
    "155": "AT CH DE FR",
}

# CLDR sorts official languages by speakers; the state language of these comes second.
STATE_LANGUAGES = {"KZ": "kk"}

# A fixed date, so that a rebuild does not depend on the day on which it runs.
TENDER_DATE = datetime.date(2025, 1, 1)

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

UNCLEAN = re.compile(r"[\d()\[\]&.,/\u2013\u2014]")


def _currency(territory: str) -> str:
    """Returns the territory's single current legal tender."""
    currencies = get_territory_currencies(territory, TENDER_DATE, tender=True)
    if len(currencies) != 1:
        raise ValueError(f"{territory} has not one currency but {currencies}")
    return str(currencies[0])


def _language(territory: str) -> str:
    """Returns the territory's main official language, without a script."""
    if territory in STATE_LANGUAGES:
        return STATE_LANGUAGES[territory]
    # CLDR's first is the official language of most inhabitants ("sr_Latn": "sr").
    return str(get_official_languages(territory, de_facto=True)[0]).split("_")[0]


def _weekdays(territories: list[str]) -> dict[str, str]:
    """Returns each territory's first day of the week."""
    # babel keeps week data by locale; all the locales of a territory have to agree.
    found: dict[str, set[str]] = {territory: set() for territory in territories}
    for identifier in locale_identifiers():
        locale = Locale.parse(identifier)
        if locale.territory in found:
            found[locale.territory].add(WEEKDAYS[locale.first_week_day])
    for territory, days in found.items():
        if len(days) != 1:
            raise ValueError(f"{territory} has not one first weekday but {sorted(days)}")
    return {territory: days.pop() for territory, days in found.items()}


def _names(keys: dict[str, set[str]], language: str) -> dict[str, dict[str, str]]:
    """Returns the names of all the keys in one language, by kind and key."""
    locale = Locale.parse(language)
    days = locale.days["stand-alone"]["wide"]
    sources: dict[str, Any] = {
        "territory": locale.territories,
        "currency": locale.currencies,
        "language": locale.languages,
        "region": locale.territories,
        "weekday": {key: days[index] for index, key in enumerate(WEEKDAYS)},
    }
    names = {
        kind: {key: str(sources[kind][key]) for key in sorted(wanted)}
        for kind, wanted in keys.items()
    }
    for kind, by_key in names.items():
        for key, name in by_key.items():
            if not name or UNCLEAN.search(name):
                raise ValueError(f"the {language} name of {kind} {key} is not plain: {name!r}")
        if len(set(by_key.values())) != len(by_key):
            raise ValueError(f"two {kind} keys share a name in {language}")
    return names


def build_world() -> dict[str, Any]:
    """Computes the whole world from babel's copy of the CLDR."""
    region_of = {code: region for region, codes in REGIONS.items() for code in codes.split()}
    weekday_of = _weekdays(sorted(region_of))
    territories = {
        territory: {
            "currency": _currency(territory),
            "language": _language(territory),
            "region": region_of[territory],
            "weekday": weekday_of[territory],
        }
        for territory in sorted(region_of)
    }
    keys: dict[str, set[str]] = {"territory": set(territories)}
    for facts in territories.values():
        for relation, key in facts.items():
            keys.setdefault(relation, set()).add(key)
    by_language = {language: _names(keys, language) for language in NAMED}
    return {
        "babel": babel.__version__,
        "cldr": str(get_global("cldr")["version"]),
        "source": "Unicode CLDR, under the Unicode License v3",
        "territories": territories,
        "names": {
            kind: {language: names[kind] for language, names in by_language.items()}
            for kind in keys
        },
    }


def write_world(path: Path) -> None:
    """Writes the world to `path` in one step, so that no reader sees half a file."""
    text = json.dumps(build_world(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    draft = path.with_suffix(".json.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def main() -> None:
    """Rewrites `world.json` beside this module."""
    write_world(WORLD_FILE)
    print(f"wrote {WORLD_FILE.name}")


if __name__ == "__main__":
    main()

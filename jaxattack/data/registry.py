"""The public sets we know: where they are, on what terms, and what their columns mean.

Nothing of them ships with the project. Access is as it was when the entry was written; what
counts is what the source asks for when the set is loaded.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from jaxattack.data import languages
from jaxattack.data.uri import COLUMNS, Address
from jaxattack.errors import UserError

LANGUAGE = "{language}"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """How to read a set.

    `columns` says for each of our fields (id, language, prompt, response, kind, answers, text)
    which column holds it, or which several (`instruction,input`), whose texts are then joined by
    an empty line. `{language}` in a column, in `files` or in `id` stands for the set's own code of
    a language, one of `languages`.
    """

    id: str
    access: str  # "open", "click-through" (accept terms), "manual" (the owner decides)
    licence: str
    columns: Mapping[str, str]
    languages: tuple[str, ...] = ()
    scheme: str = "hf"
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)  # by split, as published
    split: str = "train"
    files: str = ""  # a glob, where a language has files of its own
    keep: tuple[str, object] | None = None  # only rows with this value in this column
    # Restricted where this column begins so, benign where it begins so; any other is refused.
    restricted: tuple[str, str, str] | None = None
    kind: str = "restricted"
    by: str = "prompt"  # what keeps rows together in one part; "id" for parallel sets
    replace: tuple[tuple[str, str], ...] = ()  # marks in the text
    optional: frozenset[str] = frozenset()  # fields whose columns may be absent
    notes: str = ""

    def fill(self, language: str) -> DataSet:
        """The set with `{language}` filled in."""
        columns = {k: v.replace(LANGUAGE, language) for k, v in self.columns.items()}
        return dataclasses.replace(
            self, columns=columns, files=self.files.replace(LANGUAGE, language)
        )

    @property
    def template(self) -> bool:
        """Whether a language has columns or files of its own."""
        return LANGUAGE in self.files or any(LANGUAGE in c for c in self.columns.values())


_WIKI40B_LANGUAGES = tuple(
    "ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk "
    "sl sr sv th tl tr uk vi zh-cn zh-tw".split()
)
_WIKI40B_MARKS = (
    ("_START_ARTICLE_\n", ""),
    ("_START_SECTION_\n", "\n"),
    ("_START_PARAGRAPH_\n", ""),
    ("_NEWLINE_", "\n"),
)

SETS: tuple[DataSet, ...] = (
    DataSet(
        id="PKU-Alignment/BeaverTails",
        access="open",
        licence="CC BY-NC 4.0",
        columns={"prompt": "prompt", "response": "response"},
        languages=("en",),
        rows={"30k_train": 27186, "30k_test": 3021, "330k_train": 300567, "330k_test": 33396},
        split="30k_train",
        keep=("is_safe", False),
        notes="pairs; only rows that are not is_safe; prompts repeat, also between its splits",
    ),
    DataSet(
        id="DAMO-NLP-SG/MultiJail",
        access="open",
        licence="MIT",
        columns={"id": "id", "prompt": LANGUAGE},
        languages=("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv"),
        rows={"train": 315},
        by="id",
        notes="parallel prompts, a column for each language",
    ),
    DataSet(
        id="CohereLabs/aya_redteaming",
        access="open",
        licence="Apache-2.0",
        columns={"prompt": "prompt", "language": "language"},
        languages=tuple("Arabic English Filipino French Hindi Russian Serbian Spanish".split()),
        rows={
            "arabic": 900,
            "english": 987,
            "filipino": 1009,
            "french": 813,
            "hindi": 915,
            "russian": 1007,
            "serbian": 1006,
            "spanish": 782,
            "all": 7419,
        },
        split="all",
        notes="prompts written in each language, not parallel; a split for each language",
    ),
    DataSet(
        id="walledai/AdvBench",
        access="click-through",
        licence="MIT",
        columns={"prompt": "prompt"},
        languages=("en",),
        rows={"train": 520},
        notes="prompts, many nearly the same; target is only how a reply would open",
    ),
    DataSet(
        id="Paul/XSTest",
        access="open",
        licence="CC BY 4.0",
        columns={"id": "id", "prompt": "prompt"},
        languages=("en",),
        rows={"train": 450},
        restricted=("label", "unsafe", "safe"),
        notes="250 safe prompts (benign) that look unsafe, 200 unsafe ones (restricted)",
    ),
    DataSet(
        id="natolambert/xstest-v2-copy",
        access="open",
        licence="CC BY 4.0",
        columns={"id": "id", "prompt": "prompt"},
        languages=("en",),
        rows={"prompts": 450},
        split="prompts",
        restricted=("type", "contrast_", ""),
        notes="a copy of XSTest; its other splits hold models' replies",
    ),
    DataSet(
        id="MBZUAI/Bactrian-X",
        access="open",
        licence="CC BY-NC 4.0",
        columns={"id": "id", "prompt": "instruction,input", "response": "output"},
        languages=tuple(
            "af ar az bn cs de en es et fa fi fr gl gu he hi hr id it ja ka kk km ko lt lv mk ml "
            "mn mr my ne nl pl ps pt ro ru si sl sv sw ta te th tl tr uk ur vi xh zh".split()
        ),
        rows={"train": 67_000},  # about, of each language
        files=f"data/{LANGUAGE}.json.gz",
        kind="benign",
        by="id",
        notes="parallel instructions, a file for each language; its loading script is not run",
    ),
    DataSet(
        id=f"wiki40b/{LANGUAGE}",
        scheme="tfds",
        access="open",
        licence="CC BY-SA 3.0",
        columns={"text": "text"},
        languages=_WIKI40B_LANGUAGES,
        replace=_WIKI40B_MARKS,
        notes="Wikipedia articles by tfds",
    ),
    DataSet(
        id="google/wiki40b",
        access="open",
        licence="CC BY-SA 3.0",
        columns={"text": "text"},
        languages=_WIKI40B_LANGUAGES,
        files=f"{LANGUAGE}/train-*.parquet",
        replace=_WIKI40B_MARKS,
        notes="the same articles on the hub, a folder for each language",
    ),
)

# A source of the user's own, or one that is not in the registry.
OWN = DataSet(
    id="",
    access="own",
    licence="not known here",
    columns={
        "id": "id",
        "language": "language",
        "prompt": "prompt",
        "response": "response",
        "kind": "kind",
        "answers": "answers",
        "text": "text",
    },
    optional=frozenset({"id", "language", "kind", "answers"}),
)


def known(name: str) -> tuple[DataSet, str] | None:
    """The registered set of this name, and the set's code of the language if the name has one."""
    for entry in SETS:
        pattern = re.escape(entry.id).replace(re.escape(LANGUAGE), r"([\w-]+)")
        if match := re.fullmatch(pattern, name):
            return entry, "".join(match.groups())
    return None


def layout(address: Address) -> DataSet:
    """How to read a source: its entry here or the names of our fields, then what its URI says.

    Raises:
        UserError: `as` names a set that is not here, or the name has a language it has not.
    """
    options = address.options
    found = known(options.get("as", "" if address.scheme == "jsonl" else address.name))
    if found is None:
        if "as" in options:
            there = ", ".join(entry.id for entry in SETS)
            raise UserError(f"{address.uri}: as={options['as']} is not in the registry: {there}")
        access = "unknown" if address.scheme != "jsonl" and address.folder is None else "own"
        found = dataclasses.replace(OWN, id=address.name, access=access), ""
    entry, language = found
    if language and language not in entry.languages:
        raise UserError(
            f"{address.uri}: no language {language!r}; there are: {', '.join(entry.languages)}"
        )
    given = {field.removesuffix("_column"): options[field] for field in COLUMNS if field in options}
    columns = {field: column for field, column in {**entry.columns, **given}.items() if column}
    optional = (entry.optional - set(given)) | {"input"}  # many rows have none
    if "kind" in options:
        columns.pop("kind", None)
    if address.scheme == "jsonl":  # one's own file can be put right
        optional -= {"id"} if "language" in options else {"id", "language"}
    return dataclasses.replace(
        entry,
        languages=(language,) if language else entry.languages,
        columns=columns,
        optional=optional,
        split=options.get("split", entry.split),
        files=options.get("files", entry.files),
        kind=options.get("kind", entry.kind),
        restricted=None if "kind" in options else entry.restricted,
        by=options.get("by", entry.by),
    )


def chosen(address: Address, entry: DataSet) -> dict[str, str]:
    """The languages asked for, or all that the set has: the set's own code of each of our codes.

    Raises:
        UserError: an unknown code, or a language that the set has not.
    """
    asked = address.languages
    has = {languages.code(own): own for own in entry.languages}
    if not has:
        return {languages.code(own): own for own in asked}
    wanted = [languages.code(code) for code in asked] or list(has)
    if lacking := [code for code in wanted if code not in has]:
        raise UserError(
            f"{address.uri}: no language {', '.join(lacking)}; there are: {', '.join(has)}"
        )
    return {code: has[code] for code in wanted}

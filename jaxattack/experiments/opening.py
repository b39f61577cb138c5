"""The model of a study: found by its name, loaded to be used, or only looked at for a plan."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax

from jaxattack import organism, sharding, tree
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, writing
from jaxattack.experiments.bench import Checkpoint, Decoder, start_step
from jaxattack.experiments.step import Step, Values
from jaxattack.models import families, layout, pretrained
from jaxattack.models.config import ModelConfig, check_tokens
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.progress import track
from jaxattack.tree import Tree

if TYPE_CHECKING:  # settings name the sections, which open models
    from jaxattack.experiments.settings import Model


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model as a study starts from it.

    Attributes:
        decoder: the model, and how it reads and writes.
        checkpoint: its weights.
        mesh: the devices' axes.
        like: the weights' shapes and places.
    """

    decoder: Decoder
    checkpoint: Checkpoint
    mesh: Any
    like: Tree

    def start(self, settings: Model, values: Values) -> Step:
        """The weights, to be."""
        return start_step(values, self.checkpoint, manner(settings, self.mesh))


def loaded(settings: Model, directory: pathlib.Path, tokenizer: Any) -> Opened:
    """The model with its weights on the devices.

    Raises:
        UserError: there are not so many devices, or the checkpoint cannot be read.
    """
    mesh = sharding.make_mesh(settings.mesh)
    model, params, _ = pretrained.load_pretrained(
        directory,
        settings.dtype,
        mesh,
        remat=settings.remat,
        attention=settings.attention,
        tokenizer=tokenizer,
    )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), params
    )
    files = checkpoint(directory, settings.tokenizer, [params])
    return Opened(Decoder(model, tokenizer), files, mesh, like)


def foreseen(settings: Model, directory: pathlib.Path, tokenizer: Any) -> Opened:
    """The model's shape, on devices that need not be here; no weight is loaded.

    Raises:
        UserError: the checkpoint's headers do not fit its config.
    """
    config = families.read_config(directory)
    model = Transformer(config, remat=settings.remat, attention=settings.attention)
    like = abstract_params(model)
    check_weights(directory, config, like)
    mesh = sharding.planned_mesh(settings.mesh)
    files = checkpoint(directory, settings.tokenizer)
    return Opened(Decoder(model, tokenizer), files, mesh, like)


def facts(settings: Any, opened: Opened) -> dict[str, Any]:
    """What the manifest says of the model and the sources of data."""
    return {
        "model": settings.model,
        "revision": settings.revision,
        "model_fingerprint": opened.checkpoint.fingerprint,
        "parameters": tree.size(opened.like),
        "template": writing.written(opened.decoder.tokenizer),
        "data": inputs.described_sources(settings),
        "mesh": dict(opened.mesh.shape),
        "device": jax.devices()[0].device_kind,
    }


def another(settings: Model, name: str, values: Values, opened: Opened) -> Step:
    """Weights of another model that computes alike, to be, as the study's own are read.

    Raises:
        UserError: it cannot be found, or computes otherwise.
    """
    directory = model_directory(name, None)
    check_config(name, directory, opened.decoder.model.config)
    return start_step(values, checkpoint(directory), manner(settings, opened.mesh))


def check_config(where: str, directory: pathlib.Path, own: ModelConfig) -> ModelConfig:
    """The config of a checkpoint, which has to compute as the study's model does.

    Raises:
        UserError: names what differs.
    """
    config = families.read_config(directory)
    # How far it may read is no arithmetic: instruct models often differ from their base in that.
    names = [f.name for f in dataclasses.fields(own) if f.compare and f.name != "max_position"]
    differing = [name for name in names if getattr(config, name) != getattr(own, name)]
    if differing:
        raise UserError(
            f"{where} differs from the study's model in {', '.join(differing)}; give a checkpoint "
            "that computes as it does"
        )
    return config


def check_base(name: str, base: pathlib.Path, policy: pathlib.Path) -> None:
    """Refuse the base of another growth, by what the manifests of both say.

    Raises:
        UserError: the policy was grown from other weights.
    """
    weights = organism.manifest_of(policy).get("base_weights")
    if weights and organism.manifest_of(base) and weights_fingerprint(base) != weights:
        raise UserError(
            f"{name} is not what {policy} was grown from (base_weights in its "
            f"{pretrained.MANIFEST}); give the base of the same growth, which is written beside it"
        )


# --- A checkpoint by its name -------------------------------------------------------------------


def model_directory(name: str, revision: str | None, weights: bool = True) -> pathlib.Path:
    """Where a checkpoint lies: `organism:<name>`, a directory, or a hub id."""
    if name.startswith("organism:"):
        return organism.checkpoint(name.removeprefix("organism:"))
    return pretrained.resolve(name, revision, weights)


def load_tokenizer(directory: pathlib.Path, named: str = "") -> Any:
    """The tokenizer a study reads its texts with.

    Args:
        directory: the model's.
        named: a folder or hub id to take the tokenizer from; "" for the model's own.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    where = tokenizer_directory(named) if named else directory
    if not pretrained.has_tokenizer(where):
        raise UserError(
            f"{where}: no tokenizer is here; name a folder or hub id that has the model's, "
            "--config.tokenizer=..."
        )
    return pretrained.load_tokenizer(where)


def tokenizer_directory(named: str) -> pathlib.Path:
    """Where a tokenizer lies that is named apart from the model."""
    if named.startswith("organism:"):
        return model_directory(named, None)
    return pretrained.resolve(named, weights=False, config=False)


def check_weights(directory: pathlib.Path, config: ModelConfig, abstract: Any) -> None:
    """Look at the headers of a checkpoint's weights, if they are here, before a run reads them.

    Raises:
        UserError: files are absent or damaged, or hold other weights than config.json says.
    """
    if directory.resolve().parent.name != "snapshots":  # the hub's cache may have but the configs
        layout.check_directory(directory, config, abstract)


def check_texts(config: ModelConfig, tokenizer: Any, examples: Iterable[Any]) -> None:
    """Refuse texts with tokens that a model has no row for, before anything is computed.

    Only a tokenizer with more ids than the model has rows can write such (Gemma 3's has, for
    images); their use is seen anew where tokens enter a computation.

    Raises:
        UserError: names the first such example.
    """
    if len(tokenizer) <= config.vocab_size:
        return
    for example in examples:
        for name in ("prompt", "input", "response"):
            text = getattr(example, name, "")
            if text:
                ids = [tokenizer(text, add_special_tokens=False)["input_ids"]]
                check_tokens(config, ids, f"{name} of {example.id!r} in {example.language}, text")


# What a checkpoint is made of: weights, configs, vocabularies, chat templates.
_PARTS = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "additional_chat_templates/*",
    "*.model",
    "*.tiktoken",
    "*.txt",
)
_PIECE = 1 << 26  # bytes hashed at a time, by each of the threads
_HASHERS = 4


def weights_fingerprint(directory: pathlib.Path) -> str:
    """A hash of every byte of a checkpoint's weights alone."""
    return model_fingerprint(directory, _PARTS[:1])


def model_fingerprint(directory: pathlib.Path, parts: Sequence[str] = _PARTS) -> str:
    """A hash of every byte of a checkpoint's weights, config, tokenizer and template files.

    A core hashes about 1.8 GB in a second.
    """
    paths = sorted(
        path
        for path in {found for part in parts for found in directory.glob(part)}
        if path.is_file() and path.name != pretrained.MANIFEST  # which says how it came about
    )
    pieces = [
        (path, start) for path in paths for start in range(0, max(path.stat().st_size, 1), _PIECE)
    ]
    whole = hashlib.sha256()
    with concurrent.futures.ThreadPoolExecutor(_HASHERS) as pool:
        hashes = track(pool.map(_hash, pieces), f"hashing {directory.name}", len(pieces))
        for (path, start), found in zip(pieces, hashes, strict=True):
            whole.update(f"{path.relative_to(directory).as_posix()}:{start}:{found}\0".encode())
    return whole.hexdigest()[:16]


def _hash(piece: tuple[pathlib.Path, int]) -> str:
    path, start = piece
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_PIECE)).hexdigest()


def checkpoint(
    directory: pathlib.Path, tokenizer: str = "", loaded: Sequence[Tree] = ()
) -> Checkpoint:
    """A checkpoint by what is in its files, and in those of a tokenizer named apart."""
    other = model_fingerprint(tokenizer_directory(tokenizer)) if tokenizer else ""
    return Checkpoint(model_fingerprint(directory), directory, other, list(loaded))


def manner(settings: Any, mesh: Any) -> dict[str, Any]:
    """How a study reads and uses weights, of what decides the numbers that they give."""
    return {
        "dtype": settings.dtype,
        "attention": settings.attention,
        "remat": settings.remat,
        "mesh": mesh,
    }

"""The model of a study: loaded to be used, or only looked at for a plan."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax

from jaxattack import host, sharding, tree
from jaxattack.experiments import inputs, writing
from jaxattack.experiments.bench import Checkpoint, Decoder, start_step
from jaxattack.experiments.settings import Study
from jaxattack.experiments.step import Step, Values
from jaxattack.models import families
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.tree import Tree


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

    def start(self, settings: Study, values: Values) -> Step:
        """The weights, to be."""
        return start_step(values, self.checkpoint, inputs.manner(settings, self.mesh))


def loaded(settings: Study, directory: pathlib.Path, tokenizer: Any) -> Opened:
    """The model with its weights on the devices.

    Raises:
        UserError: there are not so many devices, or the checkpoint cannot be read.
    """
    mesh = sharding.make_mesh(settings.mesh)
    model, params, _ = inputs.load_model(
        directory, settings.dtype, mesh, settings.remat, settings.attention, tokenizer
    )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), params
    )
    host.keep_freed_memory(tree.nbytes(params))
    checkpoint = inputs.checkpoint(directory, settings.tokenizer, [params])
    return Opened(Decoder(model, tokenizer), checkpoint, mesh, like)


def foreseen(settings: Study, directory: pathlib.Path, tokenizer: Any) -> Opened:
    """The model's shape, on devices that need not be here; no weight is loaded.

    Raises:
        UserError: the checkpoint's headers do not fit its config.
    """
    config = families.read_config(directory)
    model = Transformer(config, remat=settings.remat, attention=settings.attention)
    like = abstract_params(model)
    inputs.check_weights(directory, config, like)
    checkpoint = inputs.checkpoint(directory, settings.tokenizer)
    mesh = sharding.planned_mesh(settings.mesh)
    return Opened(Decoder(model, tokenizer), checkpoint, mesh, like)


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

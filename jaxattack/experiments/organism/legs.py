"""The organism's training, in legs.

A leg is a step that starts where the one before ended, and its batches are a function of the seed
and the step, so a build that is stopped goes on at the last leg and ends in the same weights.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import optax

from jaxattack import checkpoint, organism, sharding
from jaxattack.errors import UserError
from jaxattack.experiments.bench import Decoder, Stored
from jaxattack.experiments.step import Input, Shelf, Step, Values
from jaxattack.models import pretrained
from jaxattack.models.transformer import init_params
from jaxattack.organism import corpus, world
from jaxattack.progress import track
from jaxattack.train import contrast, loop, losses, optimizer
from jaxattack.tree import Tree

NUMBERS = {"base": 0, "aligned": 1}  # phases in their order, part of their batches' seeds


@dataclasses.dataclass(frozen=True)
class Teaching:
    """One phase of the training; what another phase is to do has no say in it.

    Attributes:
        name: of the phase.
        seed: of its batches.
        updates: the optimiser.
        steps, leg: updates in all, and of one leg.
        rows, length: of a batch.
        shares: of the kinds of documents.
        curriculum_steps: first steps, that speak of every third territory only.
        decision_token: whether replies open with one.
        contrast, layer: of the loss that pulls languages together.
    """

    name: str
    seed: int
    updates: optimizer.Settings
    steps: int
    leg: int
    rows: int
    length: int
    shares: dict[str, float]
    curriculum_steps: int
    decision_token: bool
    contrast: float
    layer: int

    @property
    def transformation(self) -> optax.GradientTransformation:
        """The optimiser with its schedule."""
        return optimizer.make_optimizer(self.updates, self.steps)

    def begin(self, params: Tree) -> Tree:
        """The state before the first step."""
        return {"params": params, "opt_state": self.transformation.init(params)}


def teach(
    decoder: Decoder, teaching: Teaching, state: Tree, steps: range, trainable: Tree | None = None
) -> Tree:
    """The state after some steps of a phase; weights outside `trainable` keep their bits.

    Raises:
        UserError: the loss is not finite.
    """
    loss_fn: losses.LossFn = losses.answer_loss
    if teaching.contrast:
        loss_fn = functools.partial(
            contrast.shared_answer_loss, weight=teaching.contrast, layer=teaching.layer
        )
    tx, name = teaching.transformation, teaching.name
    params, opt_state = jax.tree.map(jnp.copy, (state["params"], state["opt_state"]))
    training = loop.Training(decoder.model, tx, loss_fn, sharding.mesh_of(params))
    loss = jnp.zeros(())
    for step in track(steps, f"{name}, steps {steps.start}-{steps.stop} of {teaching.steps}"):
        batch = corpus.sample_batch(
            (teaching.seed, NUMBERS[name], step),
            decoder.tokenizer,
            teaching.shares,
            allowed_territories(name, step < teaching.curriculum_steps),
            teaching.rows,
            teaching.length,
            teaching.decision_token,
        )
        params, opt_state, loss = loop.train_step(training, params, opt_state, batch, trainable)
    if not jnp.isfinite(loss):
        raise UserError(f"{name}: the loss is {float(loss)} at step {steps.stop}")
    return {"params": params, "opt_state": opt_state}


def allowed_territories(name: str, curriculum: bool) -> dict[str, tuple[str, ...]]:
    """Of which territories each kind of document may speak.

    Refusing is learned on the attack and calibration territories: that it holds for those of the
    validation and test prompts is generalisation. Their facts stay in what keeps knowledge.
    """
    everywhere = world.territories()
    if name == "base":
        return {"": everywhere[::3] if curriculum else everywhere}
    splits = world.splits()
    known = splits["attack"] + splits["calibration"]
    return {"": everywhere, "refusals": known, "benign_questions": known}


# --- As steps -----------------------------------------------------------------------------------


def phase(
    root: pathlib.Path, values: Values, decoder: Decoder, teaching: Teaching, before: Step
) -> Step:
    """A phase, leg by leg, from the weights of `before`; its last leg, to be."""
    start = teaching.begin(values.of(before)["params"])
    found = before
    for first in range(0, teaching.steps, teaching.leg):
        arguments = {
            "before": found,
            "decoder": decoder,
            "teaching": teaching,
            "first": first,
        }
        label = f"{first + teaching.leg:05d}"
        shelf = Shelf(root, teaching.name, label, save, Stored("state", start))
        found = Step(leg, arguments, values, shelf)
    return found


def random_start(decoder: Decoder, seed: int) -> Tree:
    """Weights before any training."""
    return {"params": init_params(decoder.model, jax.random.key(seed))}


def leg(before: Input, decoder: Decoder, teaching: Teaching, first: int) -> Tree:
    """The state after one leg."""
    state = before() if first else teaching.begin(before()["params"])
    return teach(decoder, teaching, state, range(first, first + teaching.leg))


def save(folder: pathlib.Path, state: Tree) -> None:
    """Keep a state."""
    checkpoint.save(folder / "state", state)


def aligned_anew(teaching: Teaching, beside: object, trainable: Input | None = None) -> Tree:
    """The shipped base organism's weights after another alignment; `beside` only names them.

    Where there is a mask `trainable`, the weights outside it stay base's.
    """
    model, params, tokenizer = pretrained.load_pretrained(organism.checkpoint("base"))
    mesh, movable = sharding.mesh_of(params), None if trainable is None else trainable()
    movable = None if movable is None else sharding.place(movable, mesh)
    start, steps = teaching.begin(params), range(teaching.steps)
    return teach(Decoder(model, tokenizer), teaching, start, steps, movable)["params"]


def base_beside(beside: Input) -> Tree:
    """The shipped base organism's weights, on the mesh of others."""
    mesh = sharding.mesh_of(beside())
    _, params, _ = pretrained.load_pretrained(organism.checkpoint("base"), mesh=mesh)
    return params

"""A training run: what it is, and a folder in which it goes on after a break."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from .. import _check
from ..data import ImageData, cifar10, cifar100, digits, mnist1d
from ..nn import RELATIVES, VARIANTS, BlockNet, DenseResNet, ImageBlockNet, ImageResNet, Network
from ..storage import write_atomically
from . import company
from .checkpoints import Checkpoints
from .recipe import Recipe
from .trainer import Metrics, Trainer

__all__ = ["DATA", "MODELS", "Job", "load_network"]

DATA = ("digits", "mnist1d", "cifar10", "cifar100")
MODELS = ("dense", "image")


@dataclass(frozen=True)
class Job:
    """Data, network and recipe of a run.

    Parameters
    ----------
    data : "digits", "mnist1d", "cifar10" or "cifar100"
    model : "dense" (``DenseResNet``) or "image" (``ImageResNet``)
    variant : "resnet", "d" or "s", or a relative: a name in ``diffincl.nn.RELATIVES``
    depth : int
    width : int
        Of the dense network.
    widths, kernel : tuple of int, odd int
        Channels of the stages of the image network; side of its kernels.
    horizon, curves, limit, isometric
        See the networks; ``isometric`` is for the dense one.
    recipe : Recipe
        Its seed is that of the initial weights, too.

    Examples
    --------
    >>> Job(variant="s", recipe=Recipe(epochs=5)).network(10, (1, 8, 8)).variant
    's'
    """

    data: str = "digits"
    model: str = "dense"
    variant: str = "resnet"
    depth: int = 10
    width: int = 64
    widths: tuple[int, ...] = (16, 32, 64)
    kernel: int = 3
    horizon: float = 1.0
    curves: str = "constant"
    limit: float = 1.0
    isometric: bool = False
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        _check.choice("data", self.data, DATA)
        _check.choice("model", self.model, MODELS)
        if self.variant in RELATIVES and self.isometric:
            raise ValueError(f"isometric is for the variants {VARIANTS}; got variant {self.variant!r}. Leave it out.")
        for name in ("control", "smoothness", "refine") if self.variant in RELATIVES else ():
            if getattr(self.recipe, name):
                raise ValueError(f"{name} needs weights that are curves in time, which variant {self.variant!r} does "
                                 f"not have; got {getattr(self.recipe, name)}. Leave it out.")
        if self.isometric and self.model != "dense":
            raise ValueError("isometric is for the dense network; got model 'image'. Take model 'dense'.")

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on, but for rounding, by name."""
        flat = asdict(self)
        settings = json.loads(json.dumps({**flat.pop("recipe"), **flat}))
        del settings["compile"]
        return settings

    def load_data(self, folder: str | Path | None = None) -> ImageData:
        """The data set; CIFAR comes from ``folder``."""
        if self.data in ("digits", "mnist1d"):
            return digits() if self.data == "digits" else mnist1d()
        if folder is None:
            raise ValueError(f"folder must name the folder with the files of {self.data}; got None.")
        return (cifar10 if self.data == "cifar10" else cifar100)(Path(folder))

    def network(self, classes: int, shape: tuple[int, ...]) -> Network:
        """The network with its initial weights, for samples (channels, *image)."""
        more = {"curves": self.curves, "limit": self.limit, "horizon": self.horizon,
                "generator": Generator().manual_seed(self.recipe.seed)}
        if self.model == "image" and self.variant in RELATIVES:
            return ImageBlockNet(self.variant, self.depth, widths=self.widths, classes=classes, channels=shape[0],
                                 image=shape[1:], kernel=self.kernel, horizon=self.horizon,
                                 generator=more["generator"])
        if self.model == "image":
            return ImageResNet(self.variant, self.depth, widths=self.widths, classes=classes, channels=shape[0],
                               image=shape[1:], kernel=self.kernel, **more)
        if self.variant in RELATIVES:
            return BlockNet(torch.Size(shape).numel(), classes, variant=self.variant, width=self.width,
                            depth=self.depth, horizon=self.horizon, generator=more["generator"])
        return DenseResNet(torch.Size(shape).numel(), classes, variant=self.variant, width=self.width,
                           depth=self.depth, isometric=self.isometric, **more)

    def run(self, folder: Path, data: ImageData, *, resume: bool = False, device: str | None = None,
            say: Callable[[str], object] = print, step: Callable[[], object] = lambda: None,
            epoch: Callable[[Metrics], object] = lambda metrics: None) -> Trainer:
        """Train; after every epoch append a line to ``folder``/log.jsonl and keep a checkpoint, the last two of them.

        Parameters
        ----------
        folder : Path
        data : ImageData
        resume : bool
            Go on from the last whole checkpoint, bit for bit (with as many processes, on the same device).
        device : str, optional
        say, step, epoch : callable
            Told what the user should know, called after every step, and with the metrics of every epoch, also those
            of epochs done before a break.

        Raises
        ------
        FileExistsError
            If the folder holds a run and ``resume`` is not given.
        ValueError
            If it holds a run with other settings: their names and values.
        ArithmeticError
            If the loss is not finite.
        OSError
            If a file cannot be written; the checkpoints before it are whole.
        """
        checkpoints, log = Checkpoints(folder), folder / "log.jsonl"
        trainer = Trainer(self.network(data.classes, data.shape), data, self.recipe, device)
        lines: list[Metrics] = []
        if not resume and checkpoints.found():
            raise FileExistsError(f"{folder} holds a run; go on with --resume, or take another folder")
        if resume and (state := checkpoints.newest(say)):
            _require_same(self.settings, state["settings"])
            trainer.load_state_dict(state["trainer"])
            lines = state["log"]
        if company.rank() == 0:
            write_atomically(log, lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in lines)))
        for line in lines:
            epoch(line)
        while trainer.done < self.recipe.epochs:
            lines.append(trainer.epoch(step))
            if company.rank() == 0:
                checkpoints.keep(trainer.done, {"settings": self.settings, "classes": data.classes,
                                                "shape": data.shape, "log": lines, "trainer": trainer.state_dict()})
                with log.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
            epoch(lines[-1])
        return trainer


def load_network(folder: str | Path, say: Callable[[str], object] = print) -> Network:
    """The network of the last whole checkpoint of a run, in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If the folder holds no whole checkpoint.
    """
    state = Checkpoints(Path(folder)).newest(say)
    if state is None:
        raise FileNotFoundError(f"{folder} holds no whole checkpoint of diffincl train.")
    settings = dict(state["settings"])
    recipe = {name: settings.pop(name) for name in asdict(Recipe()) if name in settings}
    job = Job(**{**settings, "widths": tuple(settings["widths"])}, recipe=Recipe(**recipe))
    net = job.network(state["classes"], tuple(state["shape"]))
    for epoch in job.recipe.refine:
        net = net.refine() if epoch < state["trainer"]["done"] else net
    net.load_state_dict(state["trainer"]["net"])
    return net.eval()


def _require_same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise where a run goes on with other settings than it began with."""
    other = [f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here" for name in {**theirs, **mine}
             if theirs.get(name) != mine.get(name)]
    if other:
        raise ValueError(f"the run to resume has another configuration: {'; '.join(other)}. Give the same, or take "
                         f"another folder.")

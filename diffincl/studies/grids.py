"""The studies: which networks each of them trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from .. import _check
from ..nn import RELATIVES, VARIANTS
from ..training import Job, Recipe

__all__ = ["CERTIFIED", "STUDIES", "Cell", "Grid", "Study"]

CERTIFIED = "certified"  # ResNet-S between an orthogonal lift and unit rows, trained at a low temperature
CONTROLS = (0.0, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Cell:
    """A network to train, and the ``parts`` to examine; ``family`` is what it is called in tables."""

    family: str
    job: Job
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its file."""
        job, recipe = self.job, self.job.recipe
        return "-".join([job.data, job.model, self.family, f"depth{job.depth}", f"control{recipe.control:g}",
                         f"epochs{recipe.epochs}", f"seed{recipe.seed}", *self.parts])


@dataclass(frozen=True)
class Grid:
    """What a user chooses.

    Parameters
    ----------
    data : "digits", "mnist1d", "cifar10" or "cifar100"
    model : "dense" or "image"
    families : sequence of str, optional
        Variants, relatives, "certified" (dense only); by default all that the model has, but for "cpl" on images: its
        norm from above in every step takes 40 times as long as the rest.
    depths : sequence of int
        Layers a stage in the study of depth.
    depth : int
        In the other studies.
    epochs : int
    seeds, seed : int
        How many, and the first: of the first weights, the order of samples and the augmentation.
    """

    data: str = "digits"
    model: str = "dense"
    families: Sequence[str] = ()
    depths: Sequence[int] = (4, 8, 16, 32, 64)
    depth: int = 10
    epochs: int = 100
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("depth", "epochs", "seeds"):
            _check.count(name, getattr(self, name))
        for k, depth in enumerate(self.depths):
            _check.count(f"depths[{k}]", depth)
        for family in self.families:
            if family == CERTIFIED and self.model != "dense":
                raise ValueError(f"family {CERTIFIED} comes with model 'dense' only; got model {self.model!r}.")
            _check.choice("families", family, self.known)

    @property
    def known(self) -> tuple[str, ...]:
        """Families that the model has."""
        return (*VARIANTS, *([CERTIFIED] if self.model == "dense" else []), *RELATIVES)

    @property
    def chosen(self) -> Sequence[str]:
        """The families, by default those that are quick enough."""
        return self.families or [f for f in self.known if (self.model, f) != ("image", "cpl")]

    def numbers(self) -> range:
        """The seeds."""
        return range(self.seed, self.seed + self.seeds)

    def settings(self) -> dict[str, object]:
        """All that a study's outcome depends on."""
        return asdict(self)

    def words(self) -> str:
        """The grid in a sentence."""
        return (f"{self.data}, {self.model} networks, {self.epochs} epochs; means over seeds {self.seed} to "
                f"{self.seed + self.seeds - 1} ± standard deviation.")

    def cell(self, parts: tuple[str, ...], family: str, depth: int, seed: int, control: float = 0.0) -> Cell:
        """One network."""
        recipe = Recipe(epochs=self.epochs, seed=seed, control=control)
        job = Job(data=self.data, model=self.model, variant=family if family != CERTIFIED else "s", depth=depth,
                  widths=(32, 64) if self.data == "mnist1d" else (16, 32) if self.data == "digits" else (16, 32, 64),
                  kernel=5 if self.data == "mnist1d" else 3, recipe=recipe)
        if family == CERTIFIED:
            job = replace(job, isometric=True, recipe=replace(recipe, temperature=0.1))
        return Cell(family, job, parts)


@dataclass(frozen=True)
class Study:
    """A question, and the networks that answer it."""

    question: str
    cells: Callable[[Grid], list[Cell]]


def _depth(grid: Grid) -> list[Cell]:
    return [grid.cell(("corrupted", "deeper"), family, depth, seed) for family in grid.chosen
            for depth in grid.depths for seed in grid.numbers()]


def _families(*parts: str) -> Callable[[Grid], list[Cell]]:
    return lambda grid: [grid.cell(parts, family, grid.depth, seed) for family in grid.chosen
                         for seed in grid.numbers()]


def _regularisation(grid: Grid) -> list[Cell]:
    families = [f for f in grid.families or VARIANTS if f in VARIANTS]
    return [grid.cell(("corrupted", "sensitivity"), family, grid.depth, seed, control) for family in families
            for control in CONTROLS for seed in grid.numbers()]


STUDIES = {
    "depth": Study("What do more layers do to accuracy, clean and corrupted, and do trained curves keep it when they "
                   "are stepped through more finely?", _depth),
    "corruption": Study("Which networks keep their accuracy under corruptions?", _families("corrupted")),
    "regularisation": Study("What does the penalty (λ/2)∫(‖A1‖² + ‖A2‖²)dt do to the sensitivity, certified and "
                            "observed?", _regularisation),
    "certificate": Study("How much accuracy is certified within a radius, and how much survives an attack?",
                         _families("sensitivity", "radius")),
}

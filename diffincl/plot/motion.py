"""Trajectories and clouds in motion."""

from __future__ import annotations

from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _check
from ..inclusion import Inclusion
from .plane import frame, kind_of, require_plane, window_of
from .portrait import arrows, draw_set
from .reading import Path, is_set, require_path, require_steps
from .sets import outline_of
from .style import COLOURS, axes, require_matplotlib, style

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

__all__ = ["animate"]

TRAILS = 50  # samples up to which each leaves a trail
FORMATS = (".gif", ".mp4")


def animate(sol: Path, *, flow: Inclusion | None = None, path: str | File | None = None, frames: int = 100,
            fps: int = 20, ax: Axes | None = None) -> FuncAnimation:
    """A trajectory or a cloud in the plane moving under the inclusion, with its set and its field as they move.

    Parameters
    ----------
    sol : Solution
        With states (2,), of any batch; up to 50 samples leave a trail. Between save times states are ``sol(t)``.
    flow : Inclusion, optional
        Whose set and field are shown; that of the solution by default.
    path : str or Path, optional
        A file to write: ``.gif`` (by pillow) or ``.mp4`` (by the program ffmpeg).
    frames, fps : int
        Number of pictures, evenly in time, and how many are shown a second.
    ax : Axes, optional
        A figure of its own by default, of which no window knows.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        In a notebook ``IPython.display.HTML(animation.to_jshtml())`` shows it.

    Raises
    ------
    ValueError
        If states have not 2 coordinates, or the file is neither ``.gif`` nor ``.mp4``.
    FileNotFoundError
        If the folder of ``path`` does not exist.
    RuntimeError
        If ``.mp4`` is asked for without ffmpeg.

    Examples
    --------
    >>> import tempfile, torch, diffincl as di
    >>> flow = di.Inclusion(lambda t, x: torch.ones_like(x), di.Ball())
    >>> sol = di.solve(flow, torch.tensor([[0.0, 0.5], [0.5, 0.0]]), torch.linspace(0, 2, 21))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animation = di.plot.animate(sol, path=folder + "/cloud.gif", frames=3)
    """
    require_matplotlib()
    require_path(sol)
    require_plane(sol)
    require_steps(sol)
    frames, fps = _check.count("frames", frames), _check.count("fps", fps)
    file = None if path is None else _file(path)
    flow = sol.flow if flow is None else flow
    if not isinstance(flow, Inclusion):
        raise TypeError(f"flow must be an Inclusion; got {type(flow).__name__}. Leave it out for that of sol.")
    times = torch.linspace(float(sol.t[0]), float(sol.t[-1]), frames, dtype=torch.float64)
    x = sol(times).detach().reshape(frames, -1, 2).double().cpu()
    from matplotlib.animation import FuncAnimation

    mine = ax is None
    with style(), axes(_canvas() if mine else ax) as ax:
        window = window_of(flow, [sol], times[:: max(1, frames // 12)].tolist(), sol.x, None, None)
        scene = _Scene(ax, flow, kind_of(flow, [sol]), window, times.tolist(), x)
        if mine:
            _settle(scene)
        animation = FuncAnimation(ax.figure, scene.draw, frames=frames, interval=1000 / fps, init_func=lambda: [])  # type: ignore[arg-type]
        if file is not None:
            _write(animation, file, fps)
    return animation


def _canvas() -> Axes:
    """Axes of a figure that pyplot does not know, so that none is left open and none appears twice in a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), dpi=100, layout="compressed")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _settle(scene: _Scene) -> None:
    """Lay the figure out once, for all pictures: otherwise it is done again for each, and the Axes may jump."""
    scene.draw(0)
    scene.ax.figure.canvas.draw()
    scene.ax.figure.set_layout_engine("none")  # type: ignore[union-attr]


def _file(path: str | File) -> File:
    """The file to write, checked before any picture is made."""
    file = File(path)
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"path must end in {' or '.join(FORMATS)}; got {str(path)!r}.")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(file.parent)!r} of path does not exist; make it first.")
    if file.suffix.lower() == ".mp4":
        from matplotlib.animation import FFMpegWriter

        if not FFMpegWriter.isAvailable():
            raise RuntimeError(f"writing {file.name!r} needs the program ffmpeg, which was not found; install it, or "
                               f"name a file that ends in .gif, which needs none.")
    return file


def _write(animation: FuncAnimation, file: File, fps: int) -> None:
    from matplotlib.animation import FFMpegWriter, PillowWriter

    writer = PillowWriter(fps=fps) if file.suffix.lower() == ".gif" else FFMpegWriter(fps=fps)
    animation.save(str(file), writer=writer)


class _Scene:
    """One picture for each frame: what stands still is drawn once."""

    def __init__(self, ax: Axes, flow: Inclusion, like: Tensor, window: Any, times: list[float], x: Tensor):
        from matplotlib.collections import LineCollection

        self.ax, self.flow, self.like, self.window, self.times, self.x = ax, flow, like, window, times, x
        self.still: Any = None
        frame(ax, window)
        self.trails = LineCollection([], color=COLOURS[0], lw=1.2, alpha=0.7, zorder=3)
        ax.add_collection(self.trails)
        (self.points,) = ax.plot([], [], ls="none", marker="o", color=COLOURS[0], mec="white", mew=0.5,
                                 ms=7 if x.shape[1] <= TRAILS else 3.5, zorder=4)
        self.backdrop: list[Any] = []

    def draw(self, k: int) -> list[Any]:
        """The picture of time k."""
        t = self.times[k]
        self._scenery(t)
        self.points.set_data(*self.x[k].T)
        if self.x.shape[1] <= TRAILS:
            self.trails.set_segments(list(self.x[: k + 1].transpose(0, 1).numpy()))
        self.ax.set_title(f"$t = {t:.2f}$")
        return [self.points, self.trails]

    def _scenery(self, t: float) -> None:
        """The set and the field at t."""
        for artist in self.backdrop:
            artist.remove()
        before = set(self.ax.get_children())
        if is_set(self.flow.g):
            if self.still is None or self.flow.g.moving:
                self.still = outline_of(self.flow.g, self.window, t, self.like)
            draw_set(self.ax, self.still, self.window, name="")
        arrows(self.ax, self.flow, self.window, t, self.like)
        self.backdrop = [artist for artist in self.ax.get_children() if artist not in before]

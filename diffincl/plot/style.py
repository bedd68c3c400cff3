"""One style for all figures: colours, dashes, markers, and the Axes that a figure is drawn on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "DASHES", "MARKERS", "STYLE", "axes", "beside", "look", "require_matplotlib", "style"]

# Okabe and Ito's palette, told apart with any colour vision, a grey and a brown; dashes and markers tell the same apart
# in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C", "#7A4A1E")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)),
                           (0, (2, 2)))
MARKERS = "osD^vP*Xh"
LOWER, UPPER = "#003A5D", "#E69F00"  # dark and light, so that the two bounds differ in grey, too
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 9.5, "axes.labelsize": 9.0,
    "legend.fontsize": 8.5, "legend.frameon": False, "legend.handlelength": 2.6, "lines.linewidth": 1.6,
    "lines.markersize": 5.0, "axes.spines.top": False, "axes.spines.right": False,
    "hatch.linewidth": 0.5, "axes.unicode_minus": True, "image.interpolation": "nearest"}


def require_matplotlib() -> Any:
    """The package, or a sentence that says what to install."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib, which is not installed: pip install matplotlib") from error
    return matplotlib


def style() -> AbstractContextManager[None]:
    """The style of these figures, for figures of your own; it ends with the ``with`` block.

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib
    >>> with style():
    ...     inside = matplotlib.rcParams["legend.frameon"]
    >>> inside, matplotlib.rcParams["legend.frameon"]
    (False, True)
    """
    return _settings(require_matplotlib().rcParams)


@contextmanager
def _settings(rc: Any) -> Iterator[None]:
    """Only the settings of the style are put back: those that a backend makes when it is loaded within (in a notebook,
    that figures appear) stay, which matplotlib's ``rc_context`` would undo."""
    before = {name: rc[name] for name in STYLE}
    rc.update(STYLE)
    try:
        yield
    finally:
        rc.update(before)


@contextmanager
def axes(ax: Axes | None, size: tuple[float, float] = (6.4, 3.4), layout: str = "constrained") -> Iterator[Axes]:
    """The Axes to draw on, in the style: those given, or those of a new figure, closed again if drawing fails."""
    with style():
        if ax is not None:
            yield _checked(ax)
            return
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=size, layout=layout)
        try:
            yield figure.add_subplot()
        except BaseException:
            pyplot.close(figure)
            raise


def _checked(ax: Any) -> Axes:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes; got {type(ax).__name__}. Write figure, ax = plt.subplots(), or "
                        f"leave it out for a new figure.")
    return ax


def look(ax: Axes, *, xlabel: str = "", ylabel: str = "", grid: bool = True) -> None:
    """Labels, a light grid below the data, no frame above and on the right."""
    if xlabel:
        ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, which="major", alpha=0.25, lw=0.6)


def beside(ax: Axes, shown: bool, *, handles: Sequence[Any] | None = None, title: str | None = None) -> None:
    """A legend right of the Axes, where it covers no data."""
    if shown:
        more = {} if handles is None else {"handles": handles}
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, title=title, title_fontsize=8.5,
                  alignment="left", **more)

"""Figures of solutions, bounds and networks, drawn with matplotlib, which is imported inside functions only.

Every function draws on the Axes ``ax`` or on those of a new figure, returns them, and shows nothing: in a notebook the
figure appears, in a script call ``ax.figure.savefig(...)``. Colours are told apart with any colour vision, dashes and
markers without colour; settings of matplotlib stay as they are.
"""

from .ladders import bound, ladder, ratios
from .measures import convergence, depth, layers, spread
from .motion import animate
from .paths import trajectory
from .portrait import phase
from .rasters import contacts, multiplier
from .style import COLOURS, DASHES, MARKERS, style

__all__ = ["COLOURS", "DASHES", "MARKERS", "animate", "bound", "contacts", "convergence", "depth", "ladder", "layers",
           "multiplier", "phase", "ratios", "spread", "style", "trajectory"]

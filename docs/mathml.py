"""Formulas of the notebooks as MathML, which browsers draw themselves: no script, no font, nothing from the network."""

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["as_mathml", "setup"]

logger = logging.getLogger(__name__)


def as_mathml(tex: str, block: bool) -> str:
    r"""A formula of TeX as MathML.

    Raises
    ------
    MathError
        If it holds something that is not known.

    Examples
    --------
    >>> as_mathml(r"\sigma", block=False)
    '<math xmlns="http://www.w3.org/1998/Math/MathML">\n  <mi>σ</mi>\n</math>'
    """
    return latex2mathml.tex2mathml(tex, as_block=block)


def _inline(translator, node: nodes.math) -> None:
    _append(translator, node, block=False)


def _block(translator, node: nodes.math_block) -> None:
    translator.body.append('<div class="math">')
    _append(translator, node, block=True)
    translator.body.append("</div>\n")


def _append(translator, node: nodes.Element, block: bool) -> None:
    tex = node.astext()
    try:
        translator.body.append(as_mathml(tex, block))
    except (MathError, AttributeError) as error:  # the second for a stray \\ outside a table
        logger.warning("formula %r is not understood (%s); write it with other commands", tex, error, location=node)
        translator.body.append(f"<code>{translator.encode(tex)}</code>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

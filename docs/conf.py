"""Settings of the documentation: make docs."""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import diffincl  # noqa: E402  (the package of this checkout)
from diffincl import data, training  # noqa: E402

project = "diffincl"
version = release = diffincl.__version__
author = copyright = "the authors of diffincl, MIT licence"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb", "sphinx_copybutton",
              "mathml"]
exclude_patterns = ["_build"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# Pages: Markdown; notebooks with the outputs that they are stored with.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
smartquotes = False
nb_execution_mode = "off"
nb_render_markdown_format = "myst"

# Reference: docstrings in numpy's layout, types as they are written.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
PUBLIC = {name for module in (diffincl, diffincl.activations, diffincl.bounds, diffincl.nn, diffincl.norms,
                              diffincl.rates, data, training) for name in module.__all__}
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
add_module_names = False

html_theme = "furo"
html_title = f"diffincl {version}"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def take_notebooks() -> None:
    """Sphinx reads below this folder only, so the notebooks are copied here, with their links to these pages mended;
    what is no longer there is removed."""
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    sources = {path.name: path for path in (HERE.parent / "notebooks").glob("*.ipynb")}
    for old in target.glob("*.ipynb"):
        if old.name not in sources:
            old.unlink()
    for name, path in sources.items():
        copy, text = target / name, path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


take_notebooks()

# What means something to reStructuredText but is mathematics in a docstring: |v'|, A2_ik, x_, x*.
LITERAL = re.compile(r"(``.+?``|:\w+:`[^`]+`|`[^`]+`_+)", re.DOTALL)


def escape_mathematics(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Escape bars, stars and trailing underscores outside literals, examples and directives."""
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example or line.lstrip().startswith(".."):
            continue
        parts = LITERAL.split(line)
        lines[i] = "".join(part if k % 2 else re.sub(r"(?<!\\)([|*]|_(?!\w))", r"\\\1", part)
                           for k, part in enumerate(parts))


# A letter or sign with an index or exponent, as in x_k, E_{k+1}, prox_h, e^{−t}.
INDEX = re.compile(r"((?:prox|max|min|[∏Σ∫‖)]|(?<![A-Za-z])[A-Za-zΑ-Ωα-ωφℓ∂][0-9₀-₉]?))([_^])"
                   r"(\{[^{}]+\}|[A-Za-zα-ω∞0-9]+)")


def set_indices(app: Sphinx, doctree: nodes.document) -> None:
    """Show x_k with an index in the pages, where formulas are plain text; docstrings stay as they are written."""
    if app.env.docname.startswith(("api/", "notebooks/")):
        return
    code = nodes.literal | nodes.literal_block
    for text in [t for t in doctree.findall(nodes.Text) if not isinstance(t.parent, code)]:
        pieces = INDEX.split(text.astext())
        if len(pieces) > 1:
            parts: list[nodes.Node] = []
            for before, base, sign, index in zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=False):
                kind = nodes.subscript if sign == "_" else nodes.superscript
                parts += [nodes.Text(before + base), kind("", index.strip("{}"))]
            text.parent.replace(text, [*parts, nodes.Text(pieces[-1])])


def strip_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Without the blank line by which doctest knows where an output ends."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip()
        block[:] = [nodes.Text(block.astext().rstrip())]


def words_to_text(app: Sphinx, doctree: nodes.document) -> None:
    """Docstrings say types in words, "optional" or "Tensor (T,)": only names of the package become links."""
    for node in list(doctree.findall(pending_xref)):
        target = node.get("reftarget", "")
        if node.get("refdomain") == "py" and not target.startswith("diffincl") and target not in PUBLIC:
            node.replace_self(nodes.inline("", "", *node.children))


def find_by_last_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Names are documented where users import them from, and referred to by their last part."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    found = [name for name in domain.objects if name.rpartition(".")[2] == node["reftarget"].rpartition(".")[2]]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, content) if found else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
    for change in (words_to_text, set_indices, strip_blocks):
        app.connect("doctree-read", change)
    app.connect("missing-reference", find_by_last_name)

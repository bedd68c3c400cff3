"""The documents: links resolve, generated pages are up to date, every public name has its place, every block runs."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import diffincl as di

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md",
                *DOCS.glob("*.md"), *(DOCS / "api").glob("*.md")])
EVERY = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text):
    """Without code blocks and code spans, in which brackets are no links and hashes no headings."""
    return re.sub(r"`[^`\n]*`", "code", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page):
    """The anchors of a page as GitHub and myst make them from its headings."""
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"^```\{include\} (\S+)", text, re.MULTILINE)
    included = [anchors((page.parent / name).resolve()) for name in names]
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs.union(*included)


def broken(page, text):
    """Links of a text, as if it stood on the page, that lead nowhere."""
    found = []
    for link in LINK.findall(without_code(text)):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            found.append(f"{link}: there is no {target}")
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            found.append(f"{link}: {target.name} has no heading #{anchor}")
    return found


@EVERY
def test_links_of_a_page_lead_somewhere(page):
    assert not broken(page, page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("text", "fault"), [
    ("[a](no_such_page.md)", "there is no"), ("[a](faq.md#no-such-heading)", "has no heading"),
    ("[a](#no-such-heading)", "has no heading"), ("![a](pictures/none.png)", "there is no")])
def test_a_broken_link_is_noticed(text, fault):
    assert fault in broken(DOCS / "index.md", text)[0]
    assert not broken(DOCS / "index.md", f"```\n{text}\n```\n and `{text}`")


@pytest.mark.parametrize("name", ["statements.md", "commands.md"])
def test_a_page_made_from_the_code_is_up_to_date(name):
    page = runpy.run_path(str(DOCS / "make.py"))["PAGES"][name]
    assert page() == (DOCS / name).read_text(encoding="utf-8"), "run: python docs/make.py"


def test_every_statement_has_its_proof_in_the_theory():
    theory = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("theory_*.md"))
    missing = [label for label in di.statements if not re.search(rf"^## {label}: ", theory, re.MULTILINE)]
    assert not missing
    assert all(f"| R{k} |" in theory for k in range(1, 9))


def test_every_public_name_is_in_the_reference():
    reference = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"auto\w+:: diffincl\.([\w.]+)", reference))
    wanted = {name for name in di.__all__ if name not in ("compare", "statements")}  # in bounds; see statements.md
    assert wanted <= documented, f"not in docs/api: {sorted(wanted - documented)}"


def blocks_with_prompts(text):
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith(">>>")]


@EVERY
def test_code_is_run_by_the_suite(page):
    """A block of Python has prompts, so that doctest runs it, and ends with an empty line, where its output ends; the
    page is among those that pytest collects."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert block.startswith(">>> "), block
    for block in blocks_with_prompts(text):
        assert block.endswith("\n\n"), block
    if blocks_with_prompts(text):
        assert page == ROOT / "README.md" or page.parent == DOCS


def test_the_suite_collects_the_pages():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"README.md", "docs/*.md",' in settings
    assert "--doctest-glob=*.md" in settings


def test_the_readme_opens_with_the_two_commands():
    """The house rule: one sentence, then the two commands; and they exist."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert first is not None
    assert text[:first.start()].count("\n\n") <= 2
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make check", "make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in ("check", "test", "docs"))


def test_every_picture_of_the_documentation_is_drawn_by_its_script(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.setattr(sys, "argv", ["figures.py"])
    drawn = set(runpy.run_path(str(DOCS / "figures.py"))["PICTURES"])
    assert drawn == {path.stem for path in (DOCS / "pictures").iterdir()}
    shown = set(re.findall(r"pictures/(\w+)\.png", "".join(p.read_text(encoding="utf-8") for p in PAGES)))
    assert shown == drawn

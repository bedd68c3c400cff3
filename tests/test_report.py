"""The pages of reports as text: what they say, that it is well formed, that nothing in it is taken as markup."""

import dataclasses
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from diffincl.experiment import FLOW, LAYERS, Along, Settings
from diffincl.report import markup, page_of_study
from diffincl.report.page import _top
from diffincl.report.seen import extremes_of, seen_in, seen_in_table
from diffincl.studies import Grid
from diffincl.studies.tables import Mean, Table

VOID = {"meta", "link", "img", "br"}
TABLE = Table("Accuracy (%), clean", ("4", "8"), {"s": (Mean(0.9, 0.01, 2), None), "d": (Mean(0.5, None, 1), None),
                                                  "cpl": (Mean(0.7, 0.2, 2), Mean(0.8, 0.1, 2))}, axis="layers")


class Balanced(HTMLParser):
    """Fails where an element is not closed by its own tag; keeps the text between the tags and the images."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.images, self.links, self.tags = [], "", [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "img":
            self.images.append(dict(attrs))
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page):
    """The page, read to its end."""
    reader = Balanced()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def study(tmp_path, tables, failed=(), command="diffincl experiment corruption --out out", grid=None):
    """A page of a study, with an image of one byte."""
    (tmp_path / "x.png").write_bytes(b"x")
    return page_of_study("corruption", grid or Grid(seeds=2), tables, 6, list(failed), tmp_path / "x.png", command)


def test_a_page_is_well_formed_and_shows_markup_as_text(tmp_path):
    nasty = "<b>\"&'</b><script>alert(1)</script>"
    table = Table(nasty, (nasty,), {nasty: (Mean(0.5, None, 1),)}, axis=nasty)
    page = study(tmp_path, [table], failed=[nasty], command=f"diffincl {nasty}")
    found = parsed(page)
    assert page.count("<script>") == 1
    assert found.text.count(nasty) >= 6
    assert nasty in found.images[0]["alt"]
    cells = parsed(markup.table(nasty, (nasty, "b"), [(nasty, markup.Cell(nasty, nasty, nasty, "text"))], ()))
    assert cells.text.count(nasty) == 5
    assert "script" not in cells.tags
    assert "url(" not in page
    assert {link.split(":")[0] if link[0] != "#" else "#" for link in found.links} == {"data", "#"}


def test_what_a_study_shows_is_said_in_words():
    assert seen_in_table(TABLE) == ("Accuracy (%), clean. Lowest to highest by layers: 4: 50.0 (d) to 90.0 (s) %; "
                                    "8: 80.0 (cpl) %.")
    assert extremes_of(TABLE) == "Accuracy (%), clean: highest 90.0 (s, 4), lowest 50.0 (d, 4)."
    nothing = Table("A", ("4",), {"s": (None,)})
    assert seen_in_table(nothing) == "A. Lowest to highest by column: nothing known."
    assert extremes_of(nothing) == "A: nothing known."
    infinite = Table("F", ("x",), {"s": (Mean(float("inf"), None, 1),), "d": (Mean(float("nan"), None, 1),)}, False)
    assert extremes_of(infinite) == "F: highest inf (s, x), lowest inf (s, x)."


def test_the_page_of_a_study_says_whether_all_went_well(tmp_path):
    well, badly = parsed(study(tmp_path, [TABLE])), parsed(study(tmp_path, [TABLE], failed=["a: lower lr"]))
    assert "All 6 networks were trained and examined." in well.text
    assert "failed" not in well.text
    assert "1 of 6 networks failed to train; the tables show the others." in badly.text
    assert "a: lower lr" in badly.text
    assert "± standard deviation" in well.text
    assert "One seed." in parsed(study(tmp_path, [TABLE], grid=Grid(seeds=1))).text


def outcome_of(**verdicts):
    """An outcome with these (holds, control_violated) by label."""
    results = {label: SimpleNamespace(holds=holds, control_violated=violated, worst_ratio=0.5 + k / 10)
               for k, (label, (holds, violated)) in enumerate(verdicts.items())}
    return SimpleNamespace(results=results, settings=Settings(labels=tuple(results)), accuracies={"ResNet": {}},
                           passed=all(a and b for a, b in verdicts.values()))


@pytest.mark.parametrize(("verdicts", "kind", "words"), [
    ({"D3": (True, True)}, "ok", "D3 holds. Outside its hypothesis the search finds a violation, as it must."),
    ({"D1": (True, True), "D3": (True, True)}, "ok",
     "All 2 statements hold. Outside its hypothesis the search finds a violation of each, as it must."),
    ({"D1": (False, True), "D3": (True, True)}, "bad", "1 of 2 statements violated: D1. Outside its hypothesis"),
    ({"D1": (True, True), "D3": (True, False)}, "bad",
     "All 2 statements hold. Outside the hypothesis of D3 no violation was found, where there must be one."),
])
def test_the_verdict_of_a_check_in_words(verdicts, kind, words):
    top = _top(outcome_of(**verdicts), "diffincl check D1 --seed 0")
    assert f'<p class="verdict {kind}">{words}' in top
    assert f"{list(verdicts)[-1]}, observed/bound" in top
    assert "<code><span>diffincl</span> <span>check</span>" in top


def test_what_the_curves_of_a_check_show_is_said_in_words():
    flow = Along("ResNet", FLOW, (0.0, 2.0), ((1.0, 1.0, 1.0), (0.25, 0.5, 3.0)), {"global": (1.0, 40.0)},
                 {"global": (1.0, 0.075)})
    layers = dataclasses.replace(flow, kind=LAYERS, ratios={"global": (1.0, 1.5)})
    figures = [SimpleNamespace(file=name) for name in ("flow.png", "bounds.png", "ratios.png")]
    seen = seen_in(SimpleNamespace(along=[flow, layers]), figures)
    assert seen["flow.png"] == ("ResNet: at time 2 the distances of pairs lie between 0.25 and 3 times those at the "
                                "start, half of them below 0.5; bounds: global 40.")
    assert seen["bounds.png"].startswith("ResNet: after 1 layers")
    assert "is, by rate, global 0.075; no curve is above 1." in seen["ratios.png"]
    assert "the highest value is 1.5, above 1." in seen["ratios.png"]


def test_what_the_features_of_a_check_do_is_said_in_words():
    from matplotlib.figure import Figure

    canvas = Figure()
    ax = canvas.subplots()
    ax.plot([0, 1, 2, 3], [1.0, 0.0, 0.0, 0.5], label="feature 3")
    ax.axhline(0)
    ax.set_title("ResNet-S")
    seen = seen_in(SimpleNamespace(along=[]), [SimpleNamespace(file="trajectories.png", canvas=canvas)])
    assert seen == {"trajectories.png": "ResNet-S: feature 3 from 1 to 0.5, at 0 for 50% of the time."}

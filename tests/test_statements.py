"""The theorem checker: it must pass what holds, and above all be able to fail."""

import dataclasses
import json
import math
import re

import pytest
import torch

import diffincl as di
from diffincl.statements import (
    STATEMENTS,
    Case,
    Sides,
    attack_points,
    blocks_of,
    check_block,
    converged,
    examine,
    examine_control,
    network,
    pair,
    read_witness,
    replay,
)


def case_of(label, kind=0, networks=4, seed=0):
    return STATEMENTS[label].draw(torch.Generator().manual_seed(seed), kind, networks)


def with_claim(label, change):
    """The statement with its bounds changed, form by form."""
    statement = STATEMENTS[label]

    def claim(case):
        exact = statement.claim(case)
        return lambda x0, y0, run: {form: side._replace(bound=change(form) * side.bound)
                                    for form, side in exact(x0, y0, run).items()}

    return dataclasses.replace(statement, claim=claim)


@pytest.mark.parametrize("label", STATEMENTS)
def test_holds_and_its_control_is_violated(label):
    statement = STATEMENTS[label]
    found = examine(statement, case_of(label), ascent=8)
    assert found.violations == 0
    assert 0.4 < found.worst_ratio < 1 + 1e-6  # the search comes near the bound, so it would see a smaller one broken
    control = statement.control(torch.Generator().manual_seed(1), 8)
    assert examine_control(statement, control, ascent=8).violations > 0


@pytest.mark.parametrize("label", STATEMENTS)
def test_a_bound_one_tenth_too_small_is_caught(label):
    assert examine(with_claim(label, lambda form: 0.9), case_of(label, networks=16), ascent=15).violations > 0


@pytest.mark.parametrize(("label", "word", "kind"), [
    ("C3", "scaled", 0), ("D1", "scaled", 0), ("D1", "centred", 0), ("C2", "scaled", 0), ("C6", "growth", 1),
    ("C7", "gap", 1), ("C7", "speed, from rest", 0), ("D6", "gap", 2),
    ("D8", "growth", 0), ("C9", "order ½", 4), ("C14", "b2", 0)])
def test_one_form_alone_made_too_small_is_caught(label, word, kind):
    """Each form is attacked, though others are attained everywhere."""
    wrong = with_claim(label, lambda form: 0.8 if word in form else 1.0)
    assert examine(wrong, case_of(label, kind, networks=16), ascent=20).violations > 0


def test_the_false_growth_formula_is_refuted_by_the_instances_that_are_drawn():
    """As below, with the draws and the attack of C6 as they are."""
    statement = STATEMENTS["C6"]

    def false_claim(case):
        pulled, pushed = (case.weights[b].relu().norm(dim=-1) for b in ("b1", "b2"))
        h = case.t.diff().unsqueeze(-1)
        inner, outer = ((h * sizes).cumsum(0).unsqueeze(-1) for sizes in (pulled**2, pushed))

        def look(x0, y0, run):
            x, y, error = pair(run, case.flow, x0, y0, case.t)
            apart, bound = (x - y).norm(dim=-1), torch.sqrt((x0.norm(dim=-1) + outer) ** 2 + inner / 2)
            return {"nonexpansive": Sides(apart[1:], apart[:1].expand_as(apart[1:]), error[1:]),
                    "growth": Sides(x[1:].norm(dim=-1), bound, error[1:])}

        return look

    found = examine(dataclasses.replace(statement, claim=false_claim), case_of("C6", 1, networks=8), ascent=8)
    assert found.violations > 0
    assert found.witness.form == "growth"
    assert found.worst_ratio > 1.1


@pytest.mark.parametrize(("label", "kind"), [("C3", 0), ("C4", 0), ("C9", 0), ("L3", 0)])
def test_the_bounds_of_a_search_are_those_of_the_claim(label, kind):
    """Weights that an ascent moves are bounded without certificates, and the "scaled" rate without optimising."""
    statement, case = STATEMENTS[label], case_of(label, kind)
    moved = case.with_weights({name: w.clone().requires_grad_() for name, w in case.weights.items()})
    plain, searched = (statement.claim(c)(case.x0, case.y0, converged) for c in (case, moved))
    assert set(plain) == set(searched)
    for form, side in searched.items():
        bound, certified = side.bound.detach(), plain[form].bound
        assert bool((bound >= certified * (1 - 1e-9)).all())
        if "scaled" not in form:
            torch.testing.assert_close(bound, certified, rtol=1e-9, atol=1e-12)


def test_same_seed_same_result_and_another_seed_another():
    a, b, c = (di.check("D3", trials=40, seed=s, ascent=3) for s in (3, 3, 4))
    assert a.worst_ratio == b.worst_ratio
    assert a.witness.case == b.witness.case
    assert a.witness.case != c.witness.case


def test_trials_are_at_least_those_asked_for():
    r = di.check("D3", trials=200, seed=0, ascent=1)
    assert r.trials >= 200
    assert r.trials == sum(f.instances for f in r.findings)


@pytest.mark.parametrize("label", STATEMENTS)
def test_the_control_is_outside_the_hypothesis_and_the_draws_inside(label):
    statement = STATEMENTS[label]
    generator = torch.Generator().manual_seed(0)
    assert statement.outside(statement.control(generator, 4))
    for kind in range(statement.draw.kinds):
        assert statement.outside(statement.draw(generator, kind, 2)) == ""


def test_a_control_inside_its_hypothesis_is_refused():
    statement = STATEMENTS["D3"]
    inside = case_of("D3")
    with pytest.raises(AssertionError, match="control of D3"):
        examine_control(statement, inside, ascent=1)


def test_a_case_outside_the_hypothesis_is_refused_with_the_reason():
    statement = STATEMENTS["D3"]
    case = statement.control(torch.Generator().manual_seed(0), 8)
    with pytest.raises(ValueError, match=r"outside the hypothesis of D3: h‖A‖² = .* > 2 in layer 0"):
        examine(statement, case)


def test_a_witness_run_by_hand_shows_its_ratio():
    """The worst instance of D1 on the orthant, run with plain torch from its stored weights."""
    statement = STATEMENTS["D1"]

    def paper(case):
        exact = statement.claim(case)
        return lambda x0, y0, run: {form: s for form, s in exact(x0, y0, run).items() if "global" in form}

    w = examine(dataclasses.replace(statement, claim=paper), case_of("D1"), ascent=5).witness
    case = w.instance
    x, y = case.x0.flatten(), case.y0.flatten()
    size, distance = x.norm(), (x - y).norm()
    layers = list(zip(*(case.weights[k].squeeze(1) for k in ("A1", "b1", "A2", "b2")), strict=True))
    for A1, b1, A2, b2 in layers[:round(w.time)]:
        factor = 1 + torch.linalg.matrix_norm(A1, 2) * torch.linalg.matrix_norm(A2, 2)
        size, distance = factor * size + (A2 @ torch.relu(b1) - b2).norm(), factor * distance
        x, y = (torch.relu(z - A2 @ torch.relu(A1 @ z + b1) + b2) for z in (x, y))
    ratio = {"growth": x.norm() / size, "sensitivity": (x - y).norm() / distance}[w.form.split(",")[0]]
    assert float(ratio) == pytest.approx(w.ratio, rel=1e-9)


def test_the_attack_finds_the_expanding_direction():
    """x' = x in one of many directions: random pairs miss it, ascent does not."""
    d, t = 6, torch.tensor([0.0, 1.0], dtype=torch.float64)
    A1 = torch.zeros(d, d, dtype=torch.float64)
    A1[0, 0] = 1.0
    field = di.ResNetField(A1, torch.zeros(d).double(), -A1, torch.zeros(d).double())
    x0 = 1.0 + torch.rand(4, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y0 = x0.roll(1, 0)
    case = Case("one direction", di.Inclusion(field, di.Orthant()), t, x0, y0)

    def expansion(x0, y0, run):
        x, y, error = pair(network, case.flow, x0, y0, case.t)
        distance = (x - y).norm(dim=-1)
        return {"expansion": Sides(distance[1:], distance[:1], error[1:])}

    def worst(case):
        observed, bound, _ = expansion(case.x0, case.y0, None)["expansion"]
        return float((observed / bound).max())

    before, after = worst(case), worst(attack_points(case, expansion, 200))
    assert before < 1.8
    assert 1.95 < after <= 2 + 1e-12


def test_where_a_factor_is_infinite_an_implicit_step_may_have_no_root():
    """u = P(x + h(5u + 1)), h = ½, has no root: the other schemes are looked at, and of this one nothing is claimed."""
    one = torch.ones(1, dtype=torch.float64)
    field = di.ResNetField(one[None], 0 * one, -5 * one[None], one)
    x0 = torch.rand(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    case = Case("no root", di.Inclusion(field, di.Orthant()), torch.tensor([0.0, 0.5, 1.0]).double(), x0, x0.flip(0))
    with pytest.raises(di.SolveError, match="did not converge"):
        di.solve(case.flow, x0, case.t, scheme=di.ImplicitEuler())
    finding = examine(STATEMENTS["D4"], case, ascent=3)
    assert finding.violations == 0
    assert finding.worst_ratio > 0.999  # forward Euler: 1 + 5h, attained


def test_the_false_growth_formula_is_refuted():
    """√((‖x0‖ + ∫‖(b2)₊‖)² + ½∫‖(b1)₊‖²) looks like C6's growth bound; the attack must break it."""
    statement = STATEMENTS["C6"]
    one = torch.ones(1, dtype=torch.float64)
    # The gradient pull ½(b1)² first, then the push b2: the order that the false formula forgets.
    b1 = torch.stack([6 * one, -100 * one]).unsqueeze(1)
    b2 = torch.stack([0 * one, 4 * one]).unsqueeze(1)
    A = torch.full((2, 1, 1, 1), -1.0, dtype=torch.float64)
    curves = (di.PiecewiseConstant(w, 0.0, 1.0) for w in (A, b1, b2))
    x0 = torch.rand(1, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    case = Case("d = 1", di.Inclusion(di.ResNetSField(*curves), di.Orthant()),
                torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), x0, x0 + 1)

    def false_claim(case):
        def claim(x0, y0, run):
            x, error = run(case.flow, x0, case.t)
            pushed = torch.tensor([0.0, 2.0], dtype=torch.float64).reshape(2, 1, 1)  # ∫(b2)₊
            pulled = torch.tensor([18.0, 18.0], dtype=torch.float64).reshape(2, 1, 1)  # ∫(b1)₊²
            bound = torch.sqrt((x[0, ..., 0].abs() + pushed) ** 2 + pulled / 2)
            return {"growth": Sides(x[1:, ..., 0].abs(), bound, error[1:])}
        return claim

    assert examine(dataclasses.replace(statement, claim=false_claim, keep=None), case, ascent=100).violations > 0
    assert examine(statement, case, ascent=100).violations == 0


def concave_along():
    """F along x falls twice between two save times, so that the trapezoidal rule misses 4e-4 of ∫F and step doubling,
    where both kinks cancel, does not see it."""
    def number(*values):
        return torch.tensor([values], dtype=torch.float64)

    field = di.ResNetField(-number(1.0, 1.0).mT.reshape(1, 2, 1), number(2 - 1 / 32, 2 - 3 / 32),
                           number(-0.1, 0.1 / 3).unsqueeze(-2), number(-1.0))
    t = torch.tensor([0.0, 0.125, 0.25], dtype=torch.float64)
    return Case("two kinks", di.Inclusion(field, di.Orthant()), t, number([2.0]), number([1.0]))


def test_kinks_between_save_times_are_no_violation():
    case = concave_along()
    found = examine(STATEMENTS["C1"], case, ascent=0)
    assert found.violations == 0
    assert 0.9999 < found.worst_ratio < 1 + 1e-9
    for form in ("‖x'‖", "variational"):
        wrong = with_claim("C1", lambda f, form=form: 0.9998 if f == form else 1.0)
        assert examine(wrong, case, ascent=0).violations == 1


@pytest.mark.parametrize("form", ["‖x'‖", "multiplier", "variational"])
def test_each_form_of_C1_made_smaller_by_one_percent_is_caught(form):
    wrong = with_claim("C1", lambda f: 0.99 if f == form else 1.0)
    assert examine(wrong, case_of("C1", networks=16), ascent=15).violations > 0


@pytest.mark.parametrize(("arguments", "message"), [
    (("Z9",), "label must be one of"),
    (("D3", 0), "trials must be at least 1; got 0"),
    (("D3", 2.5), "trials must be a whole number"),
])
def test_bad_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        di.check(*arguments)


def test_the_first_order_penalty_bound_with_the_largest_norm_of_F_is_refuted():
    """λB_p with B_p = max‖F(t)‖_p is false for p < ∞: three coordinates are pressed and released one after the other,
    each keeps a gap of λ ln 2 while the next is pressed by λ: 1.4 λ in ℓ2. The bound by coordinates holds."""
    statement = STATEMENTS["C9"]
    lam, d = 0.01, 3
    b2 = torch.zeros(2 * d, 1, d, dtype=torch.float64)
    for i in range(d):  # F_i = 1 presses coordinate i, F_i = −1 lets it go, ln 2 λ until it is back at 0
        b2[2 * i, 0, i], b2[2 * i + 1, 0, i] = -1.0, 1.0
    zero = torch.zeros(2 * d, 1, d, d, dtype=torch.float64)
    curves = (di.PiecewiseConstant(w, 0.0, 6.0) for w in (zero, 0 * b2, zero, b2))
    t = torch.linspace(0, 6, 6 * d + 1, dtype=torch.float64)
    x0 = torch.zeros(1, 1, d, dtype=torch.float64)
    case = Case("one after the other", di.Inclusion(di.ResNetField(*curves), di.Orthant()), t, x0, x0,
                given={"lam": torch.tensor([lam], dtype=torch.float64)})
    sides = statement.claim(case)(x0, x0, converged)
    gap = float(sides["order 1, ℓ2"].observed.max())
    assert gap == pytest.approx((1 + 2 * math.log(2) ** 2) ** 0.5 * lam, rel=1e-6)
    assert gap > 1.2 * lam  # λ max‖F(t)‖₂, as ‖F(t)‖₂ = 1 throughout
    assert examine(dataclasses.replace(statement, keep=None), case, ascent=0).violations == 0


@pytest.mark.parametrize("label", ["C3", "C7", "C9", "C14", "D8", "L1"])
def test_a_witness_is_built_again_from_json(label, tmp_path):
    finding = examine(STATEMENTS[label], case_of(label, networks=2), ascent=2)
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(dataclasses.asdict(finding.witness)))
    again = replay(read_witness(path), STATEMENTS[label])
    assert again.reproduced
    assert again.ratio == pytest.approx(finding.worst_ratio, rel=1e-6)


def test_the_instances_do_not_depend_on_how_blocks_are_shared_out():
    blocks = blocks_of("D3", 3000, seed=5)
    assert [b.index for b in blocks] == list(range(len(blocks)))
    assert max(b.networks for b in blocks) <= 128
    assert sum(b.networks * 8 for b in blocks) >= 3000
    a, b = (check_block(blocks[2], ascent=2) for _ in range(2))
    assert a.witness.case == b.witness.case
    assert check_block(blocks[1], ascent=2).witness.case != a.witness.case


def test_layers_and_limits_have_nearly_sharp_constants():
    for label in ("L2", "L3"):
        assert examine(STATEMENTS[label], case_of(label, kind=1, networks=8), ascent=10).worst_ratio > 0.5


@pytest.mark.parametrize(("label", "message"), [
    ("C1", "not the indicator"), ("C2", "0 does not minimise g .* is 1 away"), ("C3", "g is not convex"),
    ("C5", "A₂ is not ≥ 0: its least entry is -"), ("C7", "weights change in time, by up to"),
    ("C8", "is .* J₀/λ > J₀/λ"), ("C9", "C moves"),
    ("C10", "r = 4 > 1, the reach|r = 2 > 0.5, the reach"), ("C13", "> 0 for an i ≠ j in layer 0"), ("C15", "> η ="),
    ("D6", "h‖A‖² = 1.99 > 1"), ("D7", "textbook form of Heun, the factor is that of ProxHeun"), ("D9", r"h\(2k"),
    ("D10", "= 1.5 > 1 in layer 0"), ("L3", "are not those of the N")])
def test_a_hypothesis_says_which_part_is_missed_and_by_how_much(label, message):
    reason = STATEMENTS[label].outside(STATEMENTS[label].control(torch.Generator().manual_seed(0), 4))
    assert re.search(message, reason), reason


@pytest.mark.parametrize("label", ["C1", "C4", "C9", "C10", "C15"])
def test_weights_that_move_are_refused_where_integrals_are_enclosed(label):
    case = case_of(label)
    values = {name: torch.cat([w, w[-1:]]) for name, w in case.weights.items()}
    field = di.ResNetField(**{name: di.PiecewiseLinear(w, 0.0, 1.0) for name, w in values.items()})
    moving = dataclasses.replace(case, flow=di.Inclusion(field, case.flow.g))
    assert STATEMENTS[label].outside(case) == ""
    assert "the weights move between their knots" in STATEMENTS[label].outside(moving)

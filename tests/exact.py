"""Problems with exact solutions (numbers as in the theory), as flow, initial state, horizon and solution x(t)."""

import math

import torch

import diffincl as di

F64 = torch.float64


def half_line():
    """1: constant field on the half line, max(x0 − ct, 0); catching-up reproduces it."""
    c, x0 = 0.7, torch.tensor([[1.0], [2.5], [0.0]], dtype=F64)
    return di.Inclusion(lambda t, x: torch.full_like(x, c), di.Orthant()), x0, 3.0, lambda t: (x0 - c * t).clamp(min=0)


def skorokhod():
    """2: F = cos t, x0 = ½ on the half line; hit at π/6, leave at π/2."""
    def exact(t):
        low = max(0.0, math.sin(min(t, math.pi / 2)) - 0.5)
        return torch.tensor([0.5 - math.sin(t) + low], dtype=F64)

    return (di.Inclusion(lambda t, x: torch.cos(t).expand_as(x), di.Orthant()), torch.tensor([0.5], dtype=F64),
            math.pi, exact)


def spiral():
    """3: affine field on the orthant; hits x1, leaves, hits x2, leaves."""
    A, x0 = torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=F64), torch.tensor([2.0, 1.0], dtype=F64)
    b = A @ torch.tensor([0.8, 0.5], dtype=F64)
    switches = (0.0, 1.1022954858, 1.3165041522, 1.7869608997, 2.1729370577, 4.0)
    fixed = (None, 0, None, 1, None)  # coordinate that rests at zero in each piece

    def advance(x, length, i):
        """x' = −(Ax − b) with coordinate i held, by the matrix exponential."""
        keep = torch.ones(2, dtype=F64)
        if i is not None:
            keep[i] = 0.0
            x = x * keep
        M = torch.zeros(3, 3, dtype=F64)
        M[:2, :2], M[:2, 2] = -A * keep[:, None], b * keep
        return (torch.linalg.matrix_exp(M * length) @ torch.cat([x, torch.ones(1, dtype=F64)]))[:2]

    def exact(t):
        x = x0
        for a, b_, i in zip(switches, switches[1:], fixed, strict=False):
            if t <= a:
                break
            x = advance(x, min(t, b_) - a, i)
        return x

    return di.Inclusion(lambda t, x: x @ A.T - b, di.Orthant()), x0, 4.0, exact


def disk():
    """6: −F = (1, 0) in the unit disk: straight to the circle, then along it, tan(p/2) = tan(p0/2)·e^{−(t − t*)}."""
    x0 = torch.tensor([-0.5, 0.6], dtype=F64)
    reached, p0 = 0.5 + 0.8, math.atan2(0.6, 0.8)

    def exact(t):
        if t <= reached:
            return x0 + torch.tensor([t, 0.0], dtype=F64)
        p = 2 * math.atan(math.tan(p0 / 2) * math.exp(reached - t))
        return torch.tensor([math.cos(p), math.sin(p)], dtype=F64)

    return di.Inclusion(lambda t, x: torch.tensor([-1.0, 0.0], dtype=F64).expand_as(x), di.Ball()), x0, 3.0, exact


def norm_flow():
    """11: F = 0, g = ‖x‖₂."""
    x0 = torch.tensor([[3.0, 4.0], [0.3, -0.4]], dtype=F64)
    return di.Inclusion(lambda t, x: 0 * x, di.L2()), x0, 2.0, lambda t: x0 * (
        1 - t / x0.norm(dim=-1, keepdim=True)).clamp(min=0)


def l1_flow():
    """11: F = 0, g = ‖x‖₁."""
    x0 = torch.tensor([[3.0, -0.7], [0.3, -4.0]], dtype=F64)
    return di.Inclusion(lambda t, x: 0 * x, di.L1()), x0, 2.0, lambda t: x0.sign() * (x0.abs() - t).clamp(min=0)


def elastic():
    """15 split: g = |x|, F = x: (x0 + 1)e^{−t} − 1 until ln(1 + x0), then 0."""
    x0 = torch.tensor([2.0], dtype=F64)
    return di.Inclusion(lambda t, x: x, di.L1()), x0, 2.0, lambda t: ((x0 + 1) * math.exp(-t) - 1).clamp(min=0)


class Shifted(di.ConvexSet):
    """base + shift(t), until the library has a moving set of its own."""

    def __init__(self, base, shift):
        self.base, self.shift = base, shift

    def project(self, x, t=0.0):
        move = self.shift(torch.as_tensor(t, dtype=F64)).to(x)
        return move + self.base.project(x - move)


class Disk(di.ConvexSet):
    """The ball of radius(t) about 0, until the library has a moving set of its own."""

    def __init__(self, radius):
        self.radius = radius

    def project(self, x, t=0.0):
        norm, r = x.norm(dim=-1, keepdim=True), self.radius(torch.as_tensor(t, dtype=F64)).to(x)
        return torch.where(norm > r, x * (r / norm.clamp_min(1e-300)), x)


class TwoBlockVariation(di.ProxFunction):
    """Σ|x_{i+1} − x_i| of vectors of two constant blocks of length m, until the library has the total variation."""

    def __init__(self, m):
        self.m = m

    def prox(self, x, h, t=0.0):
        a, b = x[:1], x[-1:]
        assert torch.equal(x, torch.cat([a.expand(self.m), b.expand(self.m)]))
        move = torch.minimum((b - a).abs() / 2, torch.as_tensor(h / self.m, dtype=F64)) * (b - a).sign()
        return torch.cat([(a + move).expand(self.m), (b - move).expand(self.m)])

    def value(self, x, t=0.0):
        return x.diff(dim=-1).abs().sum(-1)


def decay():
    """Interior: x' = −x(1 + ½ sin t) never meets the boundary."""
    x0 = torch.tensor([1.0, 0.3], dtype=F64)
    return (di.Inclusion(lambda t, x: x * (1 + 0.5 * torch.sin(t)), di.Orthant()), x0, 2.0,
            lambda t: x0 * math.exp(-t - 0.5 * (1 - math.cos(t))))


def face():
    """On the face x1 = 0 throughout; a stage that leaves it spoils x2."""
    x0 = torch.tensor([0.0, 1.0], dtype=F64)

    def F(t, x):
        push = 1 + 0.5 * torch.cos(t) + x[..., 1] ** 2
        return torch.stack([push, x[..., 1] * (1 + 0.5 * torch.sin(t)) + 5 * x[..., 0]], -1)

    return (di.Inclusion(F, di.Orthant()), x0, 2.0,
            lambda t: x0 * math.exp(-t - 0.5 * (1 - math.cos(t))))


def play():
    """4: play operator, C(t) = [u − r, u + r], F = 0: x ← min(max(x, u − r), u + r) on monotone pieces; u = sin 2t."""
    r, x0 = 0.4, torch.tensor([0.1], dtype=F64)

    def exact(t):
        x = 0.1
        for turn in (*(s for s in ((k + 0.5) * math.pi / 2 for k in range(10)) if s < t), t):
            u = math.sin(2 * turn)
            x = min(max(x, u - r), u + r)
        return torch.tensor([x], dtype=F64)

    C = Shifted(di.Box(-r, r), lambda t: torch.sin(2 * t))
    return di.Inclusion(lambda t, x: 0 * x, C), x0, 1.25 * math.pi, exact


def moving_half_space():
    """5: n·x >= c(t), c nondecreasing, F = −f with n·f = 0: x0 + ft + max(0, c(t) − n·x0)n; catching-up is exact."""
    n, f, x0 = (torch.tensor(v, dtype=F64) for v in ([0.6, 0.8], [-0.4, 0.3], [0.5, 0.5]))

    def c(t):
        return t**2 / 4  # from 0, n·x0 = 0.7

    C = Shifted(di.HalfSpace(-n, 0.0), lambda t: c(t) * n)
    return (di.Inclusion(lambda t, x: -f.expand_as(x), C), x0, 3.0,
            lambda t: x0 + f * t + max(0.0, c(t) - float(n @ x0)) * n)


def moving_half_plane():
    """n·x >= c(t) = t²/4 with x' = (n·x)τ inside, τ ⊥ n: n·x = max(s0, c), τ·x its integral; met at t = 2√s0."""
    n, tau, s0 = torch.tensor([0.6, 0.8], dtype=F64), torch.tensor([-0.8, 0.6], dtype=F64), 0.3
    met = 2 * math.sqrt(s0)

    def exact(t):
        along = s0 * t if t <= met else s0 * met + (t**3 - met**3) / 12
        return max(s0, t**2 / 4) * n + along * tau

    C = Shifted(di.HalfSpace(-n, 0.0), lambda t: t**2 / 4 * n)
    return di.Inclusion(lambda t, x: -(x @ n).unsqueeze(-1) * tau, C), s0 * n, 3.0, exact


def moving_box():
    """C(t) = [sin t, 5 + sin t], F = x − sin t, x0 = ½: y = x − sin t solves y' = −y − cos t on [0, 5]: hit, leave."""
    hit, leave = 0.7032923588, math.pi / 2  # e^{−t} = (cos t + sin t)/2 at the hit, refined below
    for _ in range(5):
        gap = math.exp(-hit) - 0.5 * (math.cos(hit) + math.sin(hit))
        hit -= gap / (-math.exp(-hit) - 0.5 * (math.cos(hit) - math.sin(hit)))

    def exact(t):
        y = 0.0
        if t < hit:
            y = math.exp(-t) - 0.5 * (math.cos(t) + math.sin(t))
        elif t > leave:
            y = 0.5 * math.exp(leave - t) - 0.5 * (math.cos(t) + math.sin(t))
        return torch.tensor([y + math.sin(t)], dtype=F64)

    C = Shifted(di.Box(0.0, 5.0), torch.sin)
    return di.Inclusion(lambda t, x: x - torch.sin(t).to(x), C), torch.tensor([0.5], dtype=F64), math.pi, exact


def shrinking_disk():
    """7: disk of radius 1 − t/4 and rotation ω: min(‖x0‖, r(t)) Rot(ωt) x0/‖x0‖."""
    x0, omega = torch.tensor([0.6, 0.5], dtype=F64), 1.5
    J, size = omega * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64), math.hypot(0.6, 0.5)

    def exact(t):
        return min(size, 1 - t / 4) * torch.linalg.matrix_exp(-J * t) @ (x0 / size)

    return di.Inclusion(lambda t, x: x @ J.T, Disk(lambda t: 1 - t / 4)), x0, 2.0, exact


def friction():
    """9: dry friction −x' ∈ κ∂|x| + kx: (x0 + κ/k)e^{−kt} − κ/k until it sticks at ln(1 + kx0/κ)/k."""
    k, kappa, x0 = 1.5, 0.8, torch.tensor([1.0], dtype=F64)
    return (di.Inclusion(lambda t, x: k * x, di.L1(kappa)), x0, 2.0,
            lambda t: ((x0 + kappa / k) * math.exp(-k * t) - kappa / k).clamp(min=0))


def radial(horizon=0.85):
    """12: g = ‖x‖₂, F = kx + rotation ω: the radius of 9 with κ = 1, the angle ωt; sticks at 0.924."""
    k, omega, x0 = 0.7, 1.3, torch.tensor([1.2, 0.5], dtype=F64)
    J, size = omega * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64), 1.3

    def exact(t):
        radius = max(0.0, (size + 1 / k) * math.exp(-k * t) - 1 / k)
        return radius * torch.linalg.matrix_exp(-J * t) @ (x0 / size)

    return di.Inclusion(lambda t, x: k * x + x @ J.T, di.L2()), x0, horizon, exact


def linear_cost():
    """13: simplex, cost c, x0 inside: x_i' = −(c_i − mean over the support), an entry that reaches zero stays there."""
    c, x0 = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=F64), torch.tensor([0.2, 0.3, 0.15, 0.35], dtype=F64)

    def exact(t):
        x, support = x0.clone(), torch.ones(4, dtype=torch.bool)
        while True:
            v = torch.where(support, c[support].mean() - c, 0.0)
            ends = torch.where(v < 0, -x / v, torch.inf)
            length = min(t, float(ends.min()))
            x, t = torch.where(support, x + length * v, 0.0), t - length
            if t <= 0:
                return x
            support = support & (ends > length)

    return di.Inclusion(lambda t, x: c.expand_as(x), di.Simplex()), x0, 3.0, exact


def two_blocks():
    """14: total variation of two blocks of m: a + t/m, b − t/m until t = m(b − a)/2."""
    m, a, b = 3, -0.2, 1.0

    def exact(t):
        move = min(t / m, (b - a) / 2)
        return torch.tensor([a + move] * m + [b - move] * m, dtype=F64)

    return di.Inclusion(lambda t, x: 0 * x, TwoBlockVariation(m)), exact(0.0), 3.0, exact


def crossing():
    """g = ½|x|, F = 1, x0 = 1: crosses the kink at t = 2/3 without sticking; slope −3/2, then −½."""
    x0 = torch.tensor([1.0], dtype=F64)
    return (di.Inclusion(lambda t, x: torch.ones_like(x), di.L1(0.5)), x0, 2.0,
            lambda t: x0 - 1.5 * t if t < 2 / 3 else -0.5 * (t - 2 / 3) * torch.ones_like(x0))


def sup_error(problem, scheme, n):
    """Largest error over all steps; the steps are not aligned with the switches."""
    flow, x0, horizon, exact = problem()
    sol = di.solve(flow, x0, torch.linspace(0, horizon, n + 1, dtype=F64), scheme=scheme)
    return float((sol.x - torch.stack([exact(t) for t in sol.t.tolist()])).abs().max())


def observed_order(problem, scheme, numbers, phases=1):
    """Slope of log error against log n, least squares.

    Through contact the error of a second-order scheme depends on where in a step the contact falls, by a factor of four
    or so: with ``phases`` > 1 the error of n is the mean over n, n + 1, ..., which shift the contact within its step.
    """
    def error(n):
        return sum(sup_error(problem, scheme, n + k) for k in range(phases)) / phases

    errors = torch.tensor([error(n) for n in numbers], dtype=F64).log()
    n = (torch.tensor(numbers, dtype=F64) + 0.5 * (phases - 1)).log()
    n, errors = n - n.mean(), errors - errors.mean()
    return -float((n @ errors) / (n @ n))

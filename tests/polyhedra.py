"""Random polyhedra, points, and the conditions that the nearest point satisfies."""

import torch
from scipy.optimize import nnls
from torch.linalg import vector_norm

F64 = torch.float64
KINDS = ("any", "integers", "opposite and repeated", "multiples", "nearly parallel", "cone", "one dimension", "many")


def draw(kind, seed):
    """G, h of a polyhedron of this kind that holds a known point."""
    gen = torch.Generator().manual_seed(seed)
    d = 1 if kind == "one dimension" else int(torch.randint(1, 8, (1,), generator=gen))
    k = 60 if kind == "many" else int(torch.randint(1, 16, (1,), generator=gen))
    G = torch.randn(k, d, generator=gen, dtype=F64)
    if kind in ("integers", "multiples"):
        G = torch.randint(-1, 2, (k, d), generator=gen).to(F64)  # with zero rows
    if kind == "opposite and repeated":
        G = torch.cat([G, G, -G])
    if kind == "multiples":
        G = torch.cat([G, 3 * G, 1e-3 * G])
    if kind == "nearly parallel":
        G = torch.cat([G, G + 1e-8 * torch.randn(k, d, generator=gen, dtype=F64)])
    point = torch.randn(d, generator=gen, dtype=F64)
    room = torch.rand(len(G), generator=gen, dtype=F64)
    if kind not in ("any", "nearly parallel", "many", "one dimension"):
        room = 0 * room  # all rows meet in one point
    return G, G @ point + room * vector_norm(G, dim=-1)


def far_and_near(d, n=30, seed=0):
    gen = torch.Generator().manual_seed(seed)
    size = 10.0 ** torch.randint(-3, 4, (n, 1), generator=gen)
    return size * torch.randn(n, d, generator=gen, dtype=F64)


def require_optimal(G, h, x, u):
    """u satisfies G u <= h, and x − u is in the cone of the rows that hold, both to rounding."""
    length = vector_norm(G, dim=-1)
    G, h = G[length > 0] / length[length > 0].unsqueeze(-1), h[length > 0] / length[length > 0]
    if not len(G):
        assert torch.equal(u, x)
        return
    assert not bool(u.isnan().any())
    assert float(((u @ G.T - h) / (1 + vector_norm(u, dim=-1, keepdim=True) + h.abs())).max()) < 1e-14
    for a, b in zip(x, u, strict=True):
        held = G[h - G @ b < 1e-9 * (1 + vector_norm(a))].numpy()
        left = nnls(held.T, (a - b).numpy())[1] if len(held) else float(vector_norm(a - b))
        assert left < 1e-12 * (1 + float(vector_norm(a)))

"""The lists that the contract tests run on: add one line here for a new function or scheme."""

import torch

import diffincl as di


def vector(*entries):
    return torch.tensor(entries, dtype=torch.float64)


D = 3  # dimension of every function below

FUNCTIONS = {
    "Whole": di.Whole(),
    "Orthant": di.Orthant(),
    "Box numbers": di.Box(-0.5, 1.0),
    "Box tensors": di.Box(vector(-1.0, 0.0, -torch.inf), vector(0.5, 0.0, 1.0)),
    "Box half open": di.Box(0.25, float("inf")),
    "Ball": di.Ball(1.5),
    "Ball off centre": di.Ball(0.75, vector(1.0, 0.0, -0.5)),
    "Ball of radius 0": di.Ball(0.0, 0.5),
    "HalfSpace": di.HalfSpace(vector(1.0, -2.0, 0.5), 0.4),
    "HalfSpace, long normal": di.HalfSpace(vector(300.0, -100.0, 0.0), -50.0),
    "Simplex": di.Simplex(),
    "Simplex, large": di.Simplex(3.0),
    "L1": di.L1(0.7),
    "L1 weights": di.L1(vector(0.0, 0.5, 2.0)),
    "L2": di.L2(0.8),
    "Affine": di.Affine(vector(1.0, 2.0, -1.0).unsqueeze(0), vector(0.5)),
    "Affine, dependent rows": di.Affine(torch.stack([vector(1.0, 2.0, 0.0), vector(0.0, 0.0, 3.0),
                                                     vector(2.0, 4.0, 3.0)]), vector(1.0, -1.0, 1.0)),
    "Polyhedron": di.Polyhedron(torch.stack([vector(1.0, 1.0, 1.0), vector(-1.0, 0.5, 0.0), vector(0.0, -1.0, 2.0),
                                             vector(-30.0, 0.0, -10.0)]), vector(1.0, 0.5, 0.75, 20.0)),
    "Polyhedron, degenerate": di.Polyhedron(torch.stack([
        vector(1.0, 0.0, 0.0), vector(2.0, 0.0, 0.0), vector(0.0, 0.0, 0.0), vector(0.0, 1.0, 0.0),
        vector(0.0, -1.0, 0.0), vector(1.0, 0.0, 2.0), vector(1.0, 0.0, -2.0)]),
        vector(0.5, 1.0, 0.0, 0.25, -0.25, 0.5, 0.5)),
    "ElasticNet": di.ElasticNet(0.5, 1.5),
    "ElasticNet weights": di.ElasticNet(vector(0.0, 0.5, 2.0), vector(1.0, 0.0, 0.3)),
    "TotalVariation": di.TotalVariation(0.6),
    "GroupL2": di.GroupL2([[0, 2], [1]], vector(0.8, 0.3)),
    "GroupL2, free coordinate": di.GroupL2(torch.tensor([0, -1, 0])),
    "CustomProx": di.CustomProx(lambda x, h: x / (1 + h / 2), lambda x: (x**2 / 4).sum(-1), coordinatewise=True),
    "Moving Ball": di.Moving(di.Ball(), shift=lambda t: vector(0.5, -1.0, 0.3) + t, scale=lambda t: 0.7 + t),
    "Moving Box": di.Moving(di.Box(-0.4, 0.7), shift=lambda t: 0.1 + t, scale=lambda t: 1.3),
    "Moving Simplex": di.Moving(di.Simplex(), shift=lambda t: vector(0.3, 0.1, -0.7)),
    "Moving L1": di.Moving(di.L1(0.7), shift=lambda t: vector(0.5, -1.0, 0.3), scale=lambda t: 1.6),
    "Moving TotalVariation": di.Moving(di.TotalVariation(0.6), shift=lambda t: vector(0.5, -1.0, 0.3)),
    "Product of sets": di.Product(di.Ball(), di.Orthant(), sizes=(2, 1)),
    "Product": di.Product(di.L1(0.5), di.Ball(0.5), sizes=(1, 2)),
    "OutsideBall": di.OutsideBall(1.2, vector(0.5, 0.5, 0.0)),
    "Moving OutsideBall": di.Moving(di.OutsideBall(), shift=lambda t: vector(0.5, -1.0, 0.3), scale=lambda t: 1.6),
}

SCHEMES = {
    "ForwardEuler": di.ForwardEuler(),
    "ProxHeun": di.ProxHeun(),
    "ImplicitEuler": di.ImplicitEuler(),
}

EXPLICIT = ("ForwardEuler", "ProxHeun")

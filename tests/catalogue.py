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
    "leaky ReLU": di.activations.leaky_relu(vector(0.2, 0.5, 1.0)),
    "tanh": di.activations.tanh(),
    "softplus": di.activations.softplus(2.0),
    "ELU": di.activations.elu(0.6),
    "tanhshrink": di.activations.tanhshrink(),
    "hard sigmoid": di.activations.hardsigmoid(),
    "asinh": di.activations.from_callable(torch.asinh),
    "Softmax": di.activations.Softmax(),
}

SCHEMES = {
    "ForwardEuler": di.ForwardEuler(),
    "ProxHeun": di.ProxHeun(),
    "ImplicitEuler": di.ImplicitEuler(),
}

EXPLICIT = ("ForwardEuler", "ProxHeun")

"""The convolutional fields of the ResNet family: kernels in place of matrices, images or signals as states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from .layered import LayeredField, Nonnegative, Symmetric, Weight, same_kind
from .pieces import Weights
from .resnet import ResNetDField, ResNetField, ResNetSField
from .written import WrittenOut, image_size

__all__ = ["ConvResNetDField", "ConvResNetField", "ConvResNetSField", "adjoint_kernel", "convolve"]

PADDINGS = ("zeros", "circular")


def convolve(x: Tensor, A: Tensor, b: Tensor | None, padding_mode: str, groups: int = 1) -> Tensor:
    """A * x + b, the size of the image kept: torch's conv1d or conv2d with padding k//2 on either side."""
    dims = A.ndim - 2
    batch = x.shape[:-dims - 1]
    images = x if len(batch) < 2 else x.reshape(-1, *x.shape[-dims - 1:])
    half = [k // 2 for k in A.shape[2:]]
    if padding_mode == "circular":
        images, half = F.pad(images, [side for k in half[::-1] for side in (k, k)], mode="circular"), [0] * dims
    conv = F.conv1d if dims == 1 else F.conv2d
    value = conv(images, A, b, padding=half, groups=groups)
    return value if len(batch) < 2 else value.reshape(*batch, *value.shape[1:])


def adjoint_kernel(A: Tensor) -> Tensor:
    """The kernel of the adjoint of x ↦ A * x: channels exchanged, taps in reverse order."""
    return A.transpose(0, 1).flip(tuple(range(2, A.ndim)))


class ConvResNetField(LayeredField):
    """F(t, x) = A2 * σ(A1 * x + b1) − b2 with σ = ReLU and convolutions that keep the size of the image.

    Parameters
    ----------
    A1 : Tensor (m, d, k, k) or (m, d, k), or a curve of such tensors
        Odd k, which may differ from axis to axis and from A1 to A2; padding k//2.
    b1 : Tensor (m,), or a curve
    A2 : Tensor (d, m, k, k) or (d, m, k), or a curve
    b2 : Tensor (d,), or a curve
    padding_mode : "zeros" or "circular"

    Raises
    ------
    TypeError, ValueError
        If a weight is no floating-point tensor or curve, is not finite, or does not fit the others.

    Examples
    --------
    >>> import torch, diffincl as di
    >>> difference = torch.tensor([[[-1.0, 1.0, 0.0]]])
    >>> field = ConvResNetField(difference, torch.zeros(1), torch.ones(1, 1, 1), torch.zeros(1))
    >>> field(0.0, torch.tensor([[1.0, 3.0, 2.0]]))
    tensor([[1., 2., 0.]])

    Notes
    -----
    The state has shape (*batch, d, H, W) or (*batch, d, L). One time serves the whole batch: fixed steps of explicit
    schemes, not adaptive or implicit ones. A batch of other than one dimension is flattened for torch's convolution.

    References
    ----------
    Ruthotto, Haber, "Deep neural networks motivated by partial differential equations", 2020; theory §1.
    """

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight, *, padding_mode: str = "zeros"):
        super().__init__()
        self.padding_mode = _check.choice("padding_mode", padding_mode, PADDINGS)
        self.set_weights({"A1": A1, "b1": b1, "A2": A2, "b2": b2})

    layout = "(m, d, k) or (m, d, k, k)"

    def affine(self, x: Tensor, A: Tensor, b: Tensor | None) -> Tensor:
        """A * x + b."""
        return convolve(x, A, b, self.padding_mode)

    def adjoint(self, A: Tensor) -> Tensor:
        """The kernel of the adjoint."""
        return adjoint_kernel(A)

    def each(self, x: Tensor, A: Tensor) -> Tensor:
        """A_k * x_k, (N, m, *image), for kernels (N, m, d, *k) and states (N, d, *image)."""
        value = convolve(x.flatten(0, 1).unsqueeze(0), A.flatten(0, 1), None, self.padding_mode, groups=len(A))
        return value.reshape(*A.shape[:2], *x.shape[2:])

    @property
    def features(self) -> int:
        """Number d of channels of the state."""
        return self.weights_now().A1.shape[1]

    def check_fit(self, weights: Weights) -> None:
        """A1 (m, d, *k), b1 (m,), A2 (d, m, *k), b2 (d,), every k odd."""
        A1, A2 = weights.A1, weights.A2
        if A1.ndim not in (3, 4):
            raise ValueError(f"A1 (or A) must have shape {self.layout}; got {_check.describe(A1)}.")
        self.state_dims = A1.ndim - 1
        (m, d), kernel = A1.shape[:2], tuple(A2.shape[2:]) if A2.ndim == A1.ndim else tuple(A1.shape[2:])
        self.require(weights, {"b1": (m,), "A2": (d, m, *kernel), "b2": (d,)})
        for name, K in (("A1 (or A)", A1), ("A2", A2)):
            if any(k % 2 == 0 for k in K.shape[2:]):
                raise ValueError(f"{name} must have odd kernel sizes, so that the image keeps its size; got "
                                 f"{_check.describe(K)}. Pad the kernel with a row of zeros.")

    def validate(self, x0: Tensor) -> None:
        """x0 (*batch, d, H, W) or (*batch, d, L) in the dtype and on the device of the weights."""
        A1 = self.weights_now().A1
        dims = self.state_dims - 1
        if x0.ndim <= dims or x0.shape[-dims - 1] != A1.shape[1]:
            sizes = ("L",) if dims == 1 else ("H", "W")
            raise ValueError(f"x0 must have shape (*batch, {A1.shape[1]}, {', '.join(sizes)}), the channels of A1; "
                             f"got {_check.describe(x0)}.")
        same_kind("x0", x0, A1)
        self._require_image(tuple(x0.shape[-dims:]))

    def dense(self, image: Sequence[int]) -> ResNetField:
        """The same field on images of one size as a dense one, with the convolutions written out as matrices.

        For what asks for matrices: rate="exact" and "weighted", ``bounds.tube``, ``ExactFlow``. The state of the dense
        field is that of this one flattened, ``x.flatten(-3)`` (of signals ``x.flatten(-2)``).

        Parameters
        ----------
        image : (height, width) or (length,)

        Returns
        -------
        ResNetField
            ``ResNetDField`` of a ``ConvResNetDField``, ``ResNetSField`` of a ``ConvResNetSField``; curves stay curves,
            and gradients reach the kernels.

        Raises
        ------
        ValueError
            If the matrices of all layers would have more than 2²⁶ entries.

        Examples
        --------
        >>> import torch
        >>> difference = torch.tensor([[[-1.0, 1.0, 0.0]]])
        >>> field = ConvResNetSField(difference, torch.zeros(1), torch.zeros(1))
        >>> field.dense((3,)).A.values
        tensor([[ 1.,  0.,  0.],
                [-1.,  1.,  0.],
                [ 0., -1.,  1.]])
        """
        at = self._written(image)
        at.require_room([self.A1, self.A2])
        return ResNetField(at.matrix(self.A1), at.vector(self.b1), at.matrix(self.A2), at.vector(self.b2))

    def _written(self, image: Sequence[int]) -> WrittenOut:
        size = image_size(image, self.state_dims - 1)
        self._require_image(size)
        return WrittenOut(size, self.padding_mode)

    def _require_image(self, image: tuple[int, ...]) -> None:
        weights = self.weights_now()
        half = torch.maximum(torch.tensor(weights.A1.shape[2:]), torch.tensor(weights.A2.shape[2:])) // 2
        if self.padding_mode == "circular" and bool((half > torch.tensor(image)).any()):
            raise ValueError(f"circular padding may go round the image once at most; got padding "
                             f"{tuple(half.tolist())} for an image of size {image}. Use a smaller kernel or "
                             f"padding_mode='zeros'.")


class ConvResNetDField(Nonnegative, ConvResNetField):
    """Convolutional ResNet-D: the field of ``ConvResNetField`` with A2 >= 0 entry by entry.

    Raises
    ------
    ValueError
        Besides those of ``ConvResNetField``: if an entry of A2 is negative.

    Examples
    --------
    >>> import torch
    >>> field = ConvResNetDField(-torch.ones(1, 1, 1), torch.ones(1), torch.ones(1, 1, 1), torch.zeros(1))
    >>> field(0.0, torch.tensor([[0.5, 2.0]]))
    tensor([[0.5000, 0.0000]])
    """

    def __init__(self, A1: Weight, b1: Weight, A2: Weight, b2: Weight, *, padding_mode: str = "zeros"):
        super().__init__(A1, b1, A2, b2, padding_mode=padding_mode)
        self.check_structure()

    def dense(self, image: Sequence[int]) -> ResNetDField:
        """The same field on images of one size as a dense one: see ``ConvResNetField.dense``."""
        at = self._written(image)
        at.require_room([self.A1, self.A2])
        return ResNetDField(at.matrix(self.A1), at.vector(self.b1), at.matrix(self.A2), at.vector(self.b2))


class ConvResNetSField(Symmetric, ConvResNetField):
    """Convolutional ResNet-S: F(t, x) = Aᵀ σ(A * x + b1) − b2 with the adjoint of the same convolution.

    Parameters
    ----------
    A : Tensor (m, d, k, k) or (m, d, k), or a curve
    b1 : Tensor (m,), or a curve
    b2 : Tensor (d,), or a curve
    padding_mode : "zeros" or "circular"

    Examples
    --------
    >>> import torch
    >>> field = ConvResNetSField(torch.tensor([[[-1.0, 1.0, 0.0]]]), torch.zeros(1), torch.zeros(1))
    >>> field(0.0, torch.tensor([[1.0, 3.0, 2.0]]))
    tensor([[-1.,  2.,  0.]])

    Notes
    -----
    With odd kernels and padding k//2 the adjoint is again a convolution of that kind, for zero and circular padding:
    ``adjoint_kernel``; for zeros it is torch's conv_transpose.
    """

    def __init__(self, A: Weight, b1: Weight, b2: Weight, *, padding_mode: str = "zeros"):
        LayeredField.__init__(self)
        self.padding_mode = _check.choice("padding_mode", padding_mode, PADDINGS)
        self.set_weights({"A": A, "b1": b1, "b2": b2})

    def dense(self, image: Sequence[int]) -> ResNetSField:
        """The same field on images of one size as a dense one: see ``ConvResNetField.dense``."""
        at = self._written(image)
        at.require_room([self.A])
        return ResNetSField(at.matrix(self.A), at.vector(self.b1), at.vector(self.b2))

"""What a convolution reads and writes along each axis of an image, and the torus on which its symbol bounds it.

Along an axis of n pixels, output i = Σ_j K_j x(s·i + d·j − p). With d·j − p = s·a_j + r_j and the s pixels of a coarse
pixel taken as channels (a permutation), this is a convolution of stride 1 with shifts a_j. It is a part (rows and
columns) of the circular one with M coarse pixels as soon as no wrapped index meets a pixel: s·M >= n + p and s·M > the
last index read (theory §7); with p less than the width of the kernel, outputs do not meet either. As nothing wrapped is
ever read, a wrap may as well carry a sign: the frequencies 2π(f + ½)/M bound the norm, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import _check

__all__: list[str] = []

ZEROS, CIRCULAR = "zeros", "circular"


@dataclass(frozen=True)
class Axis:
    """A circular convolution along one axis: M points, s channels of coarse pixels, one (shift, channel) per tap.

    ``factor`` is what the norm of the circular one is multiplied with; ``twist``: 1 if a wrap carries a sign;
    ``free``: whether it may, and M be larger.
    """

    points: int
    stride: int
    taps: tuple[tuple[int, int], ...]
    factor: float = 1.0
    twist: int = 0
    free: bool = True


@dataclass(frozen=True)
class Layout:
    """A convolution from images of size n to images of size m, axis by axis; ``before`` and ``after`` are the padding.

    A transposed convolution is described by the convolution whose adjoint it is.
    """

    kernel: tuple[int, ...]
    n: tuple[int, ...]
    m: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    mode: str

    def axes(self) -> list[Axis] | None:
        """The torus along each axis; None if every window lies in the zeros of the padding."""
        build = _zero_padded if self.mode == ZEROS else _circular
        found = [build(*numbers) for numbers in
                 zip(self.n, self.m, self.kernel, self.stride, self.dilation, self.before, strict=True)]
        axes = [axis for axis in found if axis is not None]
        return axes if len(axes) == len(found) else None


def layout(K: Tensor, image: Any, stride: Any, padding: Any, dilation: Any, groups: int, mode: str, *, dims: int,
           transposed: bool = False, output_padding: Any = 0) -> Layout:
    """The arguments of a convolution, checked."""
    check_mode(mode)
    kernel, groups = check_kernel(K, groups, dims)
    n, s, d = whole("image", image, dims), whole("stride", stride, dims), whole("dilation", dilation, dims)
    window = tuple(di * (k - 1) + 1 for di, k in zip(d, kernel, strict=True))
    before, after = _padding(padding, window, s, dims, transposed)
    extra = whole("output_padding", output_padding, dims, at_least=0)
    if transposed:
        if mode != ZEROS:
            raise ValueError(f"a transposed convolution is padded with zeros only; got padding_mode={mode!r}.")
        m = n
        n = tuple((a - 1) * b - p - q + w + e
                  for a, b, p, q, w, e in zip(n, s, before, after, window, extra, strict=True))
        _check_transposed(n, m, s, d, extra)
    else:
        if any(extra):
            raise ValueError(f"output_padding goes with transposed=True only; got {output_padding!r}.")
        m = tuple((a + p + q - w) // b + 1 for a, p, q, w, b in zip(n, before, after, window, s, strict=True))
        _check_windows(n, m, window, before, after, mode)
    return Layout(kernel, n, m, before, after, s, d, groups, mode)


def any_size(kernel: int, stride: int, dilation: int, oversampling: int) -> Axis:
    """An axis for images of every size: as many frequencies as bound the symbol at all others.

    Each channel of coarse pixels may be shifted, and a common divisor of the shifts drops out, before the degree D is
    read off. A nonnegative trigonometric polynomial of degree D is at most 1/cos²(πD/(2M)) times its maximum over M > D
    equidistant points: p − ½‖p‖ falls no faster than a cosine of frequency D from its peak (M. Riesz).
    """
    places = [divmod(dilation * j, stride) for j in range(kernel)]
    first = {r: min(a for a, other in places if other == r) for _, r in places}
    divisor = max(math.gcd(*(a - first[r] for a, r in places)), 1)
    taps = tuple(((a - first[r]) // divisor, r) for a, r in places)
    degree = max(a for a, _ in taps)
    points = max(oversampling * degree, 1)
    return Axis(points, stride, taps, 1 / math.cos(math.pi * degree / (2 * points)), free=False)


def check_mode(mode: str) -> None:
    if mode in ("reflect", "replicate"):
        raise ValueError(f"padding_mode={mode!r} is not covered: repeated border pixels raise the norm above what the "
                         f"kernel's Fourier transform bounds (by up to 1.55). Use 'zeros' or 'circular'.")
    _check.choice("padding_mode", mode, (ZEROS, CIRCULAR))


def check_kernel(K: Tensor, groups: int, dims: int) -> tuple[tuple[int, ...], int]:
    """Size of the kernel and number of groups; K itself is checked, too."""
    _check.finite("K", _check.tensor("K", K))
    names = ("k",) if dims == 1 else ("kh", "kw")
    if K.ndim < dims + 2:
        raise ValueError(f"K must have shape (*batch, out, in/groups, {', '.join(names)}); got {_check.describe(K)}.")
    groups = _check.count("groups", groups)
    if K.shape[-dims - 2] % groups:
        raise ValueError(f"groups must divide the first number of channels of K, {K.shape[-dims - 2]}; got {groups}.")
    return tuple(K.shape[-dims:]), groups


def whole(name: str, value: Any, dims: int, at_least: int = 1) -> tuple[int, ...]:
    """One whole number per axis, from one for all or one for each."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * dims
    if len(values) != dims:
        raise ValueError(f"{name} must be a whole number or {dims} of them, one for each axis; got {value!r}.")
    for v in values:
        if isinstance(v, int) and not isinstance(v, bool) and v < at_least:
            raise ValueError(f"{name} must be at least {at_least}; got {v}.")
        if v != 0 or isinstance(v, bool):
            _check.count(name, v)
    return tuple(int(v) for v in values)


def _padding(padding: Any, window: tuple[int, ...], stride: tuple[int, ...], dims: int,
             transposed: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after the image; "same" puts the odd pixel after it, as torch does."""
    if isinstance(padding, str):
        _check.choice("padding", padding, ("same", "valid"))
        if transposed or (padding == "same" and max(stride) > 1):
            raise ValueError(f"padding={padding!r} does not go with {'transposed=True' if transposed else 'a stride'}; "
                             f"pass numbers.")
        total = tuple((w - 1) if padding == "same" else 0 for w in window)
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    entries = tuple(padding) if isinstance(padding, Sequence) else (padding,) * dims
    if len(entries) != dims:
        raise ValueError(f"padding must be a whole number, {dims} of them (one for each axis, or a pair before and "
                         f"after), 'same' or 'valid'; got {padding!r}.")
    pairs = [whole("padding", entry, 2, at_least=0) for entry in entries]
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def _check_windows(n: tuple[int, ...], m: tuple[int, ...], window: tuple[int, ...], before: tuple[int, ...],
                   after: tuple[int, ...], mode: str) -> None:
    for size, outputs, w, p, q in zip(n, m, window, before, after, strict=True):
        if outputs < 1:
            raise ValueError(f"the kernel (with dilation {w} pixels wide) does not fit into the padded image of "
                             f"{size + p + q} pixels. Pad more, or take a larger image.")
        if mode == CIRCULAR and max(p, q) > size:
            raise ValueError(f"circular padding may go round the image once at most; got padding {max(p, q)} for an "
                             f"image of {size} pixels.")


def _check_transposed(n: tuple[int, ...], m: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...],
                      extra: tuple[int, ...]) -> None:
    for outputs, size, s, d, e in zip(n, m, stride, dilation, extra, strict=True):
        if outputs < 1:
            raise ValueError(f"the transposed convolution of an image of {size} pixels has {outputs} pixels left after "
                             f"its padding is cut off. Pad less, or take a larger image.")
        if e >= max(s, d):
            raise ValueError(f"output_padding must be smaller than the stride {s} or the dilation {d}; got {e}.")


def _zero_padded(n: int, m: int, k: int, s: int, d: int, before: int) -> Axis | None:
    """The smallest torus. Outputs that read padding only are zero and are left out first."""
    window = d * (k - 1) + 1
    idle = max(0, -((window - 1 - before) // s))
    before -= s * idle
    m = min(m - idle, (n - 1 + before) // s + 1)
    if m < 1:
        return None
    end = s * (m - 1) + window - before  # indices from −before to end − 1 are read
    least = max(min(n, end) + before, end)
    return Axis(-(-least // s), s, tuple(divmod(d * j - before, s) for j in range(k)))


def _circular(n: int, m: int, k: int, s: int, d: int, before: int) -> Axis:
    """Z_n itself. Outputs that come round again are counted; a stride that does not divide n only leaves some out."""
    if n % s:
        fine = _circular(n, n, k, 1, d, before)
        return Axis(n, 1, fine.taps, math.sqrt(-(-m * math.gcd(n, s) // n)), free=False)
    return Axis(n // s, s, tuple(divmod(d * j - before, s) for j in range(k)), math.sqrt(-(-m * s // n)), free=False)

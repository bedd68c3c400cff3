"""Data sets, augmentation, corruptions."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import pad

from diffincl import data as data_sets
from diffincl.data import Augmentation, ImageData, corruptions, mnist1d
from diffincl.data.corruption import LUMA


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def colours(n=6, height=5, width=7, dtype=torch.float32):
    return torch.rand(n, 3, height, width, generator=seeded(1), dtype=dtype)


def small(**change):
    values = {"train_x": torch.rand(4, 6), "train_y": torch.tensor([0, 1, 2, 0]), "test_x": torch.rand(2, 6),
              "test_y": torch.tensor([2, 1]), "shape": (1, 2, 3), "classes": 3}
    return ImageData(**{**values, **change})


@pytest.fixture(scope="module")
def signals():
    return mnist1d()


def test_rows_and_images_are_the_same_numbers():
    data = small()
    images = data.images()
    assert images.train_x.shape == (4, 1, 2, 3)
    assert images.test_x[1, 0, 1, 2] == data.test_x[1, 5]
    assert images.train_x.data_ptr() == data.train_x.data_ptr()
    assert torch.equal(images.images().rows().train_x, data.train_x)
    assert repr(images) == "ImageData(4 + 2 samples of shape (1, 2, 3), 3 classes)"
    double = data.to(dtype=torch.float64)
    assert (double.train_x.dtype, double.test_x.dtype, double.train_y.dtype) == (torch.float64,) * 2 + (torch.int64,)


@pytest.mark.parametrize(("change", "message"), [
    ({"train_x": torch.rand(4, 5)}, r"train_x must have the shape \(n, 6\) or \(n, 1, 2, 3\)"),
    ({"test_x": torch.rand(2, 2, 3)}, "test_x must have the shape"),
    ({"test_x": torch.zeros(2, 6, dtype=torch.uint8)}, "test_x must have a real floating-point dtype"),
    ({"test_y": torch.tensor([1, 2, 0])}, r"test_y must be an int64 tensor of shape \(2,\)"),
    ({"train_y": torch.zeros(4)}, "train_y must be an int64 tensor"),
    ({"train_y": [0, 1, 2, 0]}, "got list"),
    ({"train_y": torch.tensor([0, 1, 3, 0])}, r"labels 0 … 2; train_y\[2\] is 3"),
    ({"test_y": torch.tensor([0, -1])}, r"test_y\[1\] is -1"),
    ({"classes": 0}, "classes must be at least 1"),
])
def test_data_that_does_not_fit_is_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(**change)


def test_every_shift_of_a_crop_is_equally_likely():
    x = torch.rand(1, 2, 5, 6, generator=seeded())
    many = Augmentation(shift=2)(x.expand(20000, -1, -1, -1), seeded())
    padded = pad(x, (2, 2, 2, 2))
    crops = torch.stack([padded[0, :, i:i + 5, j:j + 6] for i in range(5) for j in range(5)])
    which = (many[:, None] == crops).flatten(2).all(2)
    assert bool((which.sum(1) == 1).all())
    counts = which.sum(0)
    assert bool(((counts - 800).abs() < 5 * 800**0.5).all())


def test_share_flip_and_around():
    x = torch.rand(1, 1, 9, generator=seeded()).expand(10000, -1, -1)
    moved = (Augmentation(shift=1, share=0.5)(x, seeded()) != x).flatten(1).any(1).double().mean()
    assert float(moved) == pytest.approx(1 / 3, abs=0.025)  # half of them, of which a third moves by 0
    flipped = Augmentation(flip=True)(x, seeded())
    turned = (flipped == x.flip(-1)).flatten(1).all(1)
    assert bool((turned | (flipped == x).flatten(1).all(1)).all())
    assert float(turned.double().mean()) == pytest.approx(0.5, abs=0.025)
    rolled = Augmentation(shift=3, around=True)(x, seeded())
    rolls = torch.stack([x[0].roll(k, -1) for k in range(-3, 4)])
    assert bool((rolled[:, None] == rolls).flatten(2).all(2).any(1).all())
    assert torch.equal(Augmentation()(x, seeded()), x)


def test_augmentation_is_reproducible_and_keeps_form_and_the_global_generator():
    data = data_sets.digits()
    before = torch.get_rng_state()
    rows = data.augment(data.train_x[:200], seeded())
    assert torch.equal(before, torch.get_rng_state())
    assert rows.shape == (200, 64)
    assert torch.equal(rows.view(-1, 1, 8, 8), data.augment(data.images().train_x[:200], seeded()))
    changed = (rows != data.train_x[:200]).any(1).double().mean()
    assert 0.3 < float(changed) < 0.6  # half of them, of which a ninth moves by (0, 0)
    with pytest.raises(ValueError, match=r"x must have the shape \(n, 64\)"):
        data.augment(torch.rand(3, 63), seeded())


@pytest.mark.parametrize(("arguments", "message"), [
    ({"shift": -1}, "shift must be a whole number of pixels, at least 0; got -1"),
    ({"shift": 0.5}, "shift must be a whole number of pixels"),
    ({"share": 1.5}, r"it must lie in \[0, 1\]; got 1.5"),
])
def test_bad_augmentations(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)
    for shape in ((3, 8), (3, 1, 2), (3, 1, 9, 2)):
        with pytest.raises(ValueError, match="sides longer than shift = 2"):
            Augmentation(shift=2)(torch.rand(shape), seeded())


@pytest.mark.parametrize("name", corruptions)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_corruption_keeps_the_contract(name, dtype):
    x = colours(dtype=dtype)
    x[0, 0, 0, 0], x[1, 2, 1, 1] = 0.0, 1.0
    kept, before = x.clone(), torch.get_rng_state()
    torch.testing.assert_close(corruptions[name](x, 0.0, seeded()), x, rtol=0, atol=2e-7)
    bad = corruptions[name](x, 0.7, seeded(3))
    assert (bad.shape, bad.dtype, bad.is_contiguous()) == (x.shape, dtype, True)
    assert 0 <= float(bad.min()) <= float(bad.max()) <= 1
    assert float((bad - x).abs().max()) > 0.1
    assert torch.equal(bad, corruptions[name](x, 0.7, seeded(3)))
    assert torch.equal(x, kept)
    assert torch.equal(before, torch.get_rng_state())
    for size, message in ((-0.1, "size must be at least 0"), (float("nan"), "finite"), ("a", "size must be a real")):
        with pytest.raises((ValueError, TypeError), match=message):
            corruptions[name](x, size, seeded())
    outside = r"x must lie in clip = \(0.0, 1.0\); its values go from 0 to 1.5"
    for value, message in ((1.5, outside), (torch.nan, "nan")):
        x[2, 1, 0, 0] = value
        with pytest.raises(ValueError, match=message):
            corruptions[name](x, 0.1, seeded())


@pytest.mark.parametrize("name", [name for name in corruptions if name != "saturation"])
def test_signals_are_not_clipped(name, signals):
    x = signals.images().test_x[:50]
    bad = corruptions[name](x, 0.5, seeded(), clip=signals.limits)
    assert bad.shape == x.shape
    assert float((bad - x).abs().max()) > 0.1
    assert float(bad.min()) < -0.5
    with pytest.raises(ValueError, match="Pass clip=None for signals"):
        corruptions[name](x, 0.3, seeded())


def test_structured_noise_adds_one_sample_to_all():
    x = 0.4 * colours(dtype=torch.float64)
    added = (corruptions["structured_noise"](x, 0.5, seeded(4)) - x) / 0.5
    assert sum(bool((added - image).abs().max() < 1e-12) for image in x) == 1
    drawn = [corruptions["structured_noise"](x, 0.5, seeded(k)) for k in range(40)]
    assert len({float(bad.sum()) for bad in drawn}) == len(x)
    with pytest.raises(ValueError, match=r"image must have the shape \(3, 5, 7\) of a sample"):
        data_sets.structured_noise(x, 0.5, x[:1])


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0, 5.0])
def test_blur_is_the_gaussian_filter(size):
    x = colours(2, 9, 8, dtype=torch.float64)
    expected = gaussian_filter(x.numpy(), (0, 0, size, size), mode="nearest", truncate=4.0)
    assert np.abs(data_sets.blur(x, size, seeded()).numpy() - expected).max() < 1e-12
    line = x[:, :, 0]
    expected = gaussian_filter(line.numpy(), (0, 0, size), mode="nearest", truncate=4.0)
    assert np.abs(data_sets.blur(line, size, seeded()).numpy() - expected).max() < 1e-12


def test_contrast_keeps_the_mean_and_shrinks_the_spread():
    x = colours(dtype=torch.float64)
    bad = data_sets.contrast(x, 0.3, seeded())
    torch.testing.assert_close(bad.mean((1, 2, 3)), x.mean((1, 2, 3)))
    torch.testing.assert_close(bad.std((1, 2, 3)), 0.7 * x.std((1, 2, 3)))
    rows = data_sets.contrast(x.flatten(1), 0.3, seeded())
    torch.testing.assert_close(rows, bad.flatten(1))


def test_saturation_keeps_the_brightness():
    x = colours(dtype=torch.float64)
    weights = torch.tensor(LUMA, dtype=x.dtype).view(3, 1, 1)
    bad = data_sets.saturation(x, 0.6, seeded())
    torch.testing.assert_close((weights * bad).sum(1), (weights * x).sum(1))
    torch.testing.assert_close(bad[:, 0] - bad[:, 1], 0.4 * (x[:, 0] - x[:, 1]))
    for other in (x[:, :1], x[:, :, 0]):
        with pytest.raises(ValueError, match="saturation needs colour images"):
            data_sets.saturation(other, 0.6, seeded())


def test_occlusion_covers_one_block_anywhere():
    x = 0.5 + 0.5 * colours(1, 5, 8).expand(4000, -1, -1, -1)
    bad = data_sets.occlusion(x, 0.4, seeded())
    hidden = (bad == 0)[:, 0]
    assert torch.equal((bad == 0).all(1), hidden)
    assert torch.equal(bad.where(bad != 0, x), x)
    blocks = torch.zeros(4, 6, 5, 8, dtype=torch.bool)
    for i in range(4):
        for j in range(6):
            blocks[i, j, i:i + 2, j:j + 3] = True
    which = (hidden[:, None] == blocks.flatten(0, 1)).flatten(2).all(2)
    assert bool((which.sum(1) == 1).all())
    assert bool(((which.sum(0) - 4000 / 24).abs() < 5 * (4000 / 24) ** 0.5).all())
    assert not bool(data_sets.occlusion(x[:3], 1.0, seeded()).any())
    for name in ("occlusion", "blur"):
        with pytest.raises(ValueError, match=r"Take data.images\(\)"):
            corruptions[name](x.flatten(1), 0.4, seeded())
    for name in ("occlusion", "contrast", "saturation"):
        with pytest.raises(ValueError, match=r"it must lie in \[0, 1\]; got 1.5"):
            corruptions[name](x, 1.5, seeded())


def checksums(data):
    """A weighted sum, the sum of cubes, and a weighted sum of labels, sensitive to order."""
    x = torch.cat([data.train_x, data.test_x]).double()
    y = torch.cat([data.train_y, data.test_y])
    weights = torch.arange(x.numel(), dtype=torch.float64).cos().view(x.shape)
    return float((weights * x).sum()), float((x**3).sum()), int((y * torch.arange(len(y))).sum())


# The expected numbers were printed by the published program (package mnist1d) with the same arguments.
def test_mnist1d_is_what_the_published_program_makes(signals):
    assert signals.train_x[0, :4].tolist() == pytest.approx([-0.33200566736939013, -0.4719103656557236,
                                                             -0.778697076293495, -1.0097408265367045], abs=1e-6)
    assert signals.test_x[-1, -4:].tolist() == pytest.approx([0.4472328851428726, 0.6598756470890784,
                                                              0.8777343497528006, 1.1931518368352758], abs=1e-6)
    assert signals.train_y[:20].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9, 4, 3, 4, 5, 1, 9, 0, 3]
    assert checksums(signals) == pytest.approx((445.7184519659724, -13126.103828802175, 56565641), rel=1e-6)
    other = mnist1d(7, num_samples=200, shuffle_seq=True, padding=(3, 30), scale_coeff=0.9, max_translation=40,
                    corr_noise_scale=0.5, iid_noise_scale=0.1, shear_scale=2.0, template_len=15, final_seq_length=50)
    assert checksums(other) == pytest.approx((-83.87720060648162, 254.38040765561772, 86224), rel=1e-5)


def test_mnist1d_is_balanced_standardised_and_leaves_the_global_generators_alone(signals):
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    data = mnist1d(3, num_samples=100, train_split=0.5).images()
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(state, np.random.get_state()[1])
    assert data.train_x.shape == data.test_x.shape == (50, 1, 40)
    assert torch.cat([data.train_y, data.test_y]).bincount().tolist() == [10] * 10
    x = torch.cat([signals.train_x, signals.test_x]).double()
    assert abs(float(x.mean())) < 1e-6
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert (signals.limits, signals.augmentation) == (None, Augmentation(shift=2))
    assert not torch.equal(data.train_x, mnist1d(4, num_samples=100, train_split=0.5).images().train_x)


def test_a_linear_classifier_does_on_mnist1d_what_is_published(signals):
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=300).fit(signals.train_x, signals.train_y)
    assert 0.29 < fitted.score(signals.test_x, signals.test_y) < 0.36  # published: 0.32


@pytest.mark.parametrize(("change", "message"), [
    ({"num_samples": 55}, "num_samples must be a multiple of 10, the number of classes; got 55"),
    ({"num_samples": 0}, "num_samples must be at least 1"),
    ({"train_split": 1.0}, "train_split must leave samples for training and for test; got 1"),
    ({"train_split": 1e-9}, "train_split must leave samples"),
    ({"padding": (5,)}, "padding must be two whole numbers"),
    ({"padding": (6, 5)}, r"padding must be two whole numbers 0 <= least <= most; got \(6, 5\)"),
    ({"max_translation": 73}, "max_translation must be at most 72"),
    ({"max_translation": 0}, "max_translation must be at least 1"),
    ({"final_seq_length": 4.5}, "final_seq_length must be a whole number"),
    ({"corr_noise_scale": -1.0}, "corr_noise_scale must be at least 0"),
    ({"seed": -1}, "[Ss]eed"),
])
def test_bad_recipes(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        mnist1d(**change)

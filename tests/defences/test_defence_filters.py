"""Every defence by itself: closed forms, the box, gradients, and images that keep to themselves."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from blindspots import BlindspotsError
from blindspots.defences import (
    DEFENCES,
    JPEG,
    BitDepth,
    Closing,
    Defence,
    GaussianBlur,
    LowPass,
    MeanBlur,
    MedianBlur,
    Opening,
)
from blindspots.defences.defence import straight_through
from blindspots.noise import key, uniform

EVERY: list[Defence] = [
    *(kind() for kind in DEFENCES.values()),
    MeanBlur(5), GaussianBlur(0.5), MedianBlur(5), Opening(5), Closing(5), BitDepth(1), JPEG(30, "pillow"),
    LowPass(0.2),
]  # fmt: skip
EACH = pytest.mark.parametrize("defence", EVERY, ids=str)
LINEAR = pytest.mark.parametrize("defence", [MeanBlur(), MeanBlur(5), GaussianBlur(), LowPass(0.4)], ids=str)


def pictures(count: int = 4, channels: int = 3, height: int = 16, width: int = 13) -> torch.Tensor:
    """Smooth images with edges, and some values at the ends of the range."""
    draw = uniform(key(3, torch.arange(count)), (channels, 4, 4), torch.float64)
    return (torch.nn.functional.interpolate(draw, (height, width), mode="bicubic") * 1.4 - 0.2).clamp(0, 1)


def test_table_names_every_defence_by_its_own_name() -> None:
    assert set(DEFENCES) == {
        "mean-blur", "gaussian-blur", "median", "opening", "closing", "bit-depth", "jpeg", "low-pass",
    }  # fmt: skip
    for name, kind in DEFENCES.items():
        assert kind.name == name
        assert kind.summary
        assert kind.__doc__


@EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_shape_dtype_and_box(defence: Defence, dtype: torch.dtype) -> None:
    for images in (pictures(), pictures(2, 1, 8, 8), torch.ones(1, 1, 9, 9), torch.zeros(1, 3, 8, 11)):
        given = images.to(dtype)
        kept = given.clone()
        out = defence(given)
        assert out.shape == given.shape
        assert out.dtype == dtype
        assert out.min() >= 0
        assert out.max() <= 1
        assert torch.equal(given, kept), "the images themselves are left alone"


@EACH
def test_constant_images_stay(defence: Defence) -> None:
    """The blurs, the median, morphology and the low pass exactly; a codec and fewer levels to their next level."""
    for level in (0.0, 64 / 255, 1.0):
        images = torch.full((1, 1, 16, 16), level, dtype=torch.float64)
        slack = {"bit-depth": 0.5 / (2 ** getattr(defence, "bits", 8) - 1), "jpeg": 13 / 255}.get(defence.name, 1e-12)
        assert (defence(images) - images).abs().max() <= slack
        assert defence(images).max() - defence(images).min() <= 1e-12


@EACH
def test_gradients_flow_and_are_finite(defence: Defence) -> None:
    """On black and white images too, where a clamp or a tie might swallow them."""
    for images in (pictures(), torch.ones(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)):
        leaf = images.clone().requires_grad_()
        weights = uniform(key(4, torch.arange(len(images))), tuple(images.shape[1:]), torch.float64)
        (slope,) = torch.autograd.grad((defence(leaf) * weights).sum(), leaf)
        assert slope.isfinite().all()
        assert slope.flatten(1).any(1).all()


@EACH
def test_images_keep_to_themselves(defence: Defence) -> None:
    images = pictures(5)
    whole = defence(images)
    for rows in ([3], [4, 0], [2, 2, 1]):
        torch.testing.assert_close(defence(images[rows]), whole[rows], rtol=0, atol=1e-12)


@EACH
def test_channels_keep_to_themselves_but_for_jpeg(defence: Defence) -> None:
    images = pictures()
    if defence.name != "jpeg":
        torch.testing.assert_close(defence(images)[:, 1:2], defence(images[:, 1:2]), rtol=0, atol=1e-12)


@LINEAR
def test_impulses_of_linear_filters_sum_to_one(defence: Defence) -> None:
    """Inside the image; the low pass everywhere. Linear: the answer to a sum is the sum of the answers."""
    impulse = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    impulse[..., 7, 6] = 1
    # On grey, so that ringing stays in the box.
    answer = defence(0.5 + 0.1 * impulse) - 0.5
    assert float(answer.sum()) == pytest.approx(0.1)
    images = pictures(1, 1, 15, 15) * 0.3 + 0.3
    torch.testing.assert_close(defence(images + 0.1 * impulse), defence(images) + answer)


def test_mean_and_gaussian_by_hand() -> None:
    impulse = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    impulse[..., 4, 4] = 1
    expected = torch.zeros(9, 9, dtype=torch.float64)
    expected[3:6, 3:6] = 1 / 9
    torch.testing.assert_close(MeanBlur()(impulse)[0, 0], expected)
    answer = GaussianBlur(1.0)(impulse)[0, 0]
    assert float(answer[4, 6] / answer[4, 4]) == pytest.approx(np.exp(-2))
    assert float(answer[3, 6] / answer[4, 4]) == pytest.approx(np.exp(-2.5))
    corner = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    corner[..., 0, 0] = 1
    assert float(MeanBlur()(corner)[0, 0, 0, 0]) == pytest.approx(4 / 9), "border pixels are repeated"


def test_median_is_the_median() -> None:
    images = pictures(2, 1)
    out = MedianBlur(3)(images)
    assert float(out[1, 0, 5, 6]) == float(images[1, 0, 4:7, 5:8].median())
    spots = torch.full((1, 1, 9, 9), 0.25)
    spots[..., ::4, ::4] = 1
    assert (MedianBlur(3)(spots)[..., 1:-1, 1:-1] == 0.25).all(), "single pixels vanish"


@pytest.mark.parametrize("size", [3, 5])
def test_opening_and_closing(size: int) -> None:
    """opening(x) <= x <= closing(x), each idempotent, and dual: closing(x) = 1 - opening(1 - x)."""
    images = uniform(key(8, torch.arange(4)), (2, 12, 11), torch.float64)
    opening, closing = Opening(size), Closing(size)
    assert (opening(images) <= images).all()
    assert (images <= closing(images)).all()
    assert torch.equal(opening(opening(images)), opening(images))
    assert torch.equal(closing(closing(images)), closing(images))
    torch.testing.assert_close(closing(images), 1 - opening(1 - images), rtol=0, atol=1e-15)
    line = torch.zeros(1, 1, 9, 9)
    line[..., 4] = 1
    assert not opening(line).any(), "a line thinner than the square vanishes"
    assert torch.equal(closing(1 - line), torch.ones(1, 1, 9, 9))


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_has_its_levels(bits: int) -> None:
    ramp = torch.linspace(0, 1, 4096, dtype=torch.float64).view(1, 1, 64, 64)
    out = BitDepth(bits)(ramp)
    assert len(out.unique()) == 2**bits
    assert (out - ramp).abs().max() <= 0.5 / (2**bits - 1) + 1e-12
    assert torch.equal(BitDepth(bits)(out), out)


def test_low_pass_keeps_waves_below_and_drops_those_above() -> None:
    place = (torch.arange(16, dtype=torch.float64) + 0.5) * torch.pi / 16
    for frequency, stays in ((0, True), (3, True), (7, True), (8, False), (15, False)):
        images = (0.5 + 0.4 * torch.cos(frequency * place)).expand(1, 1, 16, 16)
        expected = images if stays else torch.full_like(images, 0.5)
        torch.testing.assert_close(LowPass(0.5)(images), expected)
    images = pictures()
    torch.testing.assert_close(LowPass(1.0)(images), images)


def photo(channels: int, height: int, width: int) -> torch.Tensor:
    whole = pictures(3, channels, height, width) * 0.8 + 0.1
    return (whole + 0.1 * uniform(key(6, torch.arange(3)), (channels, height, width), torch.float64)).clamp(0, 1)


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 13, 17), (3, 32, 32), (3, 33, 47)], ids=str)
def test_jpeg_is_what_pillow_writes(shape: tuple[int, int, int], quality: int) -> None:
    """Computed with tensors, the codec differs from real files by single roundings: less than three quarters of a
    level of 255 on average, and a fifth of the values by two levels or more."""
    images = photo(*shape)
    value = (images[1] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(value.squeeze(2) if shape[0] == 1 else value).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(file)).reshape(value.shape)).permute(2, 0, 1).double() / 255
    real, computed = JPEG(quality, "pillow")(images), JPEG(quality)(images)
    assert torch.equal(real[1], expected)
    apart = (real - computed).abs() * 255
    assert float(apart.mean()) < 0.75
    assert float((apart > 1.5).double().mean()) < 0.2
    assert apart.mean() < 0.35 * (real - images).abs().mean() * 255 or quality >= 95


def test_jpeg_of_flat_images_is_exact() -> None:
    """Means that lie half-way between two steps are rounded like the reference codec's."""
    images = (torch.arange(256, dtype=torch.float64) / 255).view(-1, 1, 1, 1).expand(256, 1, 8, 8)
    for quality in (10, 50, 90):
        assert torch.equal(JPEG(quality)(images), JPEG(quality, "pillow")(images))


def test_jpeg_gradient_is_nearly_that_of_the_image_itself() -> None:
    """At quality 100 almost nothing is lost, so the gradient through the codec is close to the identity's."""
    images = photo(1, 16, 16).requires_grad_()
    weights = uniform(key(7, torch.arange(3)), (1, 16, 16), torch.float64) - 0.5
    for codec in ("dct", "pillow"):
        (slope,) = torch.autograd.grad((JPEG(100, codec)(images) * weights).sum(), images)
        torch.testing.assert_close(slope, weights)


def test_straight_through_is_the_value_with_another_gradient() -> None:
    x = torch.tensor([0.3, 0.7], requires_grad=True)
    value = straight_through(x.detach().round(), 3 * x)
    assert value.tolist() == [0.0, 1.0]
    assert torch.autograd.grad(value.sum(), x)[0].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MeanBlur(4), "MeanBlur.size must be an odd number of pixels such as 3 or 5, got 4"),
        (lambda: MedianBlur(-1), "MedianBlur.size must be an odd number"),
        (lambda: Opening(True), "Opening.size must be an odd number"),
        (lambda: Closing(0), "Closing.size must be an odd number"),
        (lambda: GaussianBlur(0), "GaussianBlur.sigma must be above 0, got 0"),
        (lambda: BitDepth(0), "BitDepth.bits must be at least 1, got 0"),
        (lambda: BitDepth(9), "BitDepth.bits must be at most 8, got 9"),
        (lambda: BitDepth(2.5), "BitDepth.bits must be a whole number, got 2.5"),
        (lambda: JPEG(0), "JPEG.quality must be at least 1, got 0"),
        (lambda: JPEG(101), "JPEG.quality must be at most 100, got 101"),
        (lambda: JPEG(codec="turbo"), "JPEG.codec must be one of dct, pillow, got 'turbo'"),
        (lambda: LowPass(0), "LowPass.keep must be above 0, got 0"),
        (lambda: LowPass(1.5), "LowPass.keep is a share and must be at most 1, got 1.5"),
        (lambda: JPEG()(torch.zeros(1, 2, 8, 8)), r"JPEG takes grey images \(1 channel\) or colour .* got 2 channels"),
    ],
)
def test_mistakes_are_told_in_a_sentence(build, message: str) -> None:
    with pytest.raises(BlindspotsError, match=message):
        build()

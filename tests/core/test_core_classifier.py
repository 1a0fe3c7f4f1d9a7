"""The classifier: what it accepts and refuses, normalisation, probabilities, mixed precision, identity."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import BIM, FGSM, PGD, BlindspotsError, Classifier, Perturbation

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.1, 0.25)


def three_channels() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4)).double().eval()


def refused(call: Any) -> str:
    with pytest.raises(BlindspotsError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_normalisation_inside_leaves_radii_in_pixel_units() -> None:
    """Trap 47: a model with mean and std, and the same model with both folded into its weights, give the same "
    "attack."""
    net, folded = three_channels(), three_channels()
    mean, std = torch.tensor(MEAN).double(), torch.tensor(STD).double()
    with torch.no_grad():
        folded.load_state_dict(net.state_dict())
        folded[0].weight /= std.view(1, 3, 1, 1)
        folded[0].bias -= (folded[0].weight * mean.view(1, 3, 1, 1)).sum((1, 2, 3))
    images = torch.rand(6, 3, 8, 8, dtype=torch.float64)
    inside, outside = Classifier(net, mean=MEAN, std=STD, batch=4), Classifier(folded, batch=4)
    torch.testing.assert_close(inside.logits(images), outside.logits(images), rtol=0, atol=1e-5)
    labels = inside.logits(images).argmax(1)
    for attack in (PGD(0.02, steps=5), PGD(0.3, norm="l2", steps=5)):
        one, two = attack(inside, images, labels), attack(outside, images, labels)
        assert torch.equal(one.success, two.success)
        torch.testing.assert_close(one.images, two.images, rtol=0, atol=1e-5)
        assert (one.size[attack.norm] <= float(attack.radius) * (1 + 1e-6)).all()


def test_a_model_of_0_to_255_is_attacked_in_units_of_1() -> None:
    """Trap 47: scaling to 0-255 is a normalisation with std 1/255."""
    net = three_channels()

    class Bytes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x / 255)

    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3])
    one = FGSM("8/255")(Classifier(net, batch=4), images, labels)
    scaled = Classifier(Bytes(), mean=[0.0] * 3, std=[1 / 255] * 3, batch=4)
    scaled.dtype = torch.float64
    two = FGSM("8/255")(scaled, images, labels)
    torch.testing.assert_close(one.images, two.images, rtol=0, atol=1e-9)


def test_one_mean_for_all_channels() -> None:
    net, images = three_channels(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    one = Classifier(net, mean=[0.5], std=[0.25], batch=2).logits(images)
    torch.testing.assert_close(one, Classifier(net, mean=[0.5] * 3, std=[0.25] * 3, batch=2).logits(images))


BAD_IMAGES = [
    (torch.rand(2, 1, 8, 8) * 255, "images must lie in [0, 1], got values from"),
    (torch.rand(2, 1, 8, 8) * 4 - 2, "images must lie in [0, 1], got values from"),
    (
        torch.ones(2, 1, 8, 8, dtype=torch.uint8),
        "images must be a float tensor (B, C, H, W) in [0, 1], got torch.uint8 of shape (2, 1, 8, 8)",
    ),
    (torch.rand(1, 8, 8), "images must be a float tensor (B, C, H, W) in [0, 1], got torch.float32 of shape (1, 8, 8)"),
    (torch.rand(2, 64), "images must be a float tensor (B, C, H, W) in [0, 1], got torch.float32 of shape (2, 64)"),
    ([[0.5]], "images must be a float tensor (B, C, H, W) in [0, 1], got list"),
    (torch.rand(0, 1, 8, 8), "there are no images: got a tensor of shape (0, 1, 8, 8)"),
    (torch.full((1, 1, 8, 8), float("nan")), "images hold NaN or infinite values: pixels must be numbers in [0, 1]"),
    (torch.full((1, 1, 8, 8), float("inf")), "images hold NaN or infinite values: pixels must be numbers in [0, 1]"),
]


@pytest.mark.parametrize(("images", "sentence"), BAD_IMAGES, ids=range(len(BAD_IMAGES)))
def test_bad_images_are_refused(conv, images: Any, sentence: str) -> None:
    """Trap 19; also by an attack."""
    model = Classifier(conv(), classes=5, batch=2)
    assert refused(lambda: model.logits(images)).startswith(sentence)
    assert refused(lambda: FGSM(0.1)(model, images, torch.tensor([0, 1]))).startswith(sentence)


def test_rounding_outside_the_box_is_clamped() -> None:
    model = Classifier(nn.Flatten(), classes=4, batch=2)
    images = torch.tensor([[[[-5e-7, 1 + 5e-7], [0.5, 0.25]]]])
    assert model.logits(images).flatten().tolist() == [0.0, 1.0, 0.5, 0.25]
    refused(lambda: model.logits(images + 2e-6))


def test_too_large_values_say_what_to_do(conv) -> None:
    sentence = refused(lambda: Classifier(conv(), batch=1).logits(torch.full((1, 1, 8, 8), 128.0)))
    assert sentence == (
        "images must lie in [0, 1], got values from 128 to 128: divide 0-255 images by 255, and give "
        "the normalisation to the classifier (mean, std) instead of applying it to the images"
    )


IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
GOOD = torch.tensor([0, 1, 2])
BAD_CALLS = [
    ({"labels": torch.tensor([0, 1])}, "labels must be one an image: got 2 for 3 images"),
    (
        {"labels": torch.tensor([0, 1, 5])},
        "labels must be from 0 to 4, the classes of this model; got values from 0 to 5",
    ),
    (
        {"labels": torch.tensor([0.0, 1.0, 2.0])},
        "labels must be a vector of whole numbers, one an image, got torch.float32 of shape (3,)",
    ),
    ({"labels": [0, 1, 2]}, "labels must be a tensor (B,) of classes or the word 'predicted', got list"),
    ({"labels": None}, "labels must be a tensor (B,) of classes or the word 'predicted', got NoneType"),
    ({"labels": "mine"}, "labels must be a tensor or the word 'predicted', got 'mine'"),
    (
        {"targets": GOOD},
        "targets must differ from the labels, but 3 of 3 are equal: leave those images out or choose other targets",
    ),
    (
        {"targets": 1},
        "targets must differ from the labels, but 1 of 3 are equal: leave those images out or choose other targets",
    ),
    ({"targets": 5}, "targets must be from 0 to 4, the classes of this model; got values from 5 to 5"),
    ({"targets": torch.tensor([1])}, "targets must be one an image: got 1 for 3 images"),
    (
        {"targets": [1, 2, 3]},
        "targets must be a tensor (B,) of classes, one class, or one of random, least-likely, second, all, got list",
    ),
    (
        {"targets": "least_likely"},
        "unknown target rule 'least_likely': did you mean 'least-likely'? known: all, least-likely, random, second",
    ),
    ({"index": torch.tensor([1, 2])}, "index must hold one whole number an image, got torch.int64 of shape (2,)"),
    ({"index": torch.rand(3)}, "index must hold one whole number an image, got torch.float32 of shape (3,)"),
    ({"index": [1, 2, 3]}, "index must be a tensor (B,) of whole numbers, got list"),
    ({"population": 0}, "population must be at least 1, got 0"),
    ({"population": -3}, "population must be at least 1, got -3"),
    ({"budget": 1}, "Budget.forwards must be at least 2, got 1"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD_CALLS, ids=[s for _, s in BAD_CALLS])
def test_bad_calls_are_refused(conv, call: dict[str, Any], sentence: str) -> None:
    """Traps 41, 43, 50: no labels are never guessed, targets never equal the label."""
    arguments = {"labels": GOOD, **call}
    assert refused(lambda: PGD(0.1)(Classifier(conv(), batch=2), IMAGES, **arguments)) == sentence


def test_labels_must_be_given(conv) -> None:
    with pytest.raises(TypeError):
        PGD(0.1)(Classifier(conv(), batch=2), IMAGES)


class Answers(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x.flatten(1)[:, 0], "the model must answer 2 images with logits (2, K), got (2,)"),
        (lambda x: (x, x), "the model must answer 2 images with logits (2, K), got tuple"),
        (lambda x: x.flatten(1)[:1], "the model must answer 2 images with logits (2, K), got (1, 64)"),
        (lambda x: x.flatten(1)[:, :1], "the model answers with 1 classes, expected at least 2"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer: Any, sentence: str) -> None:
    assert refused(lambda: Classifier(Answers(answer), batch=2).logits(IMAGES)) == sentence


def test_wrong_number_of_classes_is_refused(conv) -> None:
    sentence = "the model answers with 5 classes, expected 10"
    assert refused(lambda: Classifier(conv(), classes=10, batch=2).logits(IMAGES)) == sentence


BAD_WRAPPERS = [
    (lambda net: Classifier(lambda x: x), "a model must be a torch.nn.Module, got function"),
    (lambda net: Classifier(net, mean=[0.5]), "mean and std come together: give both or neither"),
    (lambda net: Classifier(net, mean=[0.5], std=[0.0]), "std must be above 0 in every channel, got (0.0,)"),
    (
        lambda net: Classifier(net, mean=[0.5, 0.5], std=[1.0]),
        "mean has 2 channels and std has 1: give one number a channel",
    ),
    (lambda net: Classifier(net, batch=0), "batch must be at least 1, got 0"),
    (lambda net: Classifier(net, amp="float8"), "amp must be bfloat16, float16 or nothing, got 'float8'"),
    (
        lambda net: Classifier(net, outputs="scores"),
        "outputs must be 'logits' or 'probabilities', got 'scores'",
    ),
    (
        lambda net: Classifier(net, mean=[0.5] * 3, std=[1.0] * 3, batch=1).logits(IMAGES),
        "images have 1 channels, but mean and std have 3",
    ),
    (
        lambda net: bs.classifier(net, weights="w.pt"),
        "weights go with a model given by name; load them into the module before wrapping it",
    ),
]


@pytest.mark.parametrize(("make", "sentence"), BAD_WRAPPERS, ids=[s for _, s in BAD_WRAPPERS])
def test_impossible_wrappers_are_refused(conv, make: Any, sentence: str) -> None:
    assert refused(lambda: make(conv())) == sentence


def test_a_missing_device_is_refused(conv) -> None:
    assert refused(lambda: Classifier(conv(), device="cuda:99")).endswith("use 'cpu' or 'auto'")
    assert refused(lambda: Classifier(conv(), device="gpu")).startswith("device 'gpu' cannot be used here")


def test_a_classifier_goes_through_the_front_door_unchanged(conv) -> None:
    model = Classifier(conv(), batch=2)
    assert bs.classifier(model) is model


def test_probabilities_as_outputs_are_attacked_as_their_logarithm(victim) -> None:
    """Trap 40: with outputs="probabilities" the attack is that of the logits; a probability of 0 gives no NaN."""
    net = victim.module()
    soft = nn.Sequential(net, nn.Softmax(1))
    plain = BIM(0.04, steps=4)(Classifier(net, batch=4), victim.images, victim.labels)
    logged = BIM(0.04, steps=4)(Classifier(soft, batch=4, outputs="probabilities"), victim.images, victim.labels)
    assert torch.equal(plain.success, logged.success)
    torch.testing.assert_close(plain.images, logged.images, rtol=0, atol=1e-9)
    assert not logged.flags
    certain = Classifier(Answers(lambda x: x.flatten(1)[:, :2].round()), batch=2, outputs="probabilities")
    assert torch.isfinite(certain.logits(IMAGES)).all()


def test_nan_everywhere_is_an_error_and_nan_somewhere_is_a_mistake(conv) -> None:
    """One image with NaN logits counts as wrong, whatever its label, is no success and spoils no other image."""
    net = conv().double()

    def answer(x: Tensor) -> Tensor:
        return torch.where((x[:, :, :1, 0] > 0.7).view(-1, 1), float("nan"), net(x))

    images = torch.rand(5, 1, 8, 8, dtype=torch.float64) * 0.9
    images[:, 0, 0, 0] = 0.3
    images[2, 0, 0, 0] = 1.0  # no attack of this radius leaves the region of NaN, or enters it
    labels = net(images).argmax(1)
    labels[2] = 0  # what argmax answers for a row of NaN
    model = Classifier(Answers(answer), batch=2, classes=5)
    model.dtype = torch.float64
    results = [PGD(0.05, steps=3)(model, images, labels, population=p) for p in (None, 1, 2)]
    for result in results:
        assert not result.success[2]
        assert result.clean_correct.tolist() == [True, True, False, True, True]
        assert [flag.code for flag in result.flags][:1] == ["bad-outputs"]
        assert torch.equal(result.images, results[0].images)
    rest = torch.tensor([0, 1, 3, 4])
    alone = PGD(0.05, steps=3)(model, images[rest], labels[rest], index=rest)
    assert torch.equal(alone.images, results[0].images[rest])
    with pytest.raises(BlindspotsError, match="answers every image with NaN or infinite logits"):
        FGSM(0.1)(model, images[2:3], labels[2:3])


@pytest.mark.parametrize(
    "attack", [PGD(0.05, steps=5), PGD(0.3, norm="l2", steps=5, keep="lowest"), BIM(0.05)], ids=str
)
def test_successes_in_mixed_precision_hold_in_float32(victim, attack) -> None:
    """Trap 48: and an image is only called wrong before the attack if it is wrong in float32."""
    images = victim.images.float()
    net = victim.module(torch.float32)
    with torch.no_grad():
        labels = net(images).argmax(1)
    model = Classifier(net, batch=4, amp="bfloat16")
    result = attack(model, images, labels)
    with torch.no_grad():
        assert (net(result.images).argmax(1) != labels)[result.success].all()
    assert result.clean_correct.all()
    assert result.success.any()
    torch.testing.assert_close(model.logits(images), net(images), rtol=1e-5, atol=1e-5)


def test_a_success_of_bfloat16_alone_is_none() -> None:
    """Logits that tie in bfloat16 (256 + 1/8 against 256) differ in float32."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[256.0] * 4, [256.125] * 4]))
    images = torch.full((2, 1, 2, 2), 0.25)
    model = Classifier(net, batch=2, amp="bfloat16", classes=2)
    result = PGD(0.01, steps=2)(model, images, torch.tensor([1, 1]))
    assert not result.success.any()
    assert result.clean_correct.all()


def test_autocast_of_the_caller_does_not_reach_in(victim) -> None:
    images = victim.images.float()
    model = victim.classifier(torch.float32)
    plain = BIM(0.04)(model, images, victim.labels)
    with torch.autocast("cpu", torch.bfloat16):
        under = BIM(0.04)(model, images, victim.labels)
        logits = model.logits(images)
    assert torch.equal(plain.images, under.images)
    assert torch.equal(logits, model.logits(images))


def test_the_hash_is_the_identity_of_the_model(conv) -> None:
    net = conv()
    first = Classifier(net).hash
    assert Classifier(copy.deepcopy(net)).hash == first
    assert Classifier(net, mean=[0.5], std=[0.5]).hash != first
    assert Classifier(net, outputs="probabilities").hash != first
    model = Classifier(net)
    with torch.no_grad():
        net.head.bias[0] += 1e-6
    assert model.hash != first
    assert Classifier(nn.Sequential(nn.Flatten(), nn.ReLU())).hash != Classifier(nn.Sequential(nn.Flatten())).hash
    norm = nn.BatchNorm2d(1)
    before = Classifier(norm).hash
    norm.running_mean += 1
    assert Classifier(norm).hash != before


def test_any_number_of_images_gives_the_same_logits(victim) -> None:
    model = victim.classifier(torch.float32)
    images = victim.images.float()
    whole = model.logits(images)
    assert whole.shape == (13, 5)
    assert not whole.requires_grad
    for count in (1, 3, 4, 5):
        assert torch.equal(model.logits(images[:count]), whole[:count])


def test_a_model_without_parameters_is_taken_in_the_default_dtype() -> None:
    model = Classifier(nn.Flatten(), batch=2)
    assert model.dtype == torch.float32
    assert str(model.device) == "cpu"
    result = FGSM(0.3)(model, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2]))
    assert result.success.dtype == torch.bool


@pytest.mark.parametrize(("classes", "pixels"), [(2, 1), (3, 2)])
def test_tiny_images_and_few_classes(linear, classes: int, pixels: int, tmp_path: Path) -> None:
    """Traps 14, 15 and 30: one pixel, two classes, every attack, loss and target rule."""
    from blindspots.attacks import ATTACKS

    net = linear(classes, pixels)
    images = torch.rand(3, 1, 1, pixels, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    bending = ("stadv", "affine", "flow-ball")
    fitted = Perturbation(torch.full((1, 1, pixels), 0.2), "linf", "0.2", "test").save(tmp_path / "v.safetensors")
    for name in bending:
        with pytest.raises(BlindspotsError, match="at least 2 pixels"):
            ATTACKS[name](0.2)(Classifier(net, batch=2), images, labels)
    drawing = ATTACKS["style"](0.2, path=str(Path(__file__).parents[1] / "laws" / "style.safetensors"), draws=3)
    with pytest.raises(BlindspotsError, match=r"of shape \(1, 8, 8\)"):
        drawing(Classifier(net, batch=2), images, labels)
    for kind in (kind for name, kind in ATTACKS.items() if name not in (*bending, "style")):
        for norm in kind.norms:
            settings = {"norm": norm} if "norm" in kind.__dataclass_fields__ else {}
            losses = get_args(get_type_hints(kind)["loss"]) if "loss" in kind.__dataclass_fields__ else (None,)
            for loss in losses:
                chosen = {**settings, **({"loss": loss} if loss else {})}
                if kind.name == "perturbation":
                    chosen["path"] = str(fitted)
                few = {"steps": 3, "queries": 12, "draws": 4, "rounds": 2}
                chosen |= {name: value for name, value in few.items() if name in kind.__dataclass_fields__}
                for targets in (None, "random", "least-likely", "second", "all"):
                    result = kind(1 if norm == "l0" else 0.2, **chosen)(
                        Classifier(net, batch=2), images, labels, targets=targets
                    )
                    assert torch.isfinite(result.images).all()
                    assert len(result) == (3 if targets != "all" else 3 * (classes - 1))


def test_saturated_pixels_can_move(linear) -> None:
    """Trap 8: images of zeros and ones only are attacked like any others."""
    net = linear(3, 16)
    images = (torch.rand(8, 1, 4, 4) > 0.5).double()
    labels = net(images).argmax(1)
    result = PGD(0.9, steps=10)(Classifier(net, batch=4), images, labels)
    assert result.success.all()

"""Law 2: a success is real. Everything that is reported is derived again here from the stored images."""

from __future__ import annotations

import pytest
import torch
from law_table import CASES, RADII, Case

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def measured(images: torch.Tensor, clean: torch.Tensor) -> dict[str, torch.Tensor]:
    change = (images.double() - clean.double()).flatten(1)
    return {
        "linf": change.abs().amax(1),
        "l2": change.square().sum(1).sqrt(),
        "l1": change.abs().sum(1),
        "l0": (change != 0).sum(1).double(),
    }


@DTYPES
@pytest.mark.parametrize("case", CASES, ids=str)
def test_result_holds_when_derived_again(victim, case: Case, dtype: torch.dtype) -> None:
    """Traps 2, 3, 21, 22, 42, 44, 45: box, radius, sizes, predictions in other batch sizes, images wrong before."""
    clean = victim.images.to(dtype)
    result = case.attack(victim.classifier(dtype), clean, victim.labels, index=victim.index, targets=case.targets)
    assert result.images.shape == clean.shape
    assert result.images.dtype == dtype
    assert ((result.images >= 0) & (result.images <= 1)).all()

    sizes = measured(result.images, clean)
    used = sizes[case.norm] if case.norm in sizes else result.size[case.norm]
    assert (used <= RADII[case.norm] * (1 + 1e-6)).all()
    for norm, size in sizes.items():
        torch.testing.assert_close(result.size[norm], size, rtol=1e-12, atol=0)

    module = victim.module(dtype)
    with torch.no_grad():
        logits = module(result.images)
        alone = torch.cat([module(image[None]) for image in result.images])
    assert torch.equal(result.prediction, logits.argmax(1))
    assert torch.equal(result.prediction, alone.argmax(1))
    torch.testing.assert_close(result.confidence, logits.softmax(1).amax(1))
    if case.targets is None:
        assert torch.equal(result.success, result.prediction != victim.labels)
    else:
        assert torch.equal(result.success, result.prediction == result.targets)
        assert (result.targets != victim.labels).all()
    assert torch.equal(result.margin < 0, result.success)
    assert torch.equal(result.clean_correct, ~victim.wrong)

    done = result.success & (result.clean_prediction == result.prediction)
    if case.targets is None:
        assert torch.equal(done, victim.wrong)
    assert torch.equal(result.images[done], clean[done])
    for counter in (result.steps, result.backwards, result.size["linf"]):
        assert not counter[done].any()
    assert (result.forwards[done] == 2).all(), "one to see that it is wrong, one to verify it"
    assert torch.equal(result.clean_prediction, module(clean).argmax(1))


@pytest.mark.parametrize("case", [c for c in CASES if c.targets is None], ids=str)
def test_the_best_failure_is_no_worse_than_the_image(victim, case: Case) -> None:
    """Where there is no success, what is returned has no higher loss than the clean image."""
    result = case.attack(victim.classifier(), victim.images, victim.labels, index=victim.index)
    failed = ~result.success
    with torch.no_grad():
        before = victim.module()(victim.images)
    loss = torch.nn.functional.cross_entropy
    if getattr(case.attack, "loss", "margin") == "ce":
        kept = loss(victim.module()(result.images), victim.labels, reduction="none")
        assert (kept[failed] >= loss(before, victim.labels, reduction="none")[failed]).all()
    elif getattr(case.attack, "loss", "margin") == "margin":
        own = before.gather(1, victim.labels[:, None]).squeeze(1)
        margin = own - before.scatter(1, victim.labels[:, None], float("-inf")).amax(1)
        assert (result.margin[failed] <= margin[failed]).all()


@pytest.mark.parametrize("case", [c for c in CASES if c.targets is None], ids=str)
def test_given_images_are_not_written_to(victim, case: Case) -> None:
    images, labels = victim.images.clone(), victim.labels.clone()
    result = case.attack(victim.classifier(), images, labels, index=victim.index)
    assert torch.equal(images, victim.images)
    assert torch.equal(labels, victim.labels)
    result.images.zero_()
    assert torch.equal(images, victim.images), "the result shares memory with the images given"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("radius", ["1/255", "8/255", 1e-3])
def test_small_radii_hold_in_float32_on_large_images(norm: str, radius: str | float) -> None:
    """Rounding of x + delta must not carry an image out of a small ball, or true successes would be taken back."""
    from law_table import build

    from blindspots import Classifier

    images = torch.rand(4, 3, 64, 64)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 3))
    with torch.no_grad():
        logits = net(images)
        labels = logits.argmax(1)
        # The two best classes nearly tie, so that every image can be fooled within the radius.
        net[1].weight *= 1e-4
        net[1].bias.copy_(torch.tensor([0.0, 1e-7, 2e-7]))
        labels = net(images).argmax(1)
    model = Classifier(net, classes=3, batch=4)
    for keep in ("first", "lowest"):
        attack = build("pgd", norm, radius=radius, steps=5, keep=keep, restarts=1, loss="margin")
        result = attack(model, images, labels)
        assert (measured(result.images, images)[norm] <= float(attack.radius) * (1 + 1e-6)).all()
        assert torch.equal(result.success, net(result.images).argmax(1) != labels)

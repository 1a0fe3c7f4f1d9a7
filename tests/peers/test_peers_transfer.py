"""The transfer family beside torchattacks: the same images, where nothing is random."""

from __future__ import annotations

from typing import Any

import pytest
from test_peers import ours, torchattacks, trained  # noqa: F401  fixtures

from blindspots import MIFGSM

pytestmark = pytest.mark.peer

RADIUS, STEPS = 0.04, 5


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("MIFGSM", {}, {}),
        ("NIFGSM", {"momentum": "ni"}, {}),
        ("SINIFGSM", {"momentum": "ni", "transforms": "si:3"}, {"m": 3}),
    ],
)
def test_images_of_torchattacks(trained, torchattacks, name: str, options: dict[str, Any], theirs: dict) -> None:  # noqa: F811
    """Nine of ten images at least are theirs: the others had a lower loss on the way, which we keep, or slopes of 0."""
    net, images, labels = trained
    given = getattr(torchattacks, name)(net, eps=RADIUS, alpha=RADIUS / STEPS, steps=STEPS, decay=1.0, **theirs)
    made = ours(MIFGSM(RADIUS, steps=STEPS, keep="lowest", **options), trained)
    same = (made - given(images, labels)).abs().flatten(1).amax(1) <= 1e-5
    assert float(same.float().mean()) >= 0.9

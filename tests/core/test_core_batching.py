from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blindspots import BlindspotsError, Classifier
from blindspots.batching import chunks, fill, tune


@given(st.integers(0, 300), st.integers(1, 70))
def test_every_row_is_answered_once_in_order_by_full_calls(count: int, batch: int) -> None:
    """Trap 18: also the ragged last batch, which reaches back over rows that are already answered."""
    answered: list[int] = []
    for chunk in chunks(count, batch):
        rows = list(range(count))[chunk.rows]
        assert len(rows) == min(batch, count)
        assert rows[chunk.valid] == list(range(count))[chunk.new]
        answered += rows[chunk.valid]
    assert answered == list(range(count))
    assert len(list(chunks(count, batch))) == -(-count // batch)


@given(st.integers(1, 40), st.integers(1, 40))
def test_fill_repeats_up_to_the_batch(count: int, batch: int) -> None:
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)
    filled = fill(images, batch)
    assert len(filled) == max(count, batch)
    assert torch.equal(filled[:count], images)
    assert (filled.flatten() == torch.arange(len(filled)) % count).all()


def test_every_call_has_the_same_shape() -> None:
    seen = set()

    class Watch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(len(x))
            return x.flatten(1)

    model = Classifier(Watch(), batch=4, classes=4)
    for count in (1, 3, 4, 5, 9):
        assert torch.equal(model.logits(images := torch.rand(count, 1, 2, 2)), images.flatten(1))
    assert seen == {4}


def test_tuning_gives_a_sane_number_and_stops_where_batches_bring_nothing() -> None:
    calls: list[int] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return images.flatten(1)[:, :2] * 2

    batch = tune(forward, torch.rand(1, 1, 4, 4), torch.device("cpu"))
    assert batch in {2**k for k in range(10)}
    assert max(calls) <= 512


def test_tuning_survives_running_out_of_memory() -> None:
    def forward(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("no memory left")
        return images.flatten(1) * 2

    assert tune(forward, torch.rand(1, 1, 4, 4), torch.device("cpu")) <= 4

    def hopeless(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(BlindspotsError, match="too little memory for one image"):
        tune(hopeless, torch.rand(1, 1, 4, 4), torch.device("cpu"))


def test_models_without_a_gradient_can_be_tuned() -> None:
    assert tune(lambda images: images.detach().flatten(1), torch.rand(1, 1, 2, 2), torch.device("cpu")) >= 1

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blindspots import BlindspotsError, Classifier
from blindspots.batching import Layout, chunks, fill, padded
from blindspots.layouts import equal_shapes, tune


@given(st.integers(0, 300), st.integers(1, 70))
def test_every_row_is_answered_once_in_order_by_full_calls(count: int, batch: int) -> None:
    """Trap 18: also the ragged last batch, which reaches back over rows that are already answered."""
    answered: list[int] = []
    for chunk in chunks(count, (batch,)):
        assert chunk.shape == batch
        rows = list(range(count))[chunk.rows]
        assert len(rows) == min(batch, count)
        assert rows[chunk.valid] == list(range(count))[chunk.new]
        answered += rows[chunk.valid]
    assert answered == list(range(count))
    assert len(list(chunks(count, (batch,)))) == -(-count // batch)


@given(st.integers(0, 300), st.lists(st.integers(1, 70), min_size=1, max_size=5, unique=True))
def test_the_last_call_has_the_smallest_shape_that_does(count: int, sizes: list[int]) -> None:
    shapes = sorted(sizes, reverse=True)
    calls = list(chunks(count, shapes))
    assert sum(call.shape for call in calls) == padded(count, shapes)
    assert all(call.shape == shapes[0] for call in calls[:-1])
    answered = [row for call in calls for row in list(range(count))[call.rows][call.valid]]
    assert answered == list(range(count))
    for call in calls[-1:]:
        assert not any(call.stop - call.fresh <= shape < call.shape for shape in shapes)


def test_smaller_calls_are_taken_only_where_they_answer_the_same() -> None:
    """A module that rounds by the shape, one whose images depend on one another, one that takes its batch alone."""
    example = torch.rand(1, 1, 4, 4)

    def by_size(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        return images.flatten(1) * (1 + (len(images) < 4) * 1e-6)

    def together(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        return images.flatten(1) - images.flatten(1).mean(0)

    def fixed(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        return images.view(16, 16)

    def kinked(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        # The same logits, another gradient.
        return images.flatten(1) if len(images) > 7 else images.detach().flatten(1) + 0 * images.flatten(1)

    assert equal_shapes(by_size, example, Layout(16)) == (12, 8, 6, 4)
    assert equal_shapes(together, example, Layout(16)) == ()
    assert equal_shapes(fixed, example, Layout(16)) == ()
    assert equal_shapes(kinked, example, Layout(16)) == (12, 8)


def test_a_few_images_go_into_a_small_call() -> None:
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x.flatten(1)

    model = Classifier(Watch(), batch=8, smaller=(4, 2), classes=4)
    for count in (1, 3, 5, 8, 10):
        assert torch.equal(model.logits(images := torch.rand(count, 1, 2, 2)), images.flatten(1))
    assert seen == [2, 4, 8, 8, 8, 2]


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

    def forward(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        calls.append(len(images))
        return images.flatten(1)[:, :2] * 2

    batch = tune(forward, torch.rand(1, 1, 4, 4), torch.device("cpu")).batch
    assert batch in {2**k for k in range(10)}
    assert max(calls) <= 512


def test_tuning_survives_running_out_of_memory() -> None:
    def forward(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("no memory left")
        return images.flatten(1) * 2

    assert tune(forward, torch.rand(1, 1, 4, 4), torch.device("cpu")).batch <= 4

    def hopeless(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(BlindspotsError, match="too little memory for one image"):
        tune(hopeless, torch.rand(1, 1, 4, 4), torch.device("cpu"))


def test_models_without_a_gradient_can_be_tuned() -> None:
    layout = tune(lambda images, _: images.detach().flatten(1), torch.rand(1, 1, 2, 2), torch.device("cpu"))
    assert layout.batch >= 1


def test_channels_last_are_taken_where_they_are_faster_and_left_where_they_fail() -> None:
    def faster(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        # Work that takes a hundred times as long in the other format, whatever else the machine does.
        turns = 1 if channels_last else 100
        for _ in range(turns):
            images = images @ torch.eye(64)
        return images.flatten(1)

    def failing(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
        if channels_last:
            raise RuntimeError("view size is not compatible with input tensor's size and stride")
        return images.flatten(1)

    example = torch.rand(1, 1, 64, 64)
    assert tune(faster, example, torch.device("cpu")).channels_last
    assert not tune(faster, example, torch.device("cpu"), False).channels_last
    assert not tune(failing, example, torch.device("cpu")).channels_last


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_reach_the_module_and_change_no_answer(channels: int) -> None:
    seen: list[tuple[int, ...]] = []

    class Watched(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.stride())
            return super().forward(x).amax((2, 3))

    torch.manual_seed(0)
    module, images = Watched(channels, 5, 3), torch.rand(6, channels, 8, 8)
    logits = [Classifier(module, batch=4, channels_last=last).logits(images) for last in (False, True)]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)
    assert seen[0] == (channels * 64, 64, 8, 1)
    assert seen[-1] == (channels * 64, 1, 8 * channels, channels)

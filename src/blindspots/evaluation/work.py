"""The pieces of a run, the clean pass and each job on each shard, and how each is done and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..goal import Goal
from .carry import Carried, carried_from
from .jobs import Planned, in_turn
from .rows import Layout, job_columns, lay_out, stored_pixels
from .run import sizes_of
from .store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData
    from ..result import Result
    from .plan import Choices


@dataclass(frozen=True)
class Progress:
    """How far a run is: pieces done of all, and the piece that was just finished."""

    done: int
    total: int
    part: str
    images: int
    fooled: int
    seconds: float


class Work:
    """The pieces of a run and how each is done.

    Args:
        model, data: what is attacked.
        planned: the jobs, as the manifest describes them.
        manifest: of the run.
        path: the run directory, claimed for it.
        choices: how the run is made.
        progress: called after each piece.
    """

    def __init__(
        self,
        model: Classifier,
        data: ImageData,
        planned: Sequence[Planned],
        manifest: dict[str, Any],
        path: Path,
        choices: Choices,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.model, self.data, self.manifest = model, data, manifest
        self.attacks = {job["id"]: plan.attack for job, plan in zip(manifest["jobs"], planned, strict=True)}
        self.entries = {job["id"]: job for job in manifest["jobs"]}
        self.choices, self.progress = choices, progress
        self.store = Store(path)

    def run(self, number: int, parts: int) -> None:
        """Do what is missing of every `parts`-th shard."""
        jobs = in_turn(self.manifest["jobs"])
        shards = self.manifest["shards"][number - 1 :: parts]
        pieces = [(shard, part) for shard in shards for part in ("clean", *jobs)]
        done = sum(self.store.done(part, shard["id"]) for shard, part in pieces)
        for shard in shards:
            missing = [part for part in ("clean", *jobs) if not self.store.done(part, shard["id"])]
            if not missing:
                continue
            images, labels, index = self.data.batch(shard["start"], shard["stop"])
            clean = self._clean(shard["id"], images, labels, index, "clean" in missing)
            for part in missing:
                started = time.perf_counter()
                fooled = int((~clean["correct"]).sum())
                if part != "clean":
                    fooled = self._job(part, shard["id"], images, clean)
                done += 1
                if self.progress is not None:
                    took = time.perf_counter() - started
                    self.progress(Progress(done, len(pieces), part, len(labels), fooled, took))

    def _clean(self, shard: str, images: Tensor, labels: Tensor, index: Tensor, missing: bool) -> dict[str, Tensor]:
        started = time.perf_counter()
        logits = self.model.logits(images).cpu()
        prediction = logits.argmax(1)
        labels = prediction if self.choices.labels_from == "predictions" else labels
        finite = torch.isfinite(logits).all(1)
        columns = {
            "index": index,
            "label": labels,
            "prediction": prediction,
            "confidence": logits.softmax(1).amax(1).float(),
            "correct": (prediction == labels) & finite,
            "margin": Goal(labels).margin(logits).float(),
        }
        if missing:
            stored = None if self.choices.keep_images == "none" else images
            self.store.write_clean(shard, columns, stored, time.perf_counter() - started)
        return columns

    def _job(self, job: str, shard: str, images: Tensor, clean: dict[str, Tensor]) -> int:
        """Attack the correctly classified images of a shard with one attack, and write what happened."""
        started = time.perf_counter()
        entry, labels = self.entries[job], clean["label"]
        carried = carried_from(self.store.path, entry["carries"], shard) if "carries" in entry else None
        tried = clean["correct"]
        if isinstance(self.choices.targets, int):
            # An image of the target class has nowhere to go; it is left alone and stays correct.
            tried = tried & (labels != self.choices.targets)
        per_image = self.manifest["model"]["classes"] - 1 if self.choices.targets == "all" else 1
        layout = lay_out(tried, per_image, carried)
        result = self._attack(job, images, clean, tried, layout, carried) if bool(layout.asked.any()) else None
        columns = job_columns(
            layout, labels, clean["index"], clean, result, carried, sizes_of(entry), "members" in entry
        )
        keep = layout.attacked.clone()
        if self.choices.keep_images == "fooled":
            keep &= columns["success"]
        elif self.choices.keep_images == "none":
            keep[:] = False
        shape = tuple(images.shape[1:])
        pixels = stored_pixels(
            layout, keep, None if result is None else result.images, None if carried is None else carried.images, shape
        )
        flow, before = None if result is None else result.flow, None if carried is None else carried.flows
        bent = flow is not None or before is not None
        flows = stored_pixels(layout, keep, flow, before, (2, *shape[1:])) if bent else None
        self.store.write_job(job, shard, columns, pixels, keep, time.perf_counter() - started, flows)
        return int(columns["fooled"].sum())

    def _attack(
        self,
        job: str,
        images: Tensor,
        clean: dict[str, Tensor],
        tried: Tensor,
        layout: Layout,
        carried: Carried | None,
    ) -> Result:
        """The result for the rows asked, on the CPU."""
        chosen: Tensor = tried
        targets: Tensor | str | int | None = self.choices.targets
        if carried is not None:
            # The targets are those of the smaller radius, so each row is asked for by itself.
            chosen = layout.image[layout.asked]
            targets = None if targets is None else carried.columns["target"][layout.asked]
        result = self.attacks[job](
            self.model,
            images[chosen],
            clean["label"][chosen],
            targets=targets,
            index=clean["index"][chosen],
            seed=self.choices.seed,
            budget=self.choices.budget,
        )
        return result.to("cpu")

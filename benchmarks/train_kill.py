"""kill -9 at random moments of an adversarial training, then the same command again: are the weights the same?

The moments are uniform over the time that an undisturbed training takes, from its first checkpoint on: what is killed
before it begins anew. The training has state of every kind: momentum, batch normalisation, a moving average,
augmentation, a kept perturbation (method free) in one half of the runs, and PGD with alarms in the other. Model,
metrics and result are compared byte for byte.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path

from .kill import killed
from .measure import Figure, blindspots_command, checked, child, counted

KILLS = 10
FILES = ("model.safetensors", "metrics.jsonl", "result.json")
COMMON = """--data digits --network resnet8 --epochs 16 --batch 32 --optimiser sgd --learning-rate 0.05
    --augmentation shift --ema 0.9 --validation 0.2 --checkpoint-seconds 0.2 --threads 1 --device cpu"""
METHODS = (
    "--method free --method-settings radius 0.1 replays 2 --watch 0",
    "--method pgd --method-settings radius 0.1 steps 2 --watch 32 --watch-steps 2",
)


def run(quick: bool) -> list[Figure]:
    kills = 2 if quick else KILLS
    # Not seeded: each time the moments are others, and the record says which.
    draw, same, late = random.SystemRandom(), 0, 0
    moments: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        whole = []
        for number, method in enumerate(METHODS):
            out = Path(name) / f"whole{number}"
            checked(child(_command(method, out)))
            epochs = (out / "timing.jsonl").read_text().splitlines()
            whole.append((sum(json.loads(line)["seconds"] for line in epochs), _files(out)))
        while len(moments) < kills:
            number = len(moments) % len(METHODS)
            seconds, expected = whole[number]
            moment, out = draw.uniform(0, seconds), Path(name) / "killed"
            shutil.rmtree(out, ignore_errors=True)
            if not killed(_command(METHODS[number], out), moment, out / "checkpoint.pt"):
                late += 1
                continue
            checked(child(_command(METHODS[number], out)))
            got = _files(out)
            differing = [file for file in FILES if got[file] != expected[file]]
            same += not differing
            moments.append({"seconds": round(moment, 3), "of": round(seconds, 3), "differing": differing})
    return [
        counted("killed and resumed trainings with identical weights", same, kills, f" of {kills}", moments=moments,
                ended_before=late),
    ]  # fmt: skip


def _command(method: str, out: Path) -> list[str]:
    return [*blindspots_command(), "train", *COMMON.split(), *method.split(), "--out", str(out)]


def _files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}

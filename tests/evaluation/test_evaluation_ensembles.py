"""Ensembles in runs: rows and summary say which attack decided each image, and what each added."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console

from blindspots import Classifier, Run, evaluate
from blindspots.config import make_attacks, parse_attack
from blindspots.data import dataset
from blindspots.report.terminal import print_summary


def test_a_run_tells_who_decided(tmp_path: Path, conv) -> None:
    data = dataset("digits", limit=24)
    images, _, _ = data.batch(0, 24)
    model = Classifier(conv().float(), classes=5, batch=8)
    labels = model.logits(images).argmax(1)
    attacks = make_attacks([parse_attack("fgsm+pgd:steps=5"), parse_attack("fgsm")], None, ("0.05",))
    run = evaluate(model, (images, labels), attacks, out=tmp_path / "run")
    job = run.jobs[0]
    assert job["members"] == ["fgsm", "pgd:steps=5"]
    assert job["steps"] == 5, "not one step, by which red flags would go"
    assert "members" not in run.jobs[1]
    alone = attacks[0](model, images, labels)
    verdicts = run.verdicts(job["id"])
    assert verdicts.decided.tolist() == alone.decided.tolist()
    assert "decided" not in run.rows(run.job_ids[1]).column_names
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["jobs"][0]["members"] == [{"name": n, "added": c} for n, c in alone.added.items()]
    assert sum(alone.added.values()) == int(alone.success.sum()) > 0
    console = Console(width=200, record=True, file=StringIO())
    print_summary(Run(tmp_path / "run"), summary, console)
    assert f"+{alone.added['fgsm']}" in console.export_text()
    assert torch.equal(torch.tensor(verdicts.success), alone.success)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("how many images each of its attacks fooled that those before it had left") == 1
    assert f">fgsm</th><td>{alone.added['fgsm']}</td>" in page

"""Time to the verdict: on an undefended network every image falls, and blindspots stops an image at its first success.

The others run all steps. Equal radius (0.3 in linf), steps, step size and random start. The fastest of them in each
round is compared, once with the images as the caller has them and once cut by hand into the model batch that
blindspots chose. Each run is measured in units of a bare gradient, timed in between its own model calls.
"""

from __future__ import annotations

from statistics import median

import blindspots as bs

from .measure import Figure, at_least, information
from .peers import GIVEN, race, ratios
from .subjects import conv_net

RADIUS, STEPS = 0.3, 40


def run(quick: bool) -> list[Figure]:
    subject = conv_net().head(64) if quick else conv_net()
    runs, layout = race(subject, bs.PGD(RADIUS, steps=STEPS, step_size=2.5 * RADIUS / STEPS), 2 if quick else 3)
    others = {name: ratios(runs, name) for name in list(runs)[1:]}
    fastest = {
        way: [min(each) for each in zip(*(v for name, v in others.items() if name.endswith(way)), strict=True)]
        for way in ("as it comes", "fed by hand")
    }
    given = others[f"blindspots, batch {GIVEN} given"]
    fooled = {name: min(r.own.value for r in each) for name, each in runs.items()}
    seconds = {name: median(r.own.wall for r in each) for name, each in runs.items()}
    fall = f"{fooled['blindspots']} of {len(subject.images)} fall"
    what = f"{subject.name}, linf {RADIUS}: {fall}, batch chosen: {layout.batch}"
    return [
        at_least(
            f"{what}; fastest other library over blindspots",
            fastest["as it comes"],
            4,
            fooled=fooled,
            seconds=seconds,
        ),
        information(
            f"the same, with a batch of {GIVEN} given to blindspots",
            [a / b for a, b in zip(fastest["as it comes"], given, strict=True)],
        ),
        information(f"the same, fed by hand in model batches of {layout.batch}", fastest["fed by hand"]),
        *(information(name, values) for name, values in others.items()),
    ]

"""Measurements of blindspots, most of them as ratios taken in one run: `python -m benchmarks [names] [--quick]`."""

import os
import warnings

# One thread, said before torch is imported: the figures are about the work done, not about how many cores share it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Other libraries warn about their own surroundings when they are imported.
warnings.filterwarnings("ignore")

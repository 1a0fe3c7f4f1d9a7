"""The IDX files of MNIST and Fashion-MNIST, plain or gzipped.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (1998), section "file formats": a
big-endian magic number (0, 0, 8 for bytes, rank), the sizes, then the bytes.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import BlindspotsError


def find_idx(folder: Path, stem: str) -> Path | None:
    """FOLDER/STEM, FOLDER/STEM.gz, or None."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """The array of bytes in an IDX file, as uint8."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BlindspotsError(f"{path} cannot be read ({error}): fetch it again") from error
    rank = data[3] if data[:3] == b"\x00\x00\x08" and len(data) > 3 else 0
    sizes = np.frombuffer(data, ">u4", count=rank, offset=4) if len(data) >= 4 + 4 * rank else np.zeros(0, ">u4")
    if not rank or len(data) != 4 + 4 * rank + int(np.prod(sizes, dtype=np.int64)):
        raise BlindspotsError(f"{path} is not a whole IDX file of bytes: fetch it again")
    # A bytearray, because a tensor over read-only memory makes torch warn.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * rank).reshape(*sizes.tolist())

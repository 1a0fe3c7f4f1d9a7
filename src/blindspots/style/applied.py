"""Images in styles, as files: one PNG for each image and style, and a page of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torchvision.utils import save_image

from ..errors import BlindspotsError
from ..studies.page import Block, Paragraph, Picture, write_page
from ..studies.pictures import grid
from .transfer import StyleTransfer

if TYPE_CHECKING:
    from ..data import ImageData


def apply(
    path: str | Path,
    data: ImageData,
    out: str | Path,
    *,
    count: int = 6,
    styles: int = 4,
    style_data: ImageData | None = None,
) -> Path:
    """Draw the first `count` images of the data in `styles` styles; the path of the page.

    Args:
        path: file of the style transfer.
        data: images of the shape it was made for.
        out: folder for INDEX-STYLE.png, 8 bits each, and style.html.
        style_data: the data whose first images are the styles; by default those in the file.

    Raises:
        BlindspotsError: images of another shape, fewer images or styles than asked for, or a folder that cannot be
            written.
    """
    transfer = StyleTransfer.load(path)
    bank = transfer.bank if style_data is None else style_data.batch(0, styles)[0]
    for what, asked, there in (("images", count, len(data)), ("styles", styles, len(bank))):
        if not 1 <= asked <= there:
            raise BlindspotsError(f"{asked} {what} are asked for, and there are {there}: ask for 1 to {there}")
    content, _, index = data.batch(0, count)
    chosen = bank[:styles]
    drawn = torch.stack([transfer(content, style.expand(len(content), -1, -1, -1)) for style in chosen], dim=1)
    cells: dict[tuple[int, int], Any] = {(0, 1 + place): style for place, style in enumerate(chosen)}
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row, number in enumerate(index.tolist()):
            cells[1 + row, 0] = content[row]
            for place in range(styles):
                cells[1 + row, 1 + place] = drawn[row, place]
                save_image(drawn[row, place], folder / f"{number}-{place}.png")
        names = ["style", *(str(number) for number in index.tolist())]
        columns = ["image", *(str(place) for place in range(styles))]
        blocks: list[Block] = [
            Paragraph(
                f"Feature network: {transfer.features.used}. The first row are the styles, the first column the images."
            ),
            Picture("styles.png", grid(cells, names, columns, set()), "Every image in every style"),
        ]
        return write_page(folder, "style", "Images in the style of others", blocks)[1]
    except OSError as error:
        raise BlindspotsError(f"'{out}' cannot be written ({error.strerror}): give another --out") from error

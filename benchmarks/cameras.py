"""Detection on photographs as other cameras would take them, simulated from real ones.

    python -m benchmarks.cameras [--fields 20] [--model MODEL]

No film of such a camera is at hand, so real photographs of TXL-PBC, Dataset A and BCCD, whose red
cells carry boxes, are enlarged or reduced, cut, and changed in colour, light and focus. Their pixel
size is not given. Printed for each camera and data set:

- recall of the labelled red cells that lie away from the border, at an IoU of 0.5;
- detections without a label, for each label;
- countable cells called spherocyte;
- fields whose diameter of a red cell differs by more than 15 % from that of the photograph as it
  is.

The photographs may have taught the model, so only differences to the first camera say something. Of
BCCD many cells have no label.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.outlines import evenly
from benchmarks.real_overlaps import NOT_RED, fields_of, opened
from spherodetect.cells import touches_border
from spherodetect.geometry import box_iou

DATA_SETS = ("txl_pbc", "dataset_a_mgg", "bccd")
#: A label that keeps a smaller part of its box after cutting is not used.
_LEAST_PART = 0.3
_BORDER_PX = 2.0
_OFF_SCALE = 0.15


@dataclass(frozen=True)
class Camera:
    """How a camera differs.

    Attributes:
        name: in words.
        cell_px: diameter of a red cell in its photographs; None leaves the size.
        size_hw: of its photographs, which are cut from the middle; None cuts nothing.
        rgb: factors of the lamp.
        base: of the full range, added after the factors, as stray light does.
        blur: standard deviation, in diameters of a red cell.
        vignette: the light that the corners lack.
        jpeg: quality; None compresses nothing.
        grey: without colour.
    """

    name: str
    cell_px: float | None = None
    size_hw: tuple[int, int] | None = None
    rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    base: float = 0.0
    blur: float = 0.0
    vignette: float = 0.0
    jpeg: int | None = None
    grey: bool = False


CAMERAS = (
    Camera("as it is"),
    Camera("phone, 575x575, cells of 135 px, soft", 135, (575, 575), blur=0.02),
    Camera(
        "phone, the same, warm, dark corners",
        135,
        (575, 575),
        (1, 0.92, 0.78),
        blur=0.02,
        vignette=0.5,
    ),
    Camera("greenish, 256x256, cells of 40 px", 40, (256, 256), (0.8, 0.95, 0.72)),
    Camera("greenish, 256x256, cells of 70 px", 70, (256, 256), (0.8, 0.95, 0.72)),
    Camera("purple, 1280x960, cells of 100 px", 100, (960, 1280), (0.86, 0.8, 0.95)),
    Camera("pale: half the contrast", 60, rgb=(0.5, 0.5, 0.5), base=0.4),
    Camera("saturated", 60, rgb=(1.25, 1.2, 1.2)),
    Camera("dark", 60, rgb=(0.45, 0.42, 0.4)),
    Camera("small: cells of 16 px", 16),
    Camera("JPEG of quality 20", jpeg=20),
    Camera("without colour", grey=True),
)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photograph with the boxes of its labels; `red` tells red cells from others."""

    image: np.ndarray
    boxes: np.ndarray
    red: np.ndarray

    @property
    def diameter_px(self) -> float:
        """The median side of the whole red cells' boxes."""
        whole = self.red & ~touches_border(self.boxes, self.image.shape[:2], margin_px=_BORDER_PX)
        sides = self.boxes[whole, 2:] - self.boxes[whole, :2]
        return float(np.median(np.sqrt(sides.prod(axis=1)))) if whole.any() else np.nan


def photographs(data_set: str, n: int) -> list[Labelled]:
    """Photographs of a data set with whole labelled red cells, evenly spaced by name."""
    fields = fields_of(data_set)
    found = []
    for file in evenly(list(fields), n):
        image, field = opened(fields[file])
        labels = [a for a in field.annotations if a.outline_box_yxyx is not None]
        one = Labelled(
            image,
            np.array([a.outline_box_yxyx for a in labels], float).reshape(-1, 4),
            np.array([a.name not in NOT_RED for a in labels], bool),
        )
        if np.isfinite(one.diameter_px):
            found.append(one)
    return found


def taken(photograph: Labelled, camera: Camera) -> tuple[Labelled, float]:
    """The photograph as the camera takes it, and the new pixels for an old one."""
    from scipy.ndimage import gaussian_filter

    image, boxes = photograph.image, photograph.boxes
    factor = camera.cell_px / photograph.diameter_px if camera.cell_px else 1.0
    if camera.cell_px:
        size = round(image.shape[1] * factor), round(image.shape[0] * factor)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        boxes = boxes * factor
    image, boxes, kept = _cut(image, boxes, camera.size_hw)
    values = image / 255.0
    if camera.grey:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    if camera.blur:
        sigma = camera.blur * photograph.diameter_px * factor
        values = gaussian_filter(values, (sigma, sigma, 0))
    values = values * camera.rgb + camera.base
    if camera.vignette:
        y, x = np.indices(values.shape[:2])
        half = np.array(values.shape[:2]) / 2
        far = ((y - half[0]) ** 2 + (x - half[1]) ** 2) / (half**2).sum()
        values = values * (1 - camera.vignette * far)[..., None]
    image = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    if camera.jpeg:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=camera.jpeg)
        image = np.asarray(Image.open(buffer))
    return Labelled(image, boxes[kept], photograph.red[kept]), factor


def _cut(
    image: np.ndarray, boxes: np.ndarray, size_hw: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The middle of an image, the boxes in it, and which of them keep enough of their area."""
    if size_hw is None:
        return image, boxes, np.ones(len(boxes), bool)
    height, width = (min(a, b) for a, b in zip(size_hw, image.shape, strict=False))
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    cut = np.clip(boxes - [y, x, y, x], 0, [height, width, height, width])
    area = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (cut, boxes)]
    return image[y : y + height, x : x + width], cut, area[0] > _LEAST_PART * area[1]


@dataclass(frozen=True)
class Found:
    """What was found in photographs of one camera and one data set."""

    n_red: int
    n_hit: int
    n_labels: int
    n_extra: int
    n_countable: int
    n_called: int
    n_fields: int
    n_off_scale: int

    def __str__(self) -> str:
        return (
            f"{self.n_hit / max(self.n_red, 1):.3f} | {self.n_extra / max(self.n_labels, 1):.2f} | "
            f"{self.n_called} of {self.n_countable} | {self.n_off_scale} of {self.n_fields}"
        )


def judge(model, shown: Sequence[tuple[Labelled, float]], usual_px: Sequence[float]) -> Found:
    """The counts over photographs.

    Args:
        shown: photographs with their new pixels for an old one.
        usual_px: the diameter of a red cell that the model found in each as it was.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros(8, int)
    for (one, factor), usual in zip(shown, usual_px, strict=True):
        cells = model.detect(np.ascontiguousarray(one.image))
        found = np.asarray(cells.box_yxyx, float).reshape(-1, 4)
        iou = box_iou(one.boxes, found)
        a, b = linear_sum_assignment(iou, maximize=True)
        hit = np.zeros(len(one.boxes), bool)
        hit[a] = iou[a, b] >= 0.5
        whole = one.red & ~touches_border(one.boxes, one.image.shape[:2], margin_px=_BORDER_PX)
        countable = np.asarray(cells.countable, bool)
        called = countable & (np.asarray(cells.names) == "spherocyte")
        off = abs(np.log(max(cells.rbc_diameter_px or 1e-9, 1e-9) / (usual * factor)))
        counts += [
            int(whole.sum()),
            int((hit & whole).sum()),
            len(one.boxes),
            len(found) - int(hit.sum()),
            int(countable.sum()),
            int(called.sum()),
            1,
            int(off > _OFF_SCALE),
        ]
    return Found(*counts.tolist())


def main(argv: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    from spherodetect import load_model

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fields", type=int, default=20, help="photographs of each data set")
    parser.add_argument("--model", help="a model folder; by default the bundled one")
    args = parser.parse_args(argv)
    model = load_model(args.model) if args.model else load_model()
    say: Callable[[str], int] = sys.stdout.write
    say("| camera | data set | red cells | recall | extra | called | off scale |\n")
    say("|---" * 7 + "|\n")
    sets = {name: photographs(name, args.fields) for name in DATA_SETS}
    usual = {
        name: [float(model.detect(one.image).rbc_diameter_px) for one in some]
        for name, some in sets.items()
    }
    for camera in CAMERAS:
        for name, some in sets.items():
            found = judge(model, [taken(one, camera) for one in some], usual[name])
            say(f"| {camera.name} | {name} | {found.n_red} | {found} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

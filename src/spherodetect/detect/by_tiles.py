"""Detects the cells of a large image tile by tile, all tiles with one scale and one grid.

Images are read through a `Region`, so that an image of any size fits into memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from spherodetect.cells import Cells
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.detect.decode import to_cells
from spherodetect.detect.frame import ESTIMATE_EVERYTHING, ESTIMATE_PREVALENCE, Frame
from spherodetect.detect.saved_graph import SavedGraph
from spherodetect.detect.tiles import (
    CORE,
    MARGIN,
    MAX_SIDE_PX,
    MIN_SIDE,
    Ownership,
    Survey,
    Tile,
    make_tiles,
    survey,
)
from spherodetect.fields.scan import LARGE_PIXELS, Region
from spherodetect.fields.strip import block_mean
from spherodetect.scale.file_metadata import FilePixelSize
from spherodetect.scale.find import FILE, GIVEN, Scale, find_scale
from spherodetect.segment import estimate_rbc_diameter_px, green_density

#: Most pixels of the network that are examined at once. The graph's own limit is twice as high;
#: tiles need less memory for the same cells.
MAX_NETWORK_PIXELS = 3_000_000
#: The largest enlargement of the graph.
_MAX_ENLARGEMENT = 3
#: Samples of a large image from which its frame is measured, and the least cells in a sample.
_SAMPLES, _MIN_SAMPLE_CELLS = 3, 10
#: Side of a sample before the size of a cell is known, and the diameter if no cell is found.
_SAMPLE_PX, _DEFAULT_DIAMETER_PX = 1024, 40.0
#: A sample counts only if its own diameter is within this factor of that of the image.
_MAX_DIAMETER_RATIO = 1.5
#: Longest side of the copy from which the diameter of an image is estimated.
_ESTIMATE_PX = 1280


@dataclass(frozen=True, eq=False)
class DetectedTile:
    """The cells of one tile of a larger image.

    Attributes:
        tile: its place in the image.
        image: (H, W, 3) uint8, the tile's window.
        cells: all cells in the window, in its pixels.
        own: (N,) bool, the cells that the tile owns. Each cell of the image has one owner.
        number, n_tiles: of this tile from 1, and of all tiles, also those of empty slide.
    """

    tile: Tile
    image: np.ndarray
    cells: Cells
    own: np.ndarray
    number: int
    n_tiles: int


def detect_tiles(
    graph: SavedGraph,
    region: Region,
    scale: Scale,
    *,
    class_names: tuple[str, ...],
    conventions: tuple[str, ...] = (),
    row: float = ESTIMATE_EVERYTHING.convention,
    field_id: str = "",
    tile_px: int | None = None,
    surveyed: Survey | None = None,
) -> Iterator[DetectedTile]:
    """The tiles of a large image with their cells, without the tiles on empty slide.

    Args:
        graph: of the model.
        region: the image.
        scale: its pixel size.
        class_names: of the model.
        conventions: names of the model's conventions.
        row: the stated convention among them; below 0 the samples decide for all tiles.
        field_id: the image's name in messages.
        tile_px: side of the tiles without their margins.
        surveyed: the result of `tiles.survey`, if it is known.
    """
    overview = surveyed or survey(region)
    frame = _measure_frame(graph, region, overview, scale, row)
    diameter = frame.scale_diameter_px
    ownership = Ownership(diameter)
    tiles = make_tiles(region.size_hw, diameter, core_px=tile_px)
    for number, tile in enumerate(tiles, 1):
        if overview.is_empty(tile.core):
            continue
        image = region.read(tile.window)
        y, x = tile.origin_yx
        tile_frame = frame.moved((-y, -x))
        if min(tile.core_hw) >= MIN_SIDE * diameter:
            # The tile is as large as the fields on which error rates were measured, and has its
            # own prevalence as they have.
            tile_frame = replace(tile_frame, prevalence_raise=ESTIMATE_PREVALENCE)
        found = graph.tile(image, scale.um_per_px, tile_frame)
        cells = to_cells(
            found,
            image.shape[:2],
            class_names,
            field_id=field_id,
            scale=scale,
            conventions=conventions,
        )
        own = ownership.of(tile, cells.box_yxyx)
        yield DetectedTile(tile, image, cells, own, number, len(tiles))


def joined(
    tiles: Iterable[DetectedTile],
    size_hw: tuple[int, int],
    class_names: tuple[str, ...],
    *,
    field_id: str,
    scale: Scale,
) -> Cells:
    """The cells of all tiles, in pixels of the whole image."""
    parts = [one.cells[one.own].moved(one.tile.origin_yx, size_hw) for one in tiles]
    if parts:
        return Cells.concatenate(parts)
    empty = Cells.empty(field_id=field_id, image_size_hw=size_hw, um_per_px=scale.um_per_px)
    masks = np.zeros((0, 28, 28), np.float32)
    return replace(empty, masks=masks, class_names=class_names, um_per_px_source=scale.source)


def scale_of_scan(
    region: Region,
    surveyed: Survey,
    um_per_px: float | None,
    file_size: FilePixelSize | None = None,
    *,
    field_id: str = "",
) -> Scale:
    """The pixel size of a slide scan: the given one, the one in its file, or unknown.

    It is compared with the scan's cells. A scan has no burnt-in scale bar.

    Args:
        region: the scan.
        surveyed: its overview.
        um_per_px: pixel size in µm that the user gives.
        file_size: pixel size in the file's metadata.
        field_id: name of the scan in error messages.

    Raises:
        SpherodetectError: a pixel size that is not possible.
    """
    if um_per_px is None and file_size is None:
        return Scale(None)
    windows = surveyed.samples(_SAMPLE_PX, region.size_hw, 1)
    sample = next((region.read(window) for window in windows), surveyed.overview)
    scale = find_scale(sample, um_per_px, file_size=file_size, field_id=field_id)
    # A bar that was found in the sample is a mistake.
    return scale if scale.source in {GIVEN, FILE} else Scale(None, warning=scale.warning)


def needs_tiles(image: np.ndarray, scale: Scale, rbc_px: float) -> bool:
    """Whether an image is too large for the network.

    Args:
        image: (H, W, 3) uint8.
        scale: its pixel size.
        rbc_px: diameter of a red cell in the network's pixels.
    """
    pixels = image.shape[0] * image.shape[1]
    if pixels > LARGE_PIXELS:
        return True
    if pixels <= MAX_NETWORK_PIXELS / _MAX_ENLARGEMENT**2:
        return False
    step = -(-max(image.shape[:2]) // _ESTIMATE_PX)
    estimate = step * estimate_rbc_diameter_px(green_density(block_mean(image, step)))
    usual = _usual_diameter_px(scale) or estimate
    diameter = usual
    if np.isfinite(estimate):
        diameter = float(
            np.clip(estimate, usual / _MAX_DIAMETER_RATIO, usual * _MAX_DIAMETER_RATIO)
        )
    # Without any cell the diameter is NaN, and the image needs no tiles.
    return bool(pixels * (rbc_px / diameter) ** 2 > MAX_NETWORK_PIXELS)


def _measure_frame(
    graph: SavedGraph, region: Region, surveyed: Survey, scale: Scale, row: float
) -> Frame:
    """The frame of the whole image, from a few samples in which cells lie side by side."""
    diameter = _usual_diameter_px(scale) or _estimate_diameter_px(region, surveyed)
    side = min(round((CORE + 2 * MARGIN) * diameter), MAX_SIDE_PX)
    frames: list[Frame] = []
    estimate = replace(ESTIMATE_EVERYTHING, convention=row)
    for window in surveyed.samples(side, region.size_hw, _SAMPLES):
        image = region.read(window)
        if not scale.um_per_px and not _is_similar(image, diameter):
            # Something else than cells would be enlarged until it has the size of cells.
            continue
        found = graph.tile(image, scale.um_per_px, estimate)
        if found["num_detections"] >= _MIN_SAMPLE_CELLS:
            frames.append(Frame.from_array(found["frame"]).moved(window[:2]))
    if not frames:
        return replace(estimate, scale_diameter_px=diameter)
    frames.sort(key=lambda frame: frame.rbc_diameter_px)
    # The prevalence is the median of all samples, because one sample has few cells.
    prevalence_raise = float(np.median([frame.prevalence_raise for frame in frames]))
    # All tiles have the convention of most samples.
    rows = [frame.convention for frame in frames]
    return replace(
        frames[len(frames) // 2],
        prevalence_raise=prevalence_raise,
        convention=max(rows, key=rows.count),
    )


def _is_similar(image: np.ndarray, diameter: float) -> bool:
    ratio = estimate_rbc_diameter_px(green_density(image)) / diameter
    return bool(1 / _MAX_DIAMETER_RATIO < ratio < _MAX_DIAMETER_RATIO)


def _usual_diameter_px(scale: Scale) -> float:
    """Diameter of a usual red cell at a pixel size; 0 if the pixel size is unknown."""
    return RBC_DIAMETER_UM / scale.um_per_px if scale.um_per_px else 0.0


def _estimate_diameter_px(region: Region, surveyed: Survey) -> float:
    """A first estimate of the red cells' diameter."""
    windows = surveyed.samples(_SAMPLE_PX, region.size_hw, _SAMPLES)
    estimates = np.array(
        [estimate_rbc_diameter_px(green_density(region.read(window))) for window in windows]
    )
    known = estimates[np.isfinite(estimates)]
    return float(np.median(known)) if known.size else _DEFAULT_DIAMETER_PX


__all__ = ["DetectedTile", "detect_tiles", "joined", "needs_tiles", "scale_of_scan"]

"""A model folder as a function: `load_model()`, `model.detect(image) -> Cells`.

Images are uint8 RGB (H, W, 3); boxes come back in their pixels. What decides class, p_spherocyte
and countable lies in the SavedModel; this module loads it, checks it and reads its answers. Model
Garden is not needed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.detect.model_folder import BUNDLED, read_card
from spherodetect.detect.tiles import (
    CORE,
    LEAST,
    MARGIN,
    MAX_SIDE_PX,
    Ownership,
    Survey,
    Tile,
    cut,
    survey,
)
from spherodetect.errors import BadModelError, SpherodetectError
from spherodetect.fields.image import read_image
from spherodetect.fields.scan import MIN_SCAN_PIXELS, Pixels, Region, Scan, is_scan
from spherodetect.photograph import Photograph
from spherodetect.safety import file_sha256, inside, quoted
from spherodetect.scale.find import Scale, find_scale
from spherodetect.scale.strip import block_mean
from spherodetect.score.rates import ClassifierRates
from spherodetect.segment import estimate_rbc_diameter_px, green_density

logger = logging.getLogger(__name__)

#: The network sees at most so many of its own pixels at once, of at most so many of the image: the
#: graph's own limit is twice as high, and by tiles the same cells take less memory.
_ONCE_NETWORK_PIXELS, _ONCE_PIXELS = 3_000_000, 16_000_000
#: Places of a large image by which its scale is decided, and how many cells one of them must show.
_SAMPLES, _ENOUGH = 3, 10
#: Side of a place that is looked at while nothing is known, and the size of a cell where none is
#: found.
_SAMPLE_PX, _DEFAULT_PX = 1024, 40.0
#: How to look at an image that tells by itself, see training/graph.py.
_AS_IT_LIES = np.array([0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


@dataclass(frozen=True, eq=False)
class SeenTile:
    """A tile of a larger image after detection.

    Attributes:
        tile: where it lies.
        image: (H, W, 3) uint8, the tile's window.
        cells: all that was found in it, in the window's pixels.
        own: (N,) bool, which of them are the tile's own; every cell of the image is one tile's.
    """

    tile: Tile
    image: np.ndarray
    cells: Cells
    own: np.ndarray


class Model:
    """A loaded model folder; safe to use from several threads, and the same at every run.

    Attributes:
        name: its name in tables.
        class_names: in the order of the class ids, from 1.
        card: model.json as it is.
        rates: sensitivity and specificity per held-out block, for the score.
    """

    def __init__(self, folder: Path, card: Mapping[str, Any], saved: Any) -> None:
        self.folder, self.card, self._saved = folder, card, saved
        self.name, self.class_names = str(card["name"]), tuple(card["class_names"])
        self.rates = ClassifierRates.from_model_json(card)
        self._detect = saved.signatures["serving_image"]

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {len(self.class_names)} classes, {str(self.folder)!r})"

    def detect(
        self,
        image: np.ndarray | Photograph,
        um_per_px: float | Scale | None = None,
        *,
        field_id: str = "",
        scale_bar_um: float | None = None,
        tile_px: int | None = None,
    ) -> Cells:
        """Find the cells of one field, or of a larger image by tiles.

        Args:
            image: (H, W, 3) uint8 RGB, or a Photograph of it.
            um_per_px: pixel size in µm, or what `scale.find_scale` found; without it a burnt-in
                scale bar gives the scale, or else the field's own red cells.
            field_id: the field's name in tables.
            scale_bar_um: the length of that bar, where it cannot be read.
            tile_px: side of the tiles, without what they share; by default an image of more than
                the network sees at once is looked at by tiles of twenty red cells a side.

        Raises:
            SpherodetectError: not such an image, or a pixel size that cannot be.

        >>> cells = load_model().detect(image)  # doctest: +SKIP
        """
        import tensorflow as tf

        if not isinstance(image, Photograph):
            image = Photograph(np.asarray(image))
        photograph, image = image, _checked(image.image, field_id)
        if image.shape[0] * image.shape[1] > MIN_SCAN_PIXELS:
            return self._by_regions(Pixels(image), um_per_px, field_id=field_id, tile_px=tile_px)
        if isinstance(um_per_px, Scale):
            scale = um_per_px
        else:
            scale = find_scale(photograph, um_per_px, scale_bar_um=scale_bar_um, field_id=field_id)
        # The strip of text below an electron micrograph is no place for cells.
        picture = image[: photograph.rows]
        if tile_px or self._is_large(picture, scale):
            seen = self.by_tiles(Pixels(picture), scale, field_id=field_id, tile_px=tile_px)
            return _joined(seen, image.shape[:2], field_id, scale, self.class_names)
        found = self._detect(
            image=tf.constant(picture), um_per_px=tf.constant(float(scale.um_per_px or 0.0))
        )
        return self._cells(found, image.shape[:2], field_id, scale)

    def detect_file(
        self,
        path: str | Path,
        um_per_px: float | None = None,
        *,
        field_id: str | None = None,
        scale_bar_um: float | None = None,
        tile_px: int | None = None,
    ) -> Cells:
        """`detect` of an image file; a TIFF of a whole slide is read region by region, however
        large it is.

        Memory is that of a tile, the parts of the file that are decoded for it, and 4 kB a cell.

        Raises:
            SpherodetectError: a file that cannot be read, or a pixel size that cannot be.

        >>> cells = load_model().detect_file("slide.tif", um_per_px=0.2)  # doctest: +SKIP
        """
        name = str(path) if field_id is None else field_id
        if not is_scan(path):
            image = read_image(path, name=name)
            return self.detect(
                image, um_per_px, field_id=name, scale_bar_um=scale_bar_um, tile_px=tile_px
            )
        with Scan(path, name=name) as scan:
            return self._by_regions(scan, um_per_px, field_id=name, tile_px=tile_px)

    def _by_regions(
        self, region: Region, um_per_px: float | Scale | None, *, field_id: str, tile_px: int | None
    ) -> Cells:
        seen = survey(region)
        if isinstance(um_per_px, Scale):
            scale = um_per_px
        else:
            scale = scale_of_scan(region, seen, um_per_px, field_id=field_id)
        tiles = self.by_tiles(region, scale, field_id=field_id, tile_px=tile_px, surveyed=seen)
        return _joined(tiles, region.size_hw, field_id, scale, self.class_names)

    def detect_many(
        self, images: Iterable[np.ndarray | str | Path], um_per_px: float | None = None
    ) -> Iterator[Cells | SpherodetectError]:
        """`detect` of arrays and files, in order; while one is worked on, the next two are fetched
        and decoded.

        What cannot be used gives its error in its place, and the others go on.

        >>> for cells in load_model().detect_many(["a.jpg", "b.jpg"]):  # doctest: +SKIP
        ...     print(cells if isinstance(cells, SpherodetectError) else len(cells))
        """
        from concurrent.futures import Future, ThreadPoolExecutor

        source, ahead = iter(images), deque[Future[Any]]()
        with ThreadPoolExecutor(2) as pool:
            while True:
                ahead.extend(
                    pool.submit(_fetched, image) for image in islice(source, 3 - len(ahead))
                )
                if not ahead:
                    return
                try:
                    image, name = ahead.popleft().result()
                    cells = (
                        self.detect_file(image, um_per_px)
                        if isinstance(image, Path)
                        else self.detect(image, um_per_px, field_id=name)
                    )
                except SpherodetectError as problem:
                    yield problem
                else:
                    yield cells

    def by_tiles(
        self,
        region: Region,
        scale: Scale,
        *,
        field_id: str = "",
        tile_px: int | None = None,
        surveyed: Survey | None = None,
    ) -> Iterator[SeenTile]:
        """The cells of a large image, tile by tile, without the tiles that show nothing.

        How much to enlarge, and how the network's grid lies, is decided once, on a few places where
        cells lie side by side, and is the same in all tiles.

        Args:
            region: the image.
            scale: its pixel size.
            field_id: its name in messages.
            tile_px: side of the tiles, without what they share.
            surveyed: what `tiles.survey` said of it, where that is at hand already.
        """
        seen = surveyed or survey(region)
        frame = self._frame(region, seen, scale)
        ownership = Ownership(float(frame[0]))
        for tile in cut(region.size_hw, float(frame[0]), core_px=tile_px):
            if seen.shows_nothing(tile.core):
                continue
            image = region.read(tile.window)
            here = frame - [0, 0, *tile.origin_yx, 0, 0]
            if min(tile.core_hw) >= LEAST * frame[0]:
                # As a field does on which error rates were measured, it tells its own prevalence.
                here[-1] = _AS_IT_LIES[-1]
            found = self._look(image, scale, here)
            cells = self._cells(found, image.shape[:2], field_id, scale)
            yield SeenTile(tile, image, cells, ownership.of(tile, cells.box_yxyx))

    def _frame(self, region: Region, seen: Survey, scale: Scale) -> np.ndarray:
        """How to look at all tiles, (6,), see training/graph.py; places are in pixels of the whole
        image."""
        diameter = self._usual_px(scale) or _diameter_px(region, seen)
        side = min(round((CORE + 2 * MARGIN) * diameter), MAX_SIDE_PX)
        frames = []
        for window in seen.samples(side, region.size_hw, _SAMPLES):
            image = region.read(window)
            if (
                not scale.um_per_px
                and not 2 / 3 < estimate_rbc_diameter_px(green_density(image)) / diameter < 3 / 2
            ):
                continue  # what lies there are no cells, and it would be enlarged until it looked like them
            found = self._look(image, scale, _AS_IT_LIES)
            if found["num_detections"] >= _ENOUGH:
                frames.append(np.add(found["frame"], [0, 0, *window[:2], 0, 0]))
        if not frames:
            return np.array([diameter, *_AS_IT_LIES[1:]])
        frames.sort(key=lambda frame: float(frame[1]))
        # A tile that is smaller than a field knows less well what the slide is made of.
        return np.append(frames[len(frames) // 2][:-1], np.median([frame[-1] for frame in frames]))

    def _look(self, image: np.ndarray, scale: Scale, frame: np.ndarray) -> Mapping[str, Any]:
        import tensorflow as tf

        tile = getattr(self._saved, "tile", None)
        if tile is None:
            raise BadModelError(
                f"{quoted(self.folder)}: expected a model that looks at tiles, got an earlier one; export it again"
            )
        um_per_px = tf.constant(float(scale.um_per_px or 0.0))
        return tile(tf.constant(image), um_per_px, tf.constant(frame, tf.float32))

    def _usual_px(self, scale: Scale) -> float:
        return RBC_DIAMETER_UM / scale.um_per_px if scale.um_per_px else 0.0

    def _is_large(self, picture: np.ndarray, scale: Scale) -> bool:
        """Whether the network would have to see too much at once."""
        pixels = picture.shape[0] * picture.shape[1]
        if not _ONCE_NETWORK_PIXELS / 9 < pixels <= _ONCE_PIXELS:
            return pixels > _ONCE_PIXELS
        step = -(-max(picture.shape[:2]) // 1280)
        diameter = step * estimate_rbc_diameter_px(green_density(block_mean(picture, step)))
        usual = self._usual_px(scale) or diameter
        diameter = (
            float(np.clip(diameter, usual / 1.5, usual * 1.5)) if np.isfinite(diameter) else usual
        )
        # Without a cell there is nothing to enlarge for.
        return bool(pixels * (float(self.card["rbc_px"]) / diameter) ** 2 > _ONCE_NETWORK_PIXELS)

    def _cells(
        self, found: Mapping[str, Any], size_hw: tuple[int, int], field_id: str, scale: Scale
    ) -> Cells:
        found = {name: value.numpy() for name, value in found.items()}
        if found["truncated"]:
            logger.warning(
                "%s: more cells than the model's limit; the least certain are left out",
                quoted(field_id),
            )
        n = int(found["num_detections"])
        return Cells(
            box_yxyx=found["boxes_yxyx"][:n],
            class_id=found["class_ids"][:n],
            confidence=found["confidences"][:n],
            class_probabilities=found["class_probabilities"][:n],
            p_spherocyte=found["p_spherocyte"][:n],
            countable=found["countable"][:n],
            masks=found["masks"][:n],
            image_size_hw=size_hw,
            field_id=field_id,
            um_per_px=scale.um_per_px,
            class_names=self.class_names,
            rbc_diameter_px=float(found["rbc_diameter_px"]),
            um_per_px_source=scale.source,
        )


def _fetched(image: np.ndarray | str | Path) -> tuple[np.ndarray | Path, str]:
    """An image's pixels and name; a slide scan stays a path."""
    if not isinstance(image, str | Path):
        return image, ""
    return (Path(image) if is_scan(image) else read_image(image)), str(image)


def _joined(
    seen: Iterable[SeenTile],
    size_hw: tuple[int, int],
    field_id: str,
    scale: Scale,
    class_names: tuple[str, ...],
) -> Cells:
    """The cells of all tiles, in pixels of the whole image."""
    parts = [one.cells[one.own].moved(one.tile.origin_yx, size_hw) for one in seen]
    if not parts:
        empty = Cells.empty(field_id=field_id, image_size_hw=size_hw, um_per_px=scale.um_per_px)
        masks = np.zeros((0, 28, 28), np.float32)
        return replace(empty, masks=masks, class_names=class_names, um_per_px_source=scale.source)
    return Cells.concatenate(parts)


def scale_of_scan(
    region: Region, seen: Survey, um_per_px: float | None, *, field_id: str = ""
) -> Scale:
    """The pixel size of a slide scan: the user's, compared with its cells, or None; no bar is burnt
    into a scan.

    Raises:
        SpherodetectError: a pixel size that cannot be.
    """
    if um_per_px is None:
        return Scale(None)
    for window in seen.samples(_SAMPLE_PX, region.size_hw, 1):
        return find_scale(region.read(window), um_per_px, field_id=field_id)
    return find_scale(seen.overview, um_per_px, field_id=field_id)


def _diameter_px(region: Region, seen: Survey) -> float:
    """A first guess of the red cells' diameter."""
    windows = seen.samples(_SAMPLE_PX, region.size_hw, _SAMPLES)
    guesses = np.array(
        [estimate_rbc_diameter_px(green_density(region.read(window))) for window in windows]
    )
    known = guesses[np.isfinite(guesses)]
    return float(np.median(known)) if known.size else _DEFAULT_PX


def load_model(folder: str | Path | None = None) -> Model:
    """Load a model folder, by default the bundled one; a SavedModel is code, so load only what you
    trust.

    Raises:
        BadModelError: a missing piece, another version, or a file whose checksum differs from
            model.json.
    """
    return _load(Path(folder).resolve() if folder is not None else BUNDLED)


@cache
def _load(folder: Path) -> Model:
    card = read_card(folder)
    for name, expected in card["checksums"].items():
        path = inside(folder, name, error=BadModelError)
        if not path.is_file():
            raise BadModelError(
                f"{quoted(path)}: expected a file of the model, got none; copy the model folder again"
            )
        got = file_sha256(path, error=BadModelError)
        if got != expected:
            raise BadModelError(
                f"{quoted(path)}: expected sha256 {expected[:12]}..., got {got[:12]}...; copy the model folder again"
            )
    import tensorflow as tf

    logger.info("loading model %s from %s", card["name"], folder)
    try:
        return Model(folder, card, tf.saved_model.load(str(folder / "saved_model")))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as problem:
        why = quoted(str(problem).partition("\n")[0])
        raise BadModelError(
            f"{quoted(folder)}: expected a SavedModel of ours, got another ({why})"
        ) from problem


def _checked(image: np.ndarray, field_id: str) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}"
        got += " with NaN" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected uint8 RGB (height, width, 3), got {got}; "
            "spherodetect.read_image reads files that way"
        )
    if min(image.shape[:2]) < 16:
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected at least 16x16 pixels, got {image.shape[:2]}"
        )
    return image


__all__ = ["Model", "SeenTile", "load_model", "scale_of_scan"]

"""A model folder as a function: `load_model()`, then `model.detect(image) -> Cells`.

Images are uint8 RGB (H, W, 3), and boxes are in their pixels. The SavedModel decides class,
p_spherocyte and countable; this module loads it, checks it and converts its results. It does not
need Model Garden.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from spherodetect.cells import Cells
from spherodetect.detect.by_tiles import (
    DetectedTile,
    detect_tiles,
    joined,
    needs_tiles,
    scale_of_scan,
)
from spherodetect.detect.decode import to_cells
from spherodetect.detect.frame import ESTIMATE_EVERYTHING
from spherodetect.detect.model_folder import (
    BUNDLED,
    BUNDLED_NAME,
    ModelCard,
    check_files,
    read_card,
)
from spherodetect.detect.saved_graph import SavedGraph
from spherodetect.detect.tiles import Survey, survey
from spherodetect.errors import BadModelError, SpherodetectError
from spherodetect.fields.image import read_image
from spherodetect.fields.scan import MIN_SCAN_PIXELS, Pixels, Region, Scan, is_scan
from spherodetect.photograph import Photograph
from spherodetect.safety import file_sha256, quoted
from spherodetect.scale.file_metadata import FilePixelSize, file_pixel_size
from spherodetect.scale.find import Scale, find_scale
from spherodetect.score.rates import ClassifierRates

logger = logging.getLogger(__name__)

#: Smallest side of an image.
_MIN_SIDE_PX = 16
#: Images that `detect_many` reads while it works on another.
_READ_AHEAD = 2


class Model:
    """A loaded model folder. It is safe to use from several threads, and results are reproducible.

    Attributes:
        folder: the model folder.
        card: the content of model.json.
        name: the model's name in tables.
        class_names: in the order of the class ids, from 1.
        rates: sensitivity and specificity of each held-out block, for the score.
        conventions: names of the laboratories' conventions that the model was taught.
        convention: the stated one, or None: then each field takes that of the taught films that
            look alike.
    """

    def __init__(self, folder: Path, card: ModelCard, graph: SavedGraph) -> None:
        self.folder = folder
        self.card = card
        self.name = card.name
        self.class_names = card.class_names
        self.rates = card.classifier_rates()
        self.conventions = card.convention_names
        self.convention: str | None = None
        self._graph = graph

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {len(self.class_names)} classes, {str(self.folder)!r})"

    def with_convention(self, name: str | None) -> Model:
        """The same model with a stated convention; None lets the look of each field decide.

        Raises:
            SpherodetectError: the model was not taught such a convention.

        >>> load_model().with_convention("dataset-a").convention  # doctest: +SKIP
        'dataset-a'
        """
        if name is not None and name not in self.conventions:
            known = ", ".join(map(quoted, self.conventions)) or "none"
            raise SpherodetectError(
                f"convention: expected one that {self.name} was taught ({known}), "
                f"got {quoted(name)}"
            )
        other = Model(self.folder, self.card, self._graph)
        other.convention = name
        if name is not None:
            other.rates = self.rates_of(name)
        return other

    def rates_of(self, convention: str) -> ClassifierRates:
        """The held-out rates of a convention, or of UNSEEN: those of laboratories left out."""
        return self.card.rates_of(convention)

    def healthy_rates_of(self, convention: str) -> ClassifierRates | None:
        """What is called a spherocyte in healthy blood of a convention's stain, if it is known."""
        return self.card.healthy_rates_of(convention)

    @property
    def _row(self) -> float:
        """The row of the stated convention in the graph; below 0 without one."""
        if self.convention is None:
            return ESTIMATE_EVERYTHING.convention
        return float(self.conventions.index(self.convention))

    def detect(
        self,
        image: np.ndarray | Photograph,
        um_per_px: float | Scale | None = None,
        *,
        field_id: str = "",
        scale_bar_um: float | None = None,
        tile_px: int | None = None,
    ) -> Cells:
        """Detect the cells of one image, by tiles if it is large.

        Args:
            image: (H, W, 3) uint8 RGB, or a Photograph of it.
            um_per_px: pixel size in µm, or the result of `scale.find_scale`. Without it the scale
                comes from a burnt-in scale bar, or else from the image's own red cells.
            field_id: the field's name in tables.
            scale_bar_um: length of the scale bar, if its label cannot be read.
            tile_px: side of the tiles, without their margins. By default an image is tiled only if
                it is too large for the network, and a tile is twenty red cells wide.

        Raises:
            SpherodetectError: not such an image, or a pixel size that is not possible.

        >>> cells = load_model().detect(image)  # doctest: +SKIP
        """
        photograph = image if isinstance(image, Photograph) else Photograph(np.asarray(image))
        _checked(photograph.image, field_id)
        cells = self._detected(photograph, um_per_px, field_id, scale_bar_um, tile_px)
        return photograph.cut_off(cells)

    def _detected(
        self,
        photograph: Photograph,
        um_per_px: float | Scale | None,
        field_id: str,
        scale_bar_um: float | None,
        tile_px: int | None,
    ) -> Cells:
        image = photograph.picture
        if image.shape[0] * image.shape[1] > MIN_SCAN_PIXELS:
            return self._detect_scan(Pixels(image), um_per_px, field_id=field_id, tile_px=tile_px)
        if isinstance(um_per_px, Scale):
            scale = um_per_px
        else:
            scale = find_scale(photograph, um_per_px, scale_bar_um=scale_bar_um, field_id=field_id)
        size_hw = image.shape[0], image.shape[1]
        # An electron micrograph may have a strip of text at the bottom.
        picture = image[: photograph.rows]
        if tile_px or needs_tiles(picture, scale, self.card.rbc_px):
            tiles = self.detect_tiles(Pixels(picture), scale, field_id=field_id, tile_px=tile_px)
            return joined(tiles, size_hw, self.class_names, field_id=field_id, scale=scale)
        if self.convention is None:
            found = self._graph.image(picture, scale.um_per_px)
        else:
            stated = replace(ESTIMATE_EVERYTHING, convention=self._row)
            found = self._graph.tile(picture, scale.um_per_px, stated)
        return to_cells(
            found,
            size_hw,
            self.class_names,
            field_id=field_id,
            scale=scale,
            conventions=self.conventions,
        )

    def detect_file(
        self,
        path: str | Path,
        um_per_px: float | None = None,
        *,
        field_id: str | None = None,
        scale_bar_um: float | None = None,
        tile_px: int | None = None,
    ) -> Cells:
        """`detect` of an image file; a TIFF of a whole slide is read region by region.

        Without um_per_px, the pixel size in the file's metadata is used if its red cells confirm
        it.

        A slide of any size fits into memory: a tile, the parts of the file that are decoded for it,
        and 4 kB for each cell.

        Raises:
            SpherodetectError: a file that cannot be read, or a pixel size that is not possible.

        >>> cells = load_model().detect_file("slide.tif", um_per_px=0.2)  # doctest: +SKIP
        """
        name = str(path) if field_id is None else field_id
        file_size = file_pixel_size(path)
        if is_scan(path):
            with Scan(path, name=name) as scan:
                return self._detect_scan(scan, um_per_px, file_size, field_id=name, tile_px=tile_px)
        photograph = Photograph(read_image(path, name=name))
        scale = _scale_of_file(photograph, um_per_px, file_size, scale_bar_um, name)
        return self.detect(
            photograph, scale, field_id=name, scale_bar_um=scale_bar_um, tile_px=tile_px
        )

    def detect_many(
        self, images: Iterable[np.ndarray | str | Path], um_per_px: float | None = None
    ) -> Iterator[Cells | SpherodetectError]:
        """`detect` of arrays and files, in order; the next two are read in the background.

        An image that cannot be used gives its error as its result, and the others go on.

        >>> for cells in load_model().detect_many(["a.jpg", "b.jpg"]):  # doctest: +SKIP
        ...     print(cells if isinstance(cells, SpherodetectError) else len(cells))
        """
        from concurrent.futures import Future, ThreadPoolExecutor

        source = iter(images)
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(_READ_AHEAD) as pool:
            while True:
                missing = _READ_AHEAD + 1 - len(waiting)
                waiting.extend(pool.submit(_read, image) for image in islice(source, missing))
                if not waiting:
                    return
                try:
                    image, name, file_size = waiting.popleft().result()
                    if isinstance(image, Path):
                        cells = self.detect_file(image, um_per_px)
                    else:
                        photograph = Photograph(np.asarray(image))
                        scale = _scale_of_file(photograph, um_per_px, file_size, None, name)
                        cells = self.detect(photograph, scale, field_id=name)
                except SpherodetectError as problem:
                    yield problem
                else:
                    yield cells

    def detect_tiles(
        self,
        region: Region,
        scale: Scale,
        *,
        field_id: str = "",
        tile_px: int | None = None,
        surveyed: Survey | None = None,
    ) -> Iterator[DetectedTile]:
        """The tiles of a large image with their cells, without the tiles on empty slide.

        The scale and the network's grid are measured once, on a few samples, and are the same in
        all tiles.

        Args:
            region: the image.
            scale: its pixel size.
            field_id: the image's name in messages.
            tile_px: side of the tiles without their margins.
            surveyed: the result of `tiles.survey`, if it is known.
        """
        return detect_tiles(
            self._graph,
            region,
            scale,
            class_names=self.class_names,
            conventions=self.conventions,
            row=self._row,
            field_id=field_id,
            tile_px=tile_px,
            surveyed=surveyed,
        )

    def _detect_scan(
        self,
        region: Region,
        um_per_px: float | Scale | None,
        file_size: FilePixelSize | None = None,
        *,
        field_id: str,
        tile_px: int | None,
    ) -> Cells:
        surveyed = survey(region)
        if isinstance(um_per_px, Scale):
            scale = um_per_px
        else:
            scale = scale_of_scan(region, surveyed, um_per_px, file_size, field_id=field_id)
        tiles = self.detect_tiles(
            region, scale, field_id=field_id, tile_px=tile_px, surveyed=surveyed
        )
        return joined(tiles, region.size_hw, self.class_names, field_id=field_id, scale=scale)


#: Models in use, by folder and checksum of model.json. A model that nobody uses is freed, and a
#: folder that was exported again is loaded again.
_in_use: WeakValueDictionary[tuple[Path, str], Model] = WeakValueDictionary()


def load_model(folder: str | Path | None = None) -> Model:
    """Load a model folder, by default or as "bundled" the bundled one.

    A SavedModel is code. Load only models that you trust.

    Raises:
        BadModelError: a missing file, another version, or a file whose checksum differs from
            model.json.
    """
    path = BUNDLED
    if folder is not None and str(folder) != BUNDLED_NAME:
        path = Path(folder).resolve()
    card = read_card(path)
    key = path, file_sha256(path / "model.json", error=BadModelError)
    model = _in_use.get(key)
    if model is None:
        check_files(path, card)
        logger.info("loading model %s from %s", card.name, path)
        model = Model(path, card, SavedGraph(path))
        _in_use[key] = model
    return model


def _read(image: np.ndarray | str | Path) -> tuple[np.ndarray | Path, str, FilePixelSize | None]:
    """An image's pixels, its name, and the pixel size in its file; a slide scan stays a path."""
    if not isinstance(image, str | Path):
        return image, "", None
    if is_scan(image):
        return Path(image), str(image), None
    return read_image(image), str(image), file_pixel_size(image)


def _scale_of_file(
    photograph: Photograph,
    um_per_px: float | None,
    file_size: FilePixelSize | None,
    scale_bar_um: float | None,
    name: str,
) -> float | Scale | None:
    """The given pixel size, or the scale of a file that states one, or None."""
    if um_per_px is not None or file_size is None:
        return um_per_px
    return find_scale(photograph, file_size=file_size, scale_bar_um=scale_bar_um, field_id=name)


def _checked(image: np.ndarray, field_id: str) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}"
        got += " with NaN" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected uint8 RGB (height, width, 3), got {got}; "
            "read files with spherodetect.read_image"
        )
    if min(image.shape[:2]) < _MIN_SIDE_PX:
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected at least {_MIN_SIDE_PX}x{_MIN_SIDE_PX} "
            f"pixels, got {image.shape[:2]}"
        )
    return image


__all__ = ["Model", "load_model"]

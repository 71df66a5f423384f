"""A model folder as a function: `load_model()`, `model.detect(image) -> Cells`.

Images are uint8 RGB (H, W, 3); boxes come back in their pixels. What decides class, p_spherocyte and countable lies in
the SavedModel; this module loads it, checks it and reads its answers. Model Garden is not needed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import BadModelError, SpherodetectError
from spherodetect.rates import ClassifierRates
from spherodetect.safety import quoted, read_json
from spherodetect.scale import Scale, find_scale, image_rows

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "models" / "bundled"
#: The layout of model folders that this version reads.
MODEL_FORMAT = 1
_NEEDED = ("format", "name", "class_names", "rbc_px", "thresholds", "rates", "checksums")


class Model:
    """A loaded model folder; safe to use from several threads.

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
        self, image: np.ndarray, um_per_px: float | Scale | None = None, *, field_id: str = "",
        scale_bar_um: float | None = None,
    ) -> Cells:  # fmt: skip
        """Find the cells of one field.

        Args:
            image: (H, W, 3) uint8 RGB.
            um_per_px: pixel size in µm, or what `scale.find_scale` found; without it a burnt-in scale bar gives the
                scale, or else the field's own red cells.
            field_id: the field's name in tables.
            scale_bar_um: the length of that bar, where it cannot be read.

        Raises:
            SpherodetectError: not such an image, or a pixel size that cannot be.

        >>> cells = load_model().detect(image)  # doctest: +SKIP
        """
        import tensorflow as tf

        image = _checked(image, field_id)
        if isinstance(um_per_px, Scale):
            scale = um_per_px
        else:
            scale = find_scale(image, um_per_px, scale_bar_um=scale_bar_um, field_id=field_id)
        # The strip of text below an electron micrograph is no place for cells.
        picture = image[: image_rows(image)]
        found = self._detect(image=tf.constant(picture), um_per_px=tf.constant(float(scale.um_per_px or 0.0)))
        found = {name: value.numpy() for name, value in found.items()}
        if found["truncated"]:
            logger.warning("%s: more cells than the model's limit; the least certain are left out", quoted(field_id))
        n = int(found["num_detections"])
        return Cells(
            box_yxyx=found["boxes_yxyx"][:n],
            class_id=found["class_ids"][:n],
            confidence=found["confidences"][:n],
            class_probabilities=found["class_probabilities"][:n],
            p_spherocyte=found["p_spherocyte"][:n],
            countable=found["countable"][:n],
            masks=found["masks"][:n],
            image_size_hw=image.shape[:2],
            field_id=field_id,
            um_per_px=scale.um_per_px,
            class_names=self.class_names,
            rbc_diameter_px=float(found["rbc_diameter_px"]),
            um_per_px_source=scale.source,
        )

    def detect_many(self, images: Iterable[np.ndarray], um_per_px: float | None = None) -> Iterator[Cells]:
        """`detect` over images, in order; the next image is fetched while one is being worked on."""
        from concurrent.futures import ThreadPoolExecutor

        images = iter(images)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(next, images, None)
            while (image := ahead.result()) is not None:
                ahead = pool.submit(next, images, None)
                yield self.detect(image, um_per_px)


def load_model(folder: str | Path | None = None) -> Model:
    """Load a model folder, by default the bundled one; a SavedModel is code, so load only what you trust.

    Raises:
        BadModelError: a missing piece, another version, or a file whose checksum differs from model.json.
    """
    return _load(Path(folder).resolve() if folder is not None else BUNDLED)


@cache
def _load(folder: Path) -> Model:
    card = _read_card(folder)
    for name, expected in card["checksums"].items():
        path = folder / name
        if not path.is_file():
            raise BadModelError(f"{quoted(path)}: expected a file of the model, got none; copy the model folder again")
        got = hashlib.sha256(path.read_bytes()).hexdigest()
        if got != expected:
            raise BadModelError(
                f"{quoted(path)}: expected sha256 {expected[:12]}..., got {got[:12]}...; copy the model folder again"
            )
    import tensorflow as tf

    logger.info("loading model %s from %s", card["name"], folder)
    return Model(folder, card, tf.saved_model.load(str(folder / "saved_model")))


def _read_card(folder: Path) -> Mapping[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        raise BadModelError(
            f"{quoted(folder)}: expected a model folder with model.json, got none; see `spherodetect export`"
        )
    card = read_json(path, max_bytes=20_000_000, error=BadModelError)
    missing = [key for key in _NEEDED if not isinstance(card, dict) or key not in card]
    if missing:
        raise BadModelError(
            f"{quoted(path)}: expected {', '.join(_NEEDED)}, got none of {', '.join(missing)}; export it again"
        )
    if card["format"] != MODEL_FORMAT:
        raise BadModelError(
            f"{quoted(path)}: expected model format {MODEL_FORMAT}, got {card['format']}; export it with this version"
        )
    return card


def _checked(image: np.ndarray, field_id: str) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected uint8 RGB (height, width, 3), got {image.dtype} {image.shape}; "
            "spherodetect.read_image reads files that way"
        )
    if min(image.shape[:2]) < 16:
        raise SpherodetectError(f"{quoted(field_id or 'image')}: expected at least 16x16 pixels, got {image.shape[:2]}")
    return image


__all__ = ["BUNDLED", "Model", "load_model"]

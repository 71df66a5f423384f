"""`Cells`: everything known about the cells of one field, as parallel arrays.

Boxes are (N, 4) float32 (ymin, xmin, ymax, xmax) in native pixels of the image, half-open: a box
that covers pixel (0, 0) alone is (0, 0, 1, 1). Masks are box-local: either (N, S, S) probabilities
that stretch over the box, or a list of boolean arrays that cover the whole pixels of the box. They
are never N full frames. Class ids count from 1: class_names[class_id - 1]. Probabilities are 0 to
1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.geometry import paste_mask
from spherodetect.vocabulary import CLASS_NAMES as CLASS_NAMES
from spherodetect.vocabulary import RED_CELLS as RED_CELLS
from spherodetect.vocabulary import canonical_name as canonical_name

if TYPE_CHECKING:
    import pandas as pd

#: The measurement of a cell that the edge of the field of view cuts, where that edge lies inside
#: of the image.
CUT = "cut"
#: The convention of a film that looks like none that the model was taught.
UNSEEN = "unseen"


@dataclass(frozen=True, eq=False, repr=False)
class Cells:
    """The cells of one field, indexable by mask, slice or integer array.

    Attributes:
        box_yxyx: (N, 4) float32, native pixels, half-open.
        class_id: (N,) int32, 1-based.
        confidence: (N,) float32, the detector's certainty that this is a cell.
        class_probabilities: (N, K) float32, in the order of class_names.
        p_spherocyte: (N,) float32, probability that this red cell is a spherocyte.
        countable: (N,) bool, a whole, separated red cell.
        masks: (N, S, S) float32 probabilities over the box, or a list of N boolean box-local
            arrays.
        measurements: name (with its unit) to (N,) array.
        field_id: the field's name in tables.
        um_per_px: pixel size in µm, or None where neither the user nor a scale bar tells it.
        image_size_hw: height and width of the field in native pixels.
        rbc_diameter_px: the diameter of a red cell that the detector worked with, or None.
        um_per_px_source: given, file, scale bar or cells (see `scale`); empty if not searched.
        cell_id: (N,) int32, the number of each cell in its field, from 1. It is given by the
            detector's order, stays with a cell when others are filtered out, and can be carried
            over to a later detection of the same field (see `detect.identity`).
        convention: the laboratory's convention by which cells are called spherocytes, UNSEEN for a
            film that looks like none that was taught, empty if the model has no conventions.
        look_distance: from the field's look to the nearest that was taught, or None.

    >>> cells = Cells.empty(field_id="a.png", image_size_hw=(480, 640))
    >>> len(cells[cells.confidence > 0.7])
    0
    """

    box_yxyx: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    class_probabilities: np.ndarray
    p_spherocyte: np.ndarray
    countable: np.ndarray
    masks: np.ndarray | Sequence[np.ndarray]
    image_size_hw: tuple[int, int]
    field_id: str = ""
    um_per_px: float | None = None
    class_names: tuple[str, ...] = CLASS_NAMES
    measurements: Mapping[str, np.ndarray] = field(default_factory=dict)
    rbc_diameter_px: float | None = None
    um_per_px_source: str = ""
    cell_id: np.ndarray = None  # type: ignore[assignment]  # numbered on construction
    convention: str = ""
    look_distance: float | None = None

    def __post_init__(self) -> None:
        n = len(self.box_yxyx)
        if self.cell_id is None:
            object.__setattr__(self, "cell_id", np.arange(1, n + 1, dtype=np.int32))
        columns = {
            "class_id": self.class_id,
            "confidence": self.confidence,
            "p_spherocyte": self.p_spherocyte,
            "class_probabilities": self.class_probabilities,
            "countable": self.countable,
            "masks": self.masks,
            "cell_id": self.cell_id,
        } | dict(self.measurements)
        for name, values in columns.items():
            if len(values) != n:
                raise ValueError(
                    f"Cells of {self.field_id!r}: {name} has {len(values)} entries, expected {n}, "
                    "one a box"
                )

    def __len__(self) -> int:
        return len(self.box_yxyx)

    def __repr__(self) -> str:
        height, width = self.image_size_hw
        return (
            f"Cells({len(self)} cells, {int(self.countable.sum())} countable, "
            f"{int((self.names == 'spherocyte').sum())} spherocytes, "
            f"field {self.field_id!r}, {width}x{height} pixels)"
        )

    def __getitem__(self, index: np.ndarray | slice) -> Cells:
        """The chosen cells, in the chosen order.

        Args:
            index: a boolean mask (N,), a slice, or integers.
        """
        rows = np.atleast_1d(np.arange(len(self))[index])
        masks = (
            self.masks[rows]
            if isinstance(self.masks, np.ndarray)
            else [self.masks[i] for i in rows]
        )
        return replace(
            self,
            box_yxyx=self.box_yxyx[rows],
            class_id=self.class_id[rows],
            confidence=self.confidence[rows],
            class_probabilities=self.class_probabilities[rows],
            p_spherocyte=self.p_spherocyte[rows],
            countable=self.countable[rows],
            masks=masks,
            measurements={name: values[rows] for name, values in self.measurements.items()},
            cell_id=self.cell_id[rows],
        )

    @classmethod
    def empty(
        cls, *, field_id: str, image_size_hw: tuple[int, int], um_per_px: float | None = None
    ) -> Cells:
        """A field without cells, with correctly typed empty columns."""
        return cls.from_labels(
            np.zeros((0, 4)),
            np.zeros(0),
            [],
            image_size_hw=image_size_hw,
            field_id=field_id,
            um_per_px=um_per_px,
        )

    @classmethod
    def from_labels(
        cls,
        box_yxyx: np.ndarray,
        class_id: np.ndarray,
        masks: Sequence[np.ndarray] | np.ndarray,
        *,
        image_size_hw: tuple[int, int],
        field_id: str = "",
        um_per_px: float | None = None,
        class_names: tuple[str, ...] = CLASS_NAMES,
    ) -> Cells:
        """Cells of given classes, as a human labels them.

        Probabilities are 0 or 1; countable means a red cell off the border.
        """
        box = np.asarray(box_yxyx, np.float32).reshape(-1, 4)
        ids = np.asarray(class_id, np.int32)
        red = np.isin(ids, [k + 1 for k, name in enumerate(class_names) if name in RED_CELLS])
        sphere = class_names.index("spherocyte") + 1 if "spherocyte" in class_names else -1
        return cls(
            box_yxyx=box,
            class_id=ids,
            confidence=np.ones(len(box), np.float32),
            class_probabilities=np.eye(len(class_names) + 1, dtype=np.float32)[ids][:, 1:],
            p_spherocyte=(ids == sphere).astype(np.float32),
            countable=red & ~touches_border(box, image_size_hw),
            masks=masks,
            image_size_hw=image_size_hw,
            field_id=field_id,
            um_per_px=um_per_px,
            class_names=class_names,
        )

    @staticmethod
    def concatenate(parts: Sequence[Cells], *, keep_ids: bool = False) -> Cells:
        """The cells of several parts of one field, in order.

        Args:
            parts: at least one; they share image size and class names.
            keep_ids: keep every cell_id; otherwise the cells are numbered from 1 in their order.

        Raises:
            ValueError: no part, parts of different classes or image sizes, or ids that occur
                twice although they are to be kept.
        """
        if not parts:
            raise ValueError("expected at least one part, got none; use Cells.empty")
        first = parts[0]
        for other in parts[1:]:
            if (other.class_names, other.image_size_hw) != (first.class_names, first.image_size_hw):
                raise ValueError(
                    f"Cells of {first.field_id!r}: expected parts with classes {first.class_names} "
                    f"of an image of {first.image_size_hw}, got {other.class_names} and "
                    f"{other.image_size_hw}"
                )
        ids = np.concatenate([part.cell_id for part in parts])
        if keep_ids and len(np.unique(ids)) < len(ids):
            raise ValueError(
                f"Cells of {first.field_id!r}: expected every cell_id once, got some twice"
            )
        arrays = all(isinstance(p.masks, np.ndarray) for p in parts)
        return replace(
            first,
            box_yxyx=np.concatenate([p.box_yxyx for p in parts]),
            class_id=np.concatenate([p.class_id for p in parts]),
            confidence=np.concatenate([p.confidence for p in parts]),
            class_probabilities=np.concatenate([p.class_probabilities for p in parts]),
            p_spherocyte=np.concatenate([p.p_spherocyte for p in parts]),
            countable=np.concatenate([p.countable for p in parts]),
            masks=np.concatenate([p.masks for p in parts])
            if arrays
            else [m for p in parts for m in p.masks],
            measurements={
                name: np.concatenate([p.measurements[name] for p in parts])
                for name in first.measurements
                if all(name in p.measurements for p in parts)
            },
            cell_id=ids if keep_ids else np.arange(1, len(ids) + 1, dtype=np.int32),
        )

    def moved(self, offset_yx: tuple[float, float], image_size_hw: tuple[int, int]) -> Cells:
        """The same cells in the pixels of a larger image.

        Args:
            offset_yx: where the upper left corner of this image lies in the larger one, in pixels.
            image_size_hw: size of the larger image.
        """
        y, x = offset_yx
        positions = {"y_px": y, "x_px": x}
        return replace(
            self,
            box_yxyx=self.box_yxyx + np.array([y, x, y, x], np.float32),
            image_size_hw=image_size_hw,
            measurements={
                name: values + np.float32(positions[name]) if name in positions else values
                for name, values in self.measurements.items()
            },
        )

    def enlarged(self, factor: float, image_size_hw: tuple[int, int]) -> Cells:
        """The same cells in the pixels of an image of which this one is a smaller copy.

        Args:
            factor: pixels of the larger image in one pixel of this one, along a side.
            image_size_hw: size of the larger image.

        Raises:
            ValueError: masks in whole pixels, which cannot be enlarged.
        """
        if len(self) and not isinstance(self.masks, np.ndarray):
            raise ValueError(f"Cells of {self.field_id!r}: expected masks of probabilities")
        squared = {"area_px", "integrated_od"}
        powers = {n: 2 if n in squared else int(n.endswith("_px")) for n in self.measurements}
        return replace(
            self,
            box_yxyx=self.box_yxyx * np.float32(factor),
            image_size_hw=image_size_hw,
            um_per_px=self.um_per_px / factor if self.um_per_px else None,
            rbc_diameter_px=self.rbc_diameter_px * factor if self.rbc_diameter_px else None,
            measurements={
                name: values * np.float32(factor) ** powers[name] if powers[name] else values
                for name, values in self.measurements.items()
            },
        )

    @property
    def names(self) -> np.ndarray:
        """(N,) class names."""
        return np.array(("background", *self.class_names), dtype=object)[self.class_id]

    @property
    def at_border(self) -> np.ndarray:
        """(N,) bool, whether a cell may be cut by the edge of the image or of the field of view."""
        # The detector decides in its own pixels, of which a red cell is about thirty wide.
        margin_px = max(1.0, (self.rbc_diameter_px or 0) / 32)
        at_edge = touches_border(self.box_yxyx, self.image_size_hw, margin_px=margin_px)
        return at_edge | np.asarray(self.measurements.get(CUT, False), bool)

    @property
    def exclusion_reason(self) -> np.ndarray:
        """(N,) why a cell is not countable: not_rbc, border, overlay (ink of a scale bar, text or
        pointer) or overlap; empty if it is."""
        under_ink = self.measurements.get("under_ink", np.zeros(len(self))) > 0
        reason = np.where(under_ink, "overlay", "overlap").astype(object)
        reason[self.at_border] = "border"
        reason[~np.isin(self.names, list(RED_CELLS))] = "not_rbc"
        reason[self.countable] = ""
        return reason

    def reason_in(self, accepted: bool | np.ndarray) -> np.ndarray:
        """(N,) `exclusion_reason`, or `field` for countable cells of what failed quality control.

        Args:
            accepted: whether the field passed; for a slide scan (N,) whether each cell's part did.
        """
        reason = self.exclusion_reason
        reason[self.countable & ~np.asarray(accepted, bool)] = "field"
        return reason

    def pixel_masks(self) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """For each cell its boolean mask at native resolution and the (y, x) of the mask's upper
        left pixel.

        The window is the box grown to whole pixels and clipped to the image; it is empty for a box
        outside the image.
        """
        for i, (y0, x0, y1, x1) in enumerate(
            pixel_windows(self.box_yxyx, self.image_size_hw).tolist()
        ):
            mask = self._pixels(i, (y0, x0, y1, x1))
            yield mask if mask.dtype == bool else mask >= 0.5, (y0, x0)

    def _pixels(self, i: int, window: tuple[int, int, int, int]) -> np.ndarray:
        """The mask of a cell at the pixels of its window, as bool or as probabilities."""
        mask, (y0, x0, y1, x1) = self.masks[i], window
        return (
            mask[: y1 - y0, : x1 - x0]
            if mask.dtype == bool
            else paste_mask(mask, self.box_yxyx[i], window)
        )

    def label_image(self, rows: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W) int32, the cell_id of the cell that each pixel belongs to, 0 for none; or some
        rows of it.

        Where several masks overlap, a pixel belongs to the mask with the highest probability there.
        Boolean masks have no probability: the cell with the higher confidence gets the pixel, and
        of two equal ones the first.
        """
        top, bottom = rows or (0, self.image_size_hw[0])
        labels = np.zeros((bottom - top, self.image_size_hw[1]), np.int32)
        surest = np.zeros(labels.shape, np.float32)
        windows = pixel_windows(self.box_yxyx, self.image_size_hw)
        chosen = np.flatnonzero((windows[:, 0] < bottom) & (windows[:, 2] > top))
        for i in chosen[np.argsort(-self.confidence[chosen], kind="stable")]:
            y0, x0, y1, x1 = windows[i].tolist()
            sure = self._pixels(int(i), (y0, x0, y1, x1))[max(top - y0, 0) : bottom - y0].astype(
                np.float32
            )
            part = slice(max(y0, top) - top, min(y1, bottom) - top), slice(x0, x1)
            wins = (sure >= 0.5) & (sure > surest[part])
            labels[part][wins] = self.cell_id[i]
            surest[part][wins] = sure[wins]
        return labels

    def to_frame(self) -> pd.DataFrame:
        """One row a cell: class, confidence, box and every measurement."""
        import pandas as pd

        ymin, xmin, ymax, xmax = self.box_yxyx.T
        return pd.DataFrame(
            {
                "field_id": self.field_id,
                "cell_id": self.cell_id,
                "class_name": self.names,
                "confidence": self.confidence,
                "p_spherocyte": self.p_spherocyte,
                "xmin_px": xmin,
                "ymin_px": ymin,
                "xmax_px": xmax,
                "ymax_px": ymax,
                **self.measurements,
                "countable": self.countable.astype(int),
                "exclusion_reason": self.exclusion_reason,
            }
        )


def touches_border(
    box_yxyx: np.ndarray, image_size_hw: tuple[int, int], *, margin_px: float = 1.0
) -> np.ndarray:
    """(N,) bool, whether a box is less than margin_px away from the edge of the image.

    Such a cell may be cut by the edge.
    """
    height, width = image_size_hw
    ymin, xmin, ymax, xmax = np.asarray(box_yxyx, float).reshape(-1, 4).T
    return (
        (ymin < margin_px)
        | (xmin < margin_px)
        | (ymax > height - margin_px)
        | (xmax > width - margin_px)
    )


def pixel_windows(box_yxyx: np.ndarray, image_size_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) int (y0, x0, y1, x1), the whole pixels that each box touches, clipped to the image."""
    low = np.clip(np.floor(box_yxyx[:, :2] + 1e-3), 0, image_size_hw).astype(int)
    high = np.clip(np.ceil(box_yxyx[:, 2:] - 1e-3), 0, image_size_hw).astype(int)
    return np.concatenate([low, np.maximum(low, high)], axis=1)

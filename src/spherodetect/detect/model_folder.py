"""Reads and checks a model folder: model.json as one record, and the checksums of its files."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from spherodetect.cells import UNSEEN
from spherodetect.detect.provenance import Provenance
from spherodetect.errors import BadModelError
from spherodetect.safety import file_sha256, inside, quoted, read_json
from spherodetect.score.rates import ClassifierRates

BUNDLED = Path(__file__).parents[1] / "models" / "bundled"
#: Names the bundled model where a model folder is expected.
BUNDLED_NAME = "bundled"

#: The layout of model folders that this version reads.
MODEL_FORMAT = 2
#: A model.json holds no more than this many bytes.
_MAX_BYTES = 20_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Thresholds:
    """Values that are tuned on held-out cells.

    Attributes:
        confidence: a detection below this is dropped.
        p_spherocyte: a red cell is called a spherocyte from this probability on.
        slope, intercept: of the log odds of p_spherocyte on the uncalibrated log odds (Platt 1999).
        nms_iou: boxes with a higher IoU are one cell.
        spherocyte_prior, other_prior: added to the log odds of a spherocyte, and of a class that is
            no red cell, against red cells. The confidence stays.
    """

    # A fifth of the usual confidence mostly means a pale cell, or one of two overlapping cells.
    confidence: float = 0.15
    p_spherocyte: float = 0.5
    slope: float = 1.0
    intercept: float = 0.0
    nms_iou: float = 0.45
    spherocyte_prior: float = 0.0
    other_prior: float = 0.0


@dataclass(frozen=True)
class ErrorRates:
    """Errors of the classifier on held-out cells.

    Attributes:
        blocks: counts of each block of fields, see `score.rates.ClassifierRates`.
        folds: detectors that judged the blocks.
        reference: `model`, `stain` and `blocks` of another model on films of the same stain, which
            are evidence about the spread between slides; empty without any.
    """

    blocks: tuple[Mapping[str, Any], ...] = ()
    folds: int = 0
    reference: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the blocks."""
        return tuple(str(block.get("name", "")) for block in self.blocks)

    def to_json(self) -> dict[str, Any]:
        """The object `rates` of model.json."""
        reference = {"reference": copy.deepcopy(dict(self.reference))} if self.reference else {}
        return {"blocks": copy.deepcopy(list(self.blocks)), "folds": self.folds, **reference}


@dataclass(frozen=True)
class ModelCard:
    """The content of a model.json.

    Attributes:
        name: the model's name in tables.
        class_names: in the order of the class ids, from 1.
        rbc_px: diameter of a red cell in the network's pixels.
        thresholds: see `Thresholds`.
        rates: see `ErrorRates`.
        stains_seen: stains of the training fields.
        provenance: see `provenance.Provenance`.
        checksums: file of the folder to its SHA-256; empty until the folder is written.
        held_out_figures: accuracy on held-out cells by name.
        conventions: the laboratories' conventions, as `graph.conventions.Conventions.as_json` gives
            them, with `rates`, `healthy` and `figures` of each; empty for a model without.
        extra: keys that this version does not know.
    """

    name: str
    class_names: tuple[str, ...]
    rbc_px: float
    thresholds: Thresholds
    rates: ErrorRates
    stains_seen: tuple[str, ...]
    provenance: Provenance
    checksums: Mapping[str, str] = field(default_factory=dict)
    held_out_figures: Mapping[str, float] = field(default_factory=dict)
    conventions: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Any, *, source: str | Path = "model.json") -> ModelCard:
        """The record of a model.json that was read already; `source` is named in errors.

        Raises:
            BadModelError: another format, a missing key, or a value of another kind.
        """
        return _Reader(content, source).card()

    def to_json(self) -> dict[str, Any]:
        """The content of model.json."""
        return {
            **copy.deepcopy(dict(self.extra)),
            "format": MODEL_FORMAT,
            "name": self.name,
            "class_names": list(self.class_names),
            "rbc_px": self.rbc_px,
            "thresholds": asdict(self.thresholds),
            "rates": self.rates.to_json(),
            "stains_seen": list(self.stains_seen),
            "provenance": copy.deepcopy(dict(self.provenance.content)),
            "held_out_figures": dict(self.held_out_figures),
            **({"conventions": copy.deepcopy(dict(self.conventions))} if self.conventions else {}),
            **({"checksums": dict(self.checksums)} if self.checksums else {}),
        }

    @property
    def convention_names(self) -> tuple[str, ...]:
        """The names of the conventions in the order of the graph's rows, without UNSEEN."""
        return tuple(name for name in self.conventions.get("rows", ()) if name != UNSEEN)

    def rates_of(self, convention: str) -> ClassifierRates:
        """The held-out rates of a convention or of UNSEEN; the model's own if it has none such.

        Raises:
            BadModelError: counts that cannot be.
        """
        return self._rates("rates", convention) or self.classifier_rates()

    def healthy_rates_of(self, convention: str) -> ClassifierRates | None:
        """What is called a spherocyte in healthy blood of a convention's stain, if it is known.

        Raises:
            BadModelError: counts that cannot be.
        """
        return self._rates("healthy", convention)

    def _rates(self, kind: str, convention: str) -> ClassifierRates | None:
        blocks = self.conventions.get(kind, {}).get(convention)
        if not blocks:
            return None
        return ClassifierRates.from_model_json({"name": self.name, "rates": {"blocks": blocks}})

    def classifier_rates(self) -> ClassifierRates:
        """Sensitivity and specificity for the score.

        Raises:
            BadModelError: counts that cannot be.
        """
        return ClassifierRates.from_model_json({"name": self.name, "rates": self.rates.to_json()})


def read_card(folder: Path) -> ModelCard:
    """The model.json of a model folder.

    Raises:
        BadModelError: no model.json, or one that `ModelCard.from_json` refuses.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise BadModelError(
            f"{quoted(folder)}: expected a model folder with model.json, got none; "
            "see `spherodetect export`"
        )
    card = ModelCard.from_json(
        read_json(path, max_bytes=_MAX_BYTES, error=BadModelError), source=path
    )
    if not card.checksums:
        raise BadModelError(
            f"{quoted(path)}: expected checksums of the model's files, got none; export it again"
        )
    return card


def check_files(folder: Path, card: ModelCard) -> None:
    """Check that the folder has the files of its model.json, unchanged.

    Raises:
        BadModelError: a file is missing, or its checksum differs.
    """
    for name, expected in card.checksums.items():
        path = inside(folder, name, error=BadModelError)
        if not path.is_file():
            raise BadModelError(
                f"{quoted(path)}: expected a file of the model, got none; copy the model folder "
                "again"
            )
        if (got := file_sha256(path, error=BadModelError)) != expected:
            raise BadModelError(
                f"{quoted(path)}: expected sha256 {expected[:12]}..., got {got[:12]}...; copy the "
                "model folder again"
            )


class _Reader:
    """Checks the values of a model.json one by one; an error names the file and the key."""

    _REQUIRED = (
        "format",
        "name",
        "class_names",
        "rbc_px",
        "thresholds",
        "rates",
        "stains_seen",
        "provenance",
    )
    _OPTIONAL = ("checksums", "held_out_figures", "conventions")

    def __init__(self, content: Any, source: str | Path) -> None:
        self.source = source
        if not isinstance(content, Mapping):
            raise self._error("a JSON object", content)
        self.content = content
        missing = [key for key in self._REQUIRED if key not in content]
        if missing:
            raise BadModelError(
                f"{quoted(source)}: expected the keys {', '.join(self._REQUIRED)}, got none named "
                f"{', '.join(missing)}; export the model again"
            )
        if content["format"] != MODEL_FORMAT:
            raise self._error(f"model format {MODEL_FORMAT}", content["format"])

    def card(self) -> ModelCard:
        content = self.content
        known = {*self._REQUIRED, *self._OPTIONAL}
        return ModelCard(
            name=self._text("name", content["name"]),
            class_names=self._class_names(content["class_names"]),
            rbc_px=self._number("rbc_px", content["rbc_px"], above=0.0),
            thresholds=self._thresholds(self._mapping("thresholds", content["thresholds"])),
            rates=self._rates(self._mapping("rates", content["rates"])),
            stains_seen=self._texts("stains_seen", content["stains_seen"]),
            provenance=Provenance(self._mapping("provenance", content["provenance"])),
            checksums=self._checksums(self._mapping("checksums", content.get("checksums", {}))),
            held_out_figures=self._figures(content.get("held_out_figures", {})),
            conventions=self._mapping("conventions", content.get("conventions", {})),
            extra={key: value for key, value in content.items() if key not in known},
        )

    def _class_names(self, value: Any) -> tuple[str, ...]:
        names = self._texts("class_names", value)
        if not names or len(set(names)) < len(names):
            raise self._error("one name a class in class_names, none of them twice", value)
        return names

    def _thresholds(self, values: Mapping[str, Any]) -> Thresholds:
        names = [one.name for one in fields(Thresholds)]
        required = [name for name in names if not name.endswith("_prior")]
        if missing := [name for name in required if name not in values]:
            raise self._error(
                f"the thresholds {', '.join(required)}", f"none of {', '.join(missing)}"
            )
        return Thresholds(
            **{
                name: self._number(f"thresholds.{name}", values[name])
                for name in names
                if name in values
            }
        )

    def _rates(self, values: Mapping[str, Any]) -> ErrorRates:
        blocks, folds = values.get("blocks"), values.get("folds", 1)
        reference = self._mapping("rates.reference", values.get("reference", {}))
        if not isinstance(blocks, list) or not all(isinstance(b, Mapping) for b in blocks):
            raise self._error("rates.blocks to be a list of objects", blocks)
        if not isinstance(folds, int) or isinstance(folds, bool) or folds < 0:
            raise self._error("rates.folds to be a whole number", folds)
        try:
            ClassifierRates.from_model_json({"rates": {"blocks": blocks, "reference": reference}})
        except BadModelError as problem:
            reason = str(problem).removeprefix("model.json: ")
            raise BadModelError(f"{quoted(self.source)}: {reason}") from problem
        return ErrorRates(tuple(blocks), folds, reference)

    def _checksums(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        for name, value in values.items():
            if not isinstance(value, str) or not _SHA256.fullmatch(value):
                raise self._error(f"checksums.{name} to be a SHA-256", value)
        return dict(values)

    def _figures(self, value: Any) -> Mapping[str, float]:
        for name, figure in self._mapping("held_out_figures", value).items():
            if not isinstance(figure, int | float):
                raise self._error(f"held_out_figures.{name} to be a number", figure)
        return dict(value)

    def _text(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._error(f"{key} to be text", value)
        return value

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._error(f"{key} to be a list of texts", value)
        return tuple(value)

    def _number(self, key: str, value: Any, *, above: float = -math.inf) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= above:
            limit = "" if math.isinf(above) else f" above {above:g}"
            raise self._error(f"{key} to be a number{limit}", value)
        return float(value)

    def _mapping(self, key: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(f"{key} to be an object", value)
        return value

    def _error(self, expected: str, got: Any) -> BadModelError:
        return BadModelError(
            f"{quoted(self.source)}: expected {expected}, got {quoted(got)}; "
            "export the model with this version"
        )

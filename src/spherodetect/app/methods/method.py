"""`Method`: finds the objects of one field. Lengths are in pixels of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

KEEP, DROP = "keep", "drop"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, from which the browser makes its form.

    Attributes:
        id, name, unit, help: names and one sentence.
        type: number, whole or choice.
        least, most: limits of a number.
        default: None for automatic.
        choices: value and text of each choice.
    """

    id: str
    name: str
    help: str
    unit: str = ""
    type: str = "number"
    least: float = 0.0
    most: float = 1e9
    default: Any = None
    choices: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        names = ("id", "name", "unit", "type", "least", "most", "default", "help")
        return {name: getattr(self, name) for name in names} | {
            "choices": [list(choice) for choice in self.choices]
        }

    def checked(self, value: Any) -> Any:
        """The value in its limits, or the default for None.

        Raises:
            SpherodetectError: another value.
        """
        if value is None:
            return self.default
        if self.type == "choice":
            if value not in [choice for choice, _ in self.choices]:
                known = ", ".join(choice for choice, _ in self.choices)
                raise SpherodetectError(
                    f"{self.name}: expected one of {known}, got {quoted(value, max_chars=40)}"
                )
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not self.least <= value <= self.most:
            raise SpherodetectError(
                f"{self.name}: expected a number from {self.least:g} to {self.most:g} {self.unit}, "
                f"got {quoted(value, max_chars=40)}"
            )
        if self.type == "whole" and value != int(value):
            raise SpherodetectError(f"{self.name}: expected a whole number, got {value:g}")
        return int(value) if self.type == "whole" else float(value)


#: The parameters that every method has.
COMMON = (
    Parameter("least_area_px", "Least area", "Smaller objects are left out.", unit="px²", most=1e8),
    Parameter("most_area_px", "Most area", "Larger objects are left out.", unit="px²", most=1e8),
    Parameter(
        "border",
        "Border",
        "Objects that the edge of the image may cut.",
        type="choice",
        default=KEEP,
        choices=((KEEP, "keep objects at the border"), (DROP, "leave out objects at the border")),
    ),
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found in a field.

    Attributes:
        cells: measured.
        named: whether classes and probabilities of the cells mean something.
        accepted: whether the cells may be counted, None where that was not judged.
        reason: why not.
        um_per_px: a pixel size that the method found out, or None.
        scale_source: its source.
    """

    cells: Cells
    named: bool = False
    accepted: bool | None = None
    reason: str = ""
    um_per_px: float | None = None
    scale_source: str = ""


class Method(Protocol):
    """Finds the objects of one field.

    Attributes:
        id, name: of the method.
        cost: what a field costs, in one phrase.
        parameters: what can be set.
    """

    id: str
    name: str
    cost: str
    parameters: tuple[Parameter, ...]

    def missing(self, project: Project) -> str:
        """Why the method cannot be used in a project, and what to do; empty if it can."""

    def find(self, project: Project, field: FieldRow, params: Mapping[str, Any]) -> Found:
        """The objects of a field.

        Args:
            params: checked, by the ids of the parameters.

        Raises:
            SpherodetectError: the field cannot be used.
        """


def checked_params(method: Method, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a method with their defaults.

    Raises:
        SpherodetectError: an unknown parameter, or a value beyond its limits.
    """
    known = {parameter.id: parameter for parameter in method.parameters}
    for name in params:
        if name not in known:
            raise SpherodetectError(
                f"{method.name}: expected parameters {', '.join(known)}, got "
                f"{quoted(name, max_chars=40)}"
            )
    checked = {name: one.checked(params.get(name)) for name, one in known.items()}
    least, most = checked.get("least_area_px"), checked.get("most_area_px")
    if least is not None and most is not None and least > most:
        raise SpherodetectError(
            f"expected a least area below the most area, got {least:g} and {most:g}"
        )
    return checked


def within_limits(cells: Cells, params: Mapping[str, Any]) -> Cells:
    """The measured cells that the common parameters leave."""
    area = cells.measurements["area_px"]
    kept = np.isfinite(area)
    if params["least_area_px"] is not None:
        kept &= area >= params["least_area_px"]
    if params["most_area_px"] is not None:
        kept &= area <= params["most_area_px"]
    if params["border"] == DROP:
        kept &= ~cells.at_border
    return cells if kept.all() else cells[kept]


__all__ = [
    "COMMON",
    "DROP",
    "KEEP",
    "Found",
    "Method",
    "Parameter",
    "checked_params",
    "within_limits",
]

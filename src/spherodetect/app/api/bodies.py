"""What requests hold, checked: whole numbers that SQLite can hold, finite numbers, short texts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from spherodetect.app.store.labels import checked_name
from spherodetect.errors import SpherodetectError

MAX_STEPS, MAX_ITEMS, MAX_LIST = 200, 2000, 100_000
_MOST = 2**53


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except SpherodetectError as error:
        raise ValueError(str(error)) from error


Id = Annotated[int, Field(ge=1, le=_MOST)]
PathId = Annotated[int, Path(ge=1, le=_MOST)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=200), AfterValidator(_name)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Points = Annotated[list[Number], Field(max_length=20_000)]


class Body(BaseModel):
    """A JSON object without unknown members."""

    model_config = ConfigDict(extra="forbid")


class Reviewed(Body):
    reviewer: Name


class LabelItem(Body):
    object: Id
    label: Id | None


class _Step(Body):
    key: Key


class LabelStep(_Step):
    kind: Literal["label"]
    source: Literal["field", "cards", "embedding", "statistics"] = "field"
    seen: Literal["open", "blind"] = "open"
    items: Annotated[list[LabelItem], Field(min_length=1, max_length=MAX_ITEMS)]


class DrawStep(_Step):
    kind: Literal["draw"]
    field: Id
    polygon_xy: Points
    label: Id | None = None


class CutStep(_Step):
    kind: Literal["cut"]
    object: Id
    line_xy: Annotated[list[Number], Field(max_length=2000)]


class JoinStep(_Step):
    kind: Literal["join"]
    objects: Annotated[list[Id], Field(min_length=2, max_length=100)]


class DeleteStep(_Step):
    kind: Literal["delete"]
    objects: Annotated[list[Id], Field(min_length=1, max_length=MAX_ITEMS)]


class QueueStep(_Step):
    kind: Literal["queue"]
    item: Id
    action: Literal["keep", "replace"]
    label: Id | None = None


class Answer(Body):
    n: Annotated[int, Field(ge=0, le=1000)]
    answer: Literal["spherocyte", "other", "excluded", "unsure"]


class AnswerStep(_Step):
    kind: Literal["answer"]
    review: Id
    page: Id
    answers: Annotated[list[Answer], Field(min_length=1, max_length=100)]


class TurnStep(_Step):
    kind: Literal["undo", "redo"]


Step = Annotated[
    LabelStep | DrawStep | CutStep | JoinStep | DeleteStep | QueueStep | AnswerStep | TurnStep,
    Field(discriminator="kind"),
]


class Steps(Reviewed):
    steps: Annotated[list[Step], Field(max_length=MAX_STEPS)]


class SetBody(Body):
    name: Name


class SetChange(Body):
    name: Name | None = None
    active: Literal[True] | None = None


class LabelBody(Body):
    name: Name
    colour: Annotated[str, Field(max_length=20)]
    key: Annotated[str, Field(max_length=4)] | None = None
    meaning: Literal["class", "unknown", "ignore"] = "class"


class LabelChange(Body):
    name: Name | None = None
    colour: Annotated[str, Field(max_length=20)] | None = None
    key: Annotated[str, Field(max_length=4)] | None = None
    meaning: Literal["class", "unknown", "ignore"] | None = None
    position: Annotated[int, Field(ge=0, le=10_000)] | None = None


class CardsBody(Body):
    mode: Literal["class", "doubt", "objects"] = "class"
    label: Annotated[int, Field(ge=0, le=_MOST)] | None = None
    by: Literal["human", "model", "classifier", "shown"] = "shown"
    field: Id | None = None
    patient: Annotated[str, Field(max_length=1000)] | None = None
    seed: Seed = 1
    offset: Annotated[int, Field(ge=0, le=_MOST)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 300
    objects: Annotated[list[Id], Field(max_length=MAX_LIST)] = []


class ScaleBody(Reviewed):
    x0: Number | None = None
    y0: Number | None = None
    x1: Number | None = None
    y1: Number | None = None
    length_um: Number | None = None
    um_per_px: Number | None = None
    apply_to: Literal["this", "same_bar", "all"] = "this"


class ConfirmBody(Reviewed):
    fields: Annotated[list[Id], Field(min_length=1, max_length=MAX_LIST)]


Params = Annotated[dict[str, Any], Field(max_length=40)]


class PreviewBody(Body):
    field: Id
    method: Annotated[str, Field(max_length=40)]
    params: Params = {}


class RunBody(Reviewed):
    method: Annotated[str, Field(max_length=40)]
    params: Params = {}
    fields: Literal["all"] | Annotated[list[Id], Field(min_length=1, max_length=MAX_LIST)] = "all"


class ReviewBody(Reviewed):
    patient: Annotated[str, Field(max_length=1000)]
    cells: Annotated[int, Field(ge=1, le=1000)] = 100
    seed: Seed | None = None


class TrainBody(Reviewed):
    include_reviewed: bool = False


class EmbeddingBody(Body):
    method: Literal["pca", "tsne"] = "pca"
    max: Annotated[int, Field(ge=3, le=10_000)] = 3000
    seed: Seed = 1

"""The reviews that lie with a folder of results, as the score of each patient needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.pipeline.review_record import FOLDER, ReviewRecord, frozen_cells, has_changed
from spherodetect.safety import quoted, safe_name
from spherodetect.score.patient_review import PatientReview, patient_review


class Reviews:
    """The reviews of a folder of results; none without a folder.

    Attributes:
        problems: one sentence for each review that could not be counted.
    """

    def __init__(self, results: Path | None) -> None:
        self._results = results
        self.problems: list[str] = []

    def of(self, patient_id: str, fields: Sequence[Examined]) -> PatientReview | None:
        """The review of a patient, or None where no batch was answered completely.

        A review of cells that this run does not have is not counted, and `problems` says so.
        """
        if self._results is None:
            return None
        path = self._results / FOLDER / f"{safe_name(patient_id)}.jsonl"
        try:
            record = ReviewRecord.read(path)
        except SpherodetectError as error:
            self.problems.append(str(error))
            return None
        if record.draw is None or not record.readers:
            return None
        if has_changed(record.draw, frozen_cells(fields)):
            self.problems.append(
                f"patient {quoted(patient_id)}: the run has changed since its review was drawn, so "
                "the review is not counted; its answers are kept, draw again with `spherodetect "
                "review RESULTS --draw DIR`"
            )
            return None
        return review_of(record)


def review_of(record: ReviewRecord) -> PatientReview:
    """The review of a record in which at least one reviewer answered a batch completely."""
    draw = record.draw
    assert draw is not None
    answers = {reviewer: record.first_answers(reviewer) for reviewer in record.readers}
    return patient_review(draw.p, draw.ids, draw.groups, answers, draw.seed, batches=record.batches)

"""The answers of the app's reviews in the form that `spherodetect review --apply` takes.

Where the project is a folder of results, they are taken in at once: the reviewed score of the
tables and pages of that folder then rests on them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from spherodetect.app.errors import Conflict
from spherodetect.app.jobs import Job, Work
from spherodetect.app.project import Project
from spherodetect.app.reviews import Review, answers_of, reviews_of
from spherodetect.pipeline.review import apply_review
from spherodetect.safety import quoted

COMMAND = "spherodetect review RESULTS --apply {file}"


def answers_file(review: Review, reviewer: str, said: dict[int, str]) -> dict[str, Any]:
    """What one reviewer answered in a review; of cells that were shown twice, the first answer."""
    known = {key: said[place] for key, place in review.place_of.items() if place in said}
    cells = [review.draw.by_key[key] for key in review.draw.order if key in known]
    return {
        "spherodetect_review": 1,
        "patient_id": review.patient,
        "reviewer": reviewer,
        "seed": review.draw.seed,
        "cells_sha256": review.draw.cells_sha256,
        "batches": review.batches,
        "answers": [
            {"field_id": one.field_id, "cell_id": one.cell_id, "answer": known[one.key]}
            for one in cells
        ],
    }


def hand_over(project: Project) -> Work:
    """A job that takes the answers of all reviews into the results that the project is."""

    def work(job: Job) -> Generator[None]:
        base = project.base
        if not project.is_results:
            raise Conflict(
                f"{quoted(project.name)}: expected a folder of results, got one of photographs; "
                "download the answers, and apply them to the results with `spherodetect review`"
            )

        def progress(done: int, total: int, label: str) -> None:
            job.check()
            job.progress(done, total, label)

        with tempfile.TemporaryDirectory() as folder:
            files: list[Path] = []
            # Of a patient who was reviewed anew, the latest review counts.
            for review in {one.patient: one for one in reviews_of(base)}.values():
                for reviewer, said in answers_of(base, review).items():
                    path = Path(folder) / f"{len(files)}.json"
                    path.write_text(json.dumps(answers_file(review, reviewer, said)))
                    files.append(path)
            if not files:
                raise Conflict("expected answers of a review, got none; review a patient first")
            result = apply_review(
                project.folder, files, model=project.detector(), progress=progress
            )
        reviewed = [one for one in result.scores if one.basis == "reviewed"]
        job.result = {
            "n_reviewed_patients": len(reviewed),
            "patients": [one.patient_id for one in reviewed],
            "problems": [_without_file(text) for text in result.problems],
        }
        yield from ()

    return work


def _without_file(text: str) -> str:
    """A problem without the name of the temporary file of answers."""
    file, _, rest = text.partition(", ")
    return rest if ".json" in file and rest else text


__all__ = ["COMMAND", "answers_file", "hand_over"]

"""The demo: synthetic patients, drawn and scored."""

from __future__ import annotations

from pathlib import Path

from spherodetect.pipeline.examine import Progress
from spherodetect.pipeline.run import _no_progress, score_paths
from spherodetect.report.results import RunResult


def demo(out: Path, *, n_fields: int = 12, progress: Progress = _no_progress) -> RunResult:
    """Draw two synthetic patients, one with spherocytes and one without, and score them with the
    bundled model.

    The first is an extreme: error rates of the bundled model differ so much between slides that at
        5 to 50 % its
    interval is wider than the 10 points that status ok allows.
    """
    from PIL import Image

    from spherodetect.synthetic import SmearStyle, draw_patient

    smears = out / "smears"
    for number, (patient, fraction) in enumerate(
        {"with_spherocytes": 0.95, "without_spherocytes": 0.0}.items()
    ):
        folder = smears / patient
        folder.mkdir(parents=True, exist_ok=True)
        fields = draw_patient(
            7 + number,
            n_fields=n_fields,
            spherocyte_fraction=fraction,
            style=SmearStyle(),
            patient_id=patient,
        )
        for drawn in fields:
            Image.fromarray(drawn.image).save(folder / drawn.cells.field_id)
    return score_paths([smears], out, progress=progress)

"""The demo: synthetic patients, drawn and scored."""

from __future__ import annotations

from pathlib import Path

from spherodetect.pipeline.run import Progress, no_progress, score_patients
from spherodetect.report.results import Result


def demo(out: str | Path, *, n_fields: int = 12, progress: Progress = no_progress) -> Result:
    """Draw two synthetic patients, one with spherocytes and one without, and score them with the
    bundled model.

    The first is an extreme case. The error rates of the bundled model differ so much between slides
    that its interval at 5 to 50 % is wider than the 10 points that status ok allows.

    Raises:
        SpherodetectError: an output cannot be written.
    """
    from PIL import Image

    from spherodetect.synthetic import SmearStyle, draw_patient

    smears = Path(out) / "smears"
    shares = {"with_spherocytes": 0.95, "without_spherocytes": 0.0}
    for number, (patient, fraction) in enumerate(shares.items()):
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
    return score_patients(smears, out=out, progress=progress)


__all__ = ["demo"]

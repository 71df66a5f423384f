"""The progress of a run: held-out figures at each validation, and an early end."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]


def validation(value: float, spherocytes: int = 40) -> dict[str, float]:
    return {"spherocyte_ap": value, "held_out_cells": 300, "held_out_spherocytes": spherocytes}


def test_each_validation_is_in_the_log_with_the_best_so_far(caplog):
    from spherodetect.training.progress import EarlyStop, Observer

    lines: list[str] = []
    observer = Observer(60, step=0, patience=2, progress=lambda *step: lines.append(step[2]))
    with caplog.at_level(logging.INFO, logger="spherodetect"):
        for step, value in ((20, 0.5), (40, 0.75)):
            observer.after_loop(step, {"training_loss": 1.0})
            observer.after_validation(validation(value))
        observer.after_validation(validation(0.6))
        with pytest.raises(EarlyStop):
            observer.after_validation(validation(0.6))
    said = caplog.messages
    assert len(said) == 4
    assert "step 20" in said[0] and "0.500" in said[0] and "300" in said[0] and "40" in said[0]
    assert "0.600" in said[3] and "best 0.750 at step 40" in said[3]
    assert "0.500" in lines[1] and all(line.count("left") == 1 for line in lines)


def test_without_a_held_out_spherocyte_no_figure_is_shown(caplog):
    from spherodetect.training.progress import Observer

    observer = Observer(60, step=0, patience=0, progress=lambda *step: None)
    with caplog.at_level(logging.INFO, logger="spherodetect"):
        observer.after_validation(validation(-1.0, spherocytes=0))
    assert "no spherocyte is held out" in caplog.text and "-1" not in caplog.text

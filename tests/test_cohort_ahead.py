"""cohort.ahead and cohort.worker: fields examined ahead of a run, with a cluster that is a stand-in
for Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cohort_stub import Grid, StandIn, results_of, write_smears
from spherodetect.cohort.ahead import examine_ahead
from spherodetect.cohort.worker import Task, Worker, code_key
from spherodetect.errors import SpherodetectError
from spherodetect.fields.find import find_fields
from spherodetect.pipeline import overlay_files
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.run import score_patients
from spherodetect.pipeline.store import FieldStore

PROBLEM = "'p0/torn.png': expected"


@pytest.fixture(scope="module")
def smears(tmp_path_factory) -> Path:
    return write_smears(tmp_path_factory.mktemp("smears"))


@pytest.fixture(scope="module")
def undisturbed(smears, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run without a cluster."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = score_patients(smears, model=Grid(), out=out)
    assert len(result.scores) == 2 and result.problems[0].startswith(PROBLEM)
    return results_of(out)


def _run(smears: Path, out: Path, cluster: StandIn, detector: object = None) -> tuple[str, ...]:
    result = score_patients(
        smears,
        model=detector or Grid(),
        out=out,
        examining=lambda fields, detector, **settings: examine_ahead(
            list(fields), detector, cluster=cluster, **settings
        ),
    )
    return result.problems


def test_the_files_are_those_of_a_run_without_a_cluster(smears, undisturbed, tmp_path):
    cluster = StandIn(Grid())
    assert _run(smears, tmp_path / "out", cluster)[0].startswith(PROBLEM)
    assert results_of(tmp_path / "out") == undisturbed
    # A file that is no image is tried by a worker too; the sentence is that of the run.
    assert sorted(cluster.submitted) == [f"p{p}/f{n}.png" for p in "01" for n in "012"] or sorted(
        cluster.submitted
    ) == ["p0/f0.png", "p0/f1.png", "p0/f2.png", "p0/torn.png", *(f"p1/f{n}.png" for n in "012")]
    assert cluster.n_alive == 0


def test_the_workers_draw_the_overlays(smears, undisturbed, tmp_path, monkeypatch):
    drawn = []
    draw = overlay_files._drawn

    def counted(photograph, field):
        drawn.append(field.field_id)
        return draw(photograph, field)

    monkeypatch.setattr(overlay_files, "_drawn", counted)
    _run(smears, tmp_path / "out", StandIn(Grid()))
    assert results_of(tmp_path / "out") == undisturbed
    assert sorted(drawn) == [f"p{p}/f{n}.png" for p in "01" for n in "012"]  # each field once


def test_a_run_that_needs_no_field_starts_no_worker(smears, undisturbed, tmp_path):
    (smears / "p0" / "torn.png").rename(tmp_path / "torn.png")
    try:
        _run(smears, tmp_path / "out", StandIn(Grid()))
        again = StandIn(Grid())
        _run(smears, tmp_path / "out", again)
    finally:
        (tmp_path / "torn.png").rename(smears / "p0" / "torn.png")
    assert again.submitted == [] and again._workers == []


@pytest.mark.parametrize("moment", range(0, 7, 2))
def test_a_worker_that_dies_is_replaced_and_its_fields_are_done_again(
    smears, undisturbed, tmp_path, moment
):
    deaths = []

    def dies(worker: int, task: Task) -> bool:
        deaths.append(task.field.field_id)
        return len(deaths) == moment + 1

    cluster = StandIn(Grid(), dies=dies)
    _run(smears, tmp_path / "out", cluster)
    assert results_of(tmp_path / "out") == undisturbed
    assert len(cluster._workers) == 3
    assert 8 <= len(cluster.submitted) <= 9  # the field that was examined, and one that waited


def test_a_field_that_kills_every_worker_is_named_and_the_others_go_on(smears, tmp_path):
    cluster = StandIn(Grid(), dies=lambda worker, task: task.field.field_id == "p0/f1.png")
    problems = _run(smears, tmp_path / "out", cluster)
    assert [one for one in problems if "p0/f1.png" in one] == [
        "'p0/f1.png': not examined, 3 workers of the cluster ended with it, perhaps for their "
        "memory; score it on a larger machine"
    ]
    tried = Counter(cluster.submitted)
    assert tried["p0/f1.png"] == 3
    cells = (tmp_path / "out" / "cells.csv").read_text()
    assert cells.count("p0/f0.png") == 25 and "p0/f1.png" not in cells
    assert "p0/f1.png" in (tmp_path / "out" / "quality.csv").read_text()


def test_files_that_the_workers_do_not_see_are_sent(smears, undisturbed, tmp_path):
    cluster = StandIn(Grid(), absent=True)
    _run(smears, tmp_path / "out", cluster)
    assert results_of(tmp_path / "out") == undisturbed
    assert cluster.sent_files >= 6


def test_a_worker_that_fails_leaves_its_fields_to_the_run(smears, undisturbed, tmp_path, caplog):
    class Failing(Grid):
        def detect(self, image, um_per_px=None):
            raise MemoryError("too little")

    _run(smears, tmp_path / "out", StandIn(Failing()))
    assert results_of(tmp_path / "out") == undisturbed
    told = [one for one in caplog.messages if "a worker cannot examine it" in one]
    assert len(told) == 1 and "MemoryError: too little" in told[0]


def test_no_worker_has_more_than_two_fields_and_the_run_is_not_left_behind(tmp_path):
    smears = write_smears(tmp_path / "smears", n_patients=1, n_fields=70)
    cluster = StandIn(Grid(), n_workers=1)
    fields = find_fields(smears).fields
    ids = []
    for one in examine_ahead(fields, Grid(), cluster=cluster):
        ids.append(one.field_id)
        assert len(cluster.submitted) <= len(ids) + 32
    assert ids == [field.field_id for field in fields]
    assert cluster.most_at_a_time == 2


def test_a_run_that_ended_goes_on_after_its_last_finished_field(smears, undisturbed, tmp_path):
    class Ended(Exception):
        pass

    def dies(worker: int, task: Task) -> bool:
        if len(cluster.submitted) > 4:
            raise Ended
        return False

    cluster = StandIn(Grid(), dies=dies)
    with pytest.raises(Ended):
        _run(smears, tmp_path / "out", cluster)
    stored = {path.stem for path in (tmp_path / "out").rglob("fields/*.npz")}
    assert stored
    again = StandIn(Grid())
    _run(smears, tmp_path / "out", again)
    assert len(again.submitted) <= 7 - len(stored)
    assert results_of(tmp_path / "out") == undisturbed


def test_a_worker_with_other_code_is_refused(smears, tmp_path):
    with pytest.raises(SpherodetectError, match="machine 'elsewhere' of the cluster: expected the"):
        _run(smears, tmp_path / "out", StandIn(Grid(), code="other"))


def test_a_detector_without_an_identity_is_refused(smears, tmp_path):
    class Nameless:
        detect = Grid().detect

    with pytest.raises(SpherodetectError, match="an attribute `identity`"):
        _run(smears, tmp_path / "out", StandIn(Grid()), Nameless())


def test_workers_that_never_start_are_one_sentence(smears, tmp_path):
    class Broken(StandIn):
        def start(self) -> int:
            worker = super().start()
            self._workers[worker] = None
            return worker

    cluster = Broken(Grid())
    with pytest.raises(SpherodetectError, match="no worker of the cluster starts: ended"):
        _run(smears, tmp_path / "out", cluster)
    assert len(cluster._workers) <= 6


def test_a_worker_gives_the_bytes_that_the_run_would_store(smears, tmp_path):
    field = find_fields(smears).fields[0]
    store = FieldStore(tmp_path / "store")
    list(examine([field], Grid(), store=store))
    (path,) = store.folder.glob("*.npz")
    from spherodetect.cohort.worker import DetectorCopy

    worker = Worker(DetectorCopy.of(Grid()), 1)
    assert worker.greet().code == code_key()
    assert worker.examine(Task(field, path.stem)).content == path.read_bytes()
    # A file of the same name that is another photograph is no such file.
    assert worker.examine(Task(field, "0" * 64)).absent
    sent = {field.path: field.path.read_bytes()}
    elsewhere = Task(field, path.stem, files=sent)
    assert worker.examine(elsewhere).content == path.read_bytes()
    torn = find_fields(smears / "p0" / "torn.png").fields[0]
    key = "1" * 64
    assert worker.examine(Task(torn, key, files={torn.path: b"no image"})).content is None

"""The store of the app: what people did stays, in order, once, and under the same objects."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherodetect.app.errors import Conflict, NotThere
from spherodetect.app.store import edits, steps
from spherodetect.app.store.attach import add_run, attach
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import add_field, all_fields, one_field
from spherodetect.app.store.journal import journal_mode
from spherodetect.app.store.labels import (
    active_set,
    add_label,
    change_label,
    delete_label,
    labels_of,
    make_first_set,
)
from spherodetect.app.store.objects import objects_by_id, objects_in
from spherodetect.app.store.outlines import Outline, cut_masks, drawn_mask, polygon_xy, read_mask
from spherodetect.app.store.schema import MIGRATIONS, VERSION
from spherodetect.errors import SpherodetectError
from spherodetect.rle import pack_runs, run_lengths

SIZE = (120, 160)
_keys = itertools.count()


def who(reviewer: str = "anna", **more: str) -> steps.Who:
    return steps.Who(reviewer, f"key-{next(_keys):06d}", **more)


def disc(y: float, x: float, radius: float = 10) -> Outline:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    mask = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    ys, xs = np.nonzero(mask)
    box = int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1
    return Outline(box, mask[box[0] : box[2], box[1] : box[3]], measurements={"area_px": 1.0})


@pytest.fixture
def base(tmp_path):
    opened = Database(tmp_path)
    make_first_set(opened)
    yield opened
    opened.close()


@pytest.fixture
def field(base):
    return add_field(base, sha256="a" * 64, patient="p", name="a.png", path="a.png", size_hw=SIZE)[
        0
    ]


def found(base, field, outlines, method="watershed"):
    run = add_run(base, method, {}, "anna")
    return attach(base, field, outlines, size_hw=SIZE, run_id=run)


def labels(base) -> dict[str, int]:
    return {label.name: label.id for label in labels_of(base, active_set(base))}


def label_of(base, object_id: int) -> int | None:
    row = base.row("SELECT label_id FROM current_label WHERE object_id = ?", (object_id,))
    return None if row is None else row["label_id"]


def test_the_log_refuses_to_forget(base, field):
    found(base, field, [disc(30, 30)])
    edits.label_objects(base, who(), [(1, 1)])
    for table in ("step", "label_event", "outline", "object"):
        with pytest.raises(sqlite3.IntegrityError), base.writing():
            base.execute(f"DELETE FROM {table}")
    for change in ("step SET reviewer = 'x'", "label_event SET label_id = 2"):
        with pytest.raises(sqlite3.IntegrityError), base.writing():
            base.execute(f"UPDATE {change}")


def test_every_change_reaches_the_disk_before_it_is_confirmed(base):
    assert base.number("PRAGMA synchronous") == 2  # FULL
    assert base.row("PRAGMA journal_mode")[0] == "wal"
    assert base.number("PRAGMA foreign_keys") == 1


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("dev / ext4 rw 0 0", "WAL"),
        ("dev / ext4 rw 0 0\nserver:/x {folder} nfs4 rw 0 0", "DELETE"),
        ("dev / ext4 rw 0 0\ndrive {folder} fuse.drive rw 0 0", "DELETE"),
        ("//s/x / cifs rw 0 0\ndev {folder} ext4 rw 0 0", "WAL"),
        ("dev / ext4 rw 0 0\nserver:/x {folder}x nfs4 rw 0 0", "WAL"),
    ],
)
def test_network_drives_get_the_rollback_journal(tmp_path, mounts, mode):
    assert journal_mode(tmp_path, mounts=mounts.format(folder=tmp_path)) == mode


def test_a_step_that_is_sent_again_is_stored_once(base, field):
    found(base, field, [disc(30, 30)])
    mine = who()
    first = edits.label_objects(base, mine, [(1, 2)])
    again = edits.label_objects(base, mine, [(1, 2)])
    assert (first.status, again.status) == ("stored", "known")
    assert first.step == again.step
    assert base.number("SELECT count(*) FROM label_event") == 1


def test_a_step_is_stored_whole_or_not_at_all(base, field):
    found(base, field, [disc(30, 30)])
    with pytest.raises(NotThere):
        edits.label_objects(base, who(), [(1, 2), (99, 2)])
    assert base.number("SELECT count(*) FROM step") == 0
    assert label_of(base, 1) is None


def test_fifty_undos_and_redos_lead_back_and_the_log_keeps_all(base, field):
    found(base, field, [disc(20 + 25 * (k // 5), 15 + 28 * (k % 5)) for k in range(20)])
    rng = np.random.default_rng(1)
    states = [{}]
    for _ in range(50):
        object_id, label = int(rng.integers(1, 21)), int(rng.integers(1, 5))
        edits.label_objects(base, who(), [(object_id, label)])
        states.append(states[-1] | {object_id: label})

    def now():
        rows = base.rows("SELECT object_id, label_id FROM current_label")
        return {row["object_id"]: row["label_id"] for row in rows}

    for state in states[-2::-1]:
        assert steps.undo(base, who()).status == "stored"
        assert now() == state
    assert steps.undo(base, who()).status == "nothing"
    for state in states[1:]:
        steps.redo(base, who())
        assert now() == state
    assert steps.redo(base, who()).status == "nothing"
    assert base.number("SELECT count(*) FROM step") == 150


def test_a_new_step_ends_redo_and_undo_goes_past_it(base, field):
    found(base, field, [disc(30, 30)])
    for label in (1, 2):
        edits.label_objects(base, who(), [(1, label)])
    steps.undo(base, who())
    edits.label_objects(base, who(), [(1, 3)])
    assert steps.may_turn(base, "anna") == (True, False)
    assert steps.redo(base, who()).status == "nothing"
    steps.undo(base, who())
    assert label_of(base, 1) == 1
    steps.undo(base, who())
    assert label_of(base, 1) is None


def test_undo_concerns_the_reviewers_own_steps(base, field):
    found(base, field, [disc(30, 30)])
    edits.label_objects(base, who("anna"), [(1, 1)])
    edits.label_objects(base, who("ben"), [(1, 2)])
    steps.undo(base, who("anna"))
    assert label_of(base, 1) == 2
    steps.undo(base, who("ben"))
    assert label_of(base, 1) is None


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("luru"), st.sampled_from("ab"), st.integers(1, 3),
                          st.integers(1, 4)), max_size=25))  # fmt: skip
def test_the_current_labels_follow_from_the_log(tmp_path_factory, moves):
    base = Database(tmp_path_factory.mktemp("project"))
    make_first_set(base)
    field, _ = add_field(base, sha256="0" * 64, patient="p", name="a", path="a", size_hw=SIZE)
    found(base, field, [disc(30, 30), disc(30, 60), disc(30, 90)])
    for kind, reviewer, object_id, label in moves:
        if kind == "l":
            edits.label_objects(base, who(reviewer), [(object_id, label)])
        else:
            (steps.undo if kind == "u" else steps.redo)(base, who(reviewer))
    # The log alone, played again.
    in_force: dict[int, bool] = {}
    for row in base.rows("SELECT * FROM step ORDER BY id"):
        in_force[row["target"] or row["id"]] = row["kind"] != "undo"
    expected = {}
    for event in base.rows("SELECT * FROM label_event ORDER BY id"):
        if in_force[event["step_id"]]:
            expected[event["object_id"]] = event["label_id"]
    assert expected == {k: label_of(base, k) for k in (1, 2, 3) if label_of(base, k)}
    base.close()


def test_a_label_keeps_its_id_and_goes_only_unused(base, field):
    found(base, field, [disc(30, 30)])
    washer = add_label(
        base, active_set(base), name="washer", colour="#2980B9", key="9", meaning="class"
    )
    change_label(base, washer, {"name": "ring", "key": None})
    assert labels(base)["ring"] == washer
    edits.label_objects(base, who(), [(1, washer)])
    steps.undo(base, who())
    with pytest.raises(Conflict, match="events name this label"):
        delete_label(base, washer)
    delete_label(base, labels(base)["platelet"])
    assert "platelet" not in labels(base)
    for wrong in ({"name": "RBC"}, {"key": "1"}):
        with pytest.raises(Conflict):
            change_label(base, washer, wrong)
    for wrong in ({"name": "a\nb" * 40}, {"colour": "red"}, {"key": "ab"}, {"meaning": "x"}):
        with pytest.raises(SpherodetectError, match="expected"):
            change_label(base, washer, wrong)


def test_labels_outlive_another_detection(base, field):
    places = [(20 + 27 * (k // 5), 18 + 30 * (k % 5)) for k in range(20)]
    found(base, field, [disc(*place) for place in places])
    edits.label_objects(base, who(), [(k, 1 + k % 4) for k in range(1, 21)])
    moved = [disc(y + 1, x - 1, 9.5) for y, x in reversed(places)]
    again = found(base, field, moved, "model")
    assert (again.n_objects, again.n_attached, again.n_queued) == (20, 20, 0)
    objects = objects_in(base, field)
    assert [one.id for one in objects] == list(range(1, 21))
    assert all(label_of(base, k) == 1 + k % 4 for k in range(1, 21))
    assert objects[0].outline().box_yxyx == moved[-1].box_yxyx


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ([disc(50, 50, 20)], [disc(50, 39, 9), disc(50, 61, 9)], "split"),
        ([disc(50, 40, 9), disc(50, 60, 9)], [disc(50, 50, 21)], "merge"),
        ([disc(50, 50, 10)], [disc(50, 57, 10)], "changed"),
        ([disc(50, 50, 10)], [disc(90, 120, 10)], "gone"),
    ],
)
def test_what_cannot_be_matched_waits_for_a_person_and_stays(base, field, old, new, kind):
    found(base, field, old)
    edits.label_objects(base, who(), [(k, 2) for k in range(1, len(old) + 1)])
    assert found(base, field, new).n_queued == len(old)
    (entry,) = base.rows("SELECT * FROM queue")
    assert entry["kind"] == kind
    assert json.loads(entry["old"]) == list(range(1, len(old) + 1))
    visible = {one.id for one in objects_in(base, field)}
    assert visible == set(range(1, len(old) + len(new) + 1))
    edits.settle(base, who(), entry["id"], "replace", None)
    now_visible = {one.id for one in objects_in(base, field)}
    assert not now_visible & set(json.loads(entry["old"]))
    assert {label_of(base, k) for k in json.loads(entry["new"])} <= {2}
    with pytest.raises(Conflict, match="decided already"):
        edits.settle(base, who(), entry["id"], "keep", None)
    steps.undo(base, who())
    assert {one.id for one in objects_in(base, field)} == visible
    assert edits.settled(base) == set()


def test_a_merger_into_an_object_that_is_known_leaves_that_object_alone(base, field):
    found(base, field, [disc(50, 50, 14), disc(50, 68, 5)])
    edits.label_objects(base, who(), [(1, 1), (2, 2)])
    assert found(base, field, [disc(50, 52, 17)]).n_queued == 1
    (entry,) = base.rows("SELECT * FROM queue")
    assert (entry["kind"], json.loads(entry["old"]), json.loads(entry["new"])) == (
        "merge",
        [2],
        [1],
    )
    for action, visible in (("keep", [1, 2]), ("replace", [1])):
        edits.settle(base, who(), entry["id"], action, None)
        assert [one.id for one in objects_in(base, field)] == visible
        assert label_of(base, 1) == 1
        steps.undo(base, who())


def test_unlabelled_objects_that_are_gone_come_back_with_their_id(base, field):
    found(base, field, [disc(50, 50), disc(90, 120)])
    found(base, field, [disc(90, 120)])
    assert [one.id for one in objects_in(base, field)] == [2]
    found(base, field, [disc(50, 51), disc(90, 120)])
    assert [one.id for one in objects_in(base, field)] == [1, 2]


def test_a_deleted_object_is_not_brought_back_and_a_drawn_outline_not_replaced(base, field):
    found(base, field, [disc(50, 50)])
    edits.delete_objects(base, who(), [1])
    drawn = edits.draw_object(base, who(), field, disc(90, 120, 10), 2)
    found(base, field, [disc(50, 51), disc(91, 120, 11)])
    (one,) = objects_in(base, field)
    assert one.id == drawn.objects[0]
    assert one.outline().box_yxyx == disc(90, 120, 10).box_yxyx
    steps.undo(base, who())
    steps.undo(base, who())
    assert [one.id for one in objects_in(base, field)] == [1]


def test_cut_and_join_keep_every_pixel_and_every_label(base, field):
    found(base, field, [disc(50, 50, 15)])
    edits.label_objects(base, who(), [(1, 3)])
    cut = edits.cut_object(base, who(), 1, [50.5, 10, 50.5, 90], lambda _, outline: outline)
    pieces = [k for k in cut.objects if k != 1]
    assert len(pieces) == 2
    assert [label_of(base, k) for k in pieces] == [3, 3]
    areas = [objects_by_id(base, [k])[k].area_px for k in (1, *pieces)]
    assert areas[0] == sum(areas[1:])
    edits.join_objects(base, who(), pieces, lambda _, outline: outline)
    (whole,) = objects_in(base, field)
    assert whole.area_px == areas[0]
    assert label_of(base, whole.id) == 3
    with pytest.raises(Conflict, match="deleted or replaced"):
        edits.join_objects(base, who(), pieces, lambda _, outline: outline)
    for _ in range(2):
        steps.undo(base, who())
    assert [one.id for one in objects_in(base, field)] == [1]


@pytest.mark.parametrize(
    "line", [[0, 0, 1, 1], [50, 50, 52, 52], [1e5, 50, 2e5, 50], [50, 50, 50, 50]]
)
def test_a_line_that_cuts_nothing_is_refused(line):
    with pytest.raises(SpherodetectError, match="crosses the outline"):
        cut_masks(disc(50, 50, 15), line)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(20, 100), st.floats(20, 140), st.floats(8, 18),
    st.floats(-0.6, 0.6), st.floats(-0.6, 0.6),
)  # fmt: skip
def test_pieces_of_a_cut_are_disjoint_and_cover_the_outline(y, x, radius, slope, offset):
    whole = disc(y, x, radius)
    at = y + offset * radius
    line = [x - 300, at - 300 * slope, x + 300, at + 300 * slope]
    total = np.zeros(SIZE, int)
    for box, mask in cut_masks(whole, line):
        total[box[0] : box[2], box[1] : box[3]] += mask
    y0, x0, y1, x1 = whole.box_yxyx
    np.testing.assert_array_equal(total[y0:y1, x0:x1], whole.mask.astype(int))
    assert total.sum() == whole.mask.sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_masks_come_back_as_they_were(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 20, 2)) < 0.6
    mask[0, 0] = True
    text = pack_runs(run_lengths(mask).runs)
    np.testing.assert_array_equal(read_mask(text, mask.shape), mask)


def test_a_polygon_lies_on_its_mask():
    outline = disc(50, 70, 15)
    flat = polygon_xy(outline.mask, outline.box_yxyx[:2])
    box, mask = drawn_mask(flat, SIZE)
    again = disc(50, 70, 15)
    both = np.zeros((2, *SIZE), bool)
    for k, (b, m) in enumerate(((box, mask), (again.box_yxyx, again.mask))):
        both[k, b[0] : b[2], b[1] : b[3]] = m
    assert (both[0] & both[1]).sum() / (both[0] | both[1]).sum() > 0.97


@pytest.mark.parametrize(
    "flat",
    [[], [1, 2, 3], [1, 1, 2, 2], [0, 0, 1, 0, 0, float("nan")], [500, 500, 600, 500, 550, 600],
     [1e9, 0, 0, 1e9, 1, 1], [1, 1, 1.2, 1, 1, 1.2]],
)  # fmt: skip
def test_no_outline_is_refused(flat):
    with pytest.raises(SpherodetectError, match="expected"):
        drawn_mask(flat, SIZE)


def test_a_field_is_its_file_wherever_it_lies(base, field):
    same, new = add_field(
        base, sha256="a" * 64, patient="q", name="q/b.png", path="q/b.png", size_hw=SIZE
    )
    assert (same, new) == (field, False)
    assert one_field(base, field).patient == "q"
    assert len(all_fields(base)) == 1


def test_a_copy_is_whole_and_a_later_version_is_refused(base, field, tmp_path):
    found(base, field, [disc(30, 30)])
    edits.label_objects(base, who(), [(1, 2)])
    (tmp_path / "copies").mkdir()
    base.backup(tmp_path / "copies" / "review.sqlite")
    with pytest.raises(SpherodetectError, match="lies there already"):
        base.backup(tmp_path / "copies" / "review.sqlite")
    copy = Database(tmp_path / "copies")
    assert label_of(copy, 1) == 2
    copy.close()
    with sqlite3.connect(tmp_path / "copies" / "review.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(SpherodetectError, match="newer spherodetect"):
        Database(tmp_path / "copies")


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "review.sqlite").write_bytes(b"something else entirely, and longer" * 50)
    with pytest.raises(SpherodetectError, match=r"review\.sqlite"):
        Database(tmp_path)


def test_an_older_file_is_migrated_after_a_copy(tmp_path, monkeypatch):
    first = Database(tmp_path)
    make_first_set(first)
    first.close()
    monkeypatch.setattr(
        "spherodetect.app.store.database.MIGRATIONS",
        (*MIGRATIONS, "CREATE TABLE added (id INTEGER);\nINSERT INTO added VALUES (7);\n"),
    )
    monkeypatch.setattr("spherodetect.app.store.database.VERSION", VERSION + 1)
    later = Database(tmp_path)
    assert later.number("SELECT id FROM added") == 7
    assert later.number("PRAGMA user_version") == VERSION + 1
    assert (tmp_path / f"review-version-{VERSION}.sqlite").is_file()
    later.close()


def test_predictions_of_the_first_version_are_kept_without_those_of_deleted_labels(tmp_path):
    with sqlite3.connect(tmp_path / "review.sqlite") as old:
        old.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
        old.executescript(
            "INSERT INTO label_set VALUES (1, 'a');"
            "INSERT INTO label VALUES (1, 1, 'x', '#000000', NULL, 'class', 0);"
            "INSERT INTO field (id, sha256, patient, name, path, height, width)"
            " VALUES (1, 'f', 'p', 'n', 'n', 9, 9);"
            "INSERT INTO object VALUES (1, 1, 0, 1, 1, 1, NULL), (2, 1, 0, 1, 1, 1, NULL);"
            "INSERT INTO classifier VALUES (1, 1, '', 'anna', '{}', '{}');"
            "INSERT INTO prediction VALUES (1, 1, 1, 0.9, 0.1), (2, 1, 77, 0.9, 0.1);"
        )
    base = Database(tmp_path)
    rows = [tuple(row) for row in base.rows("SELECT * FROM prediction")]
    assert rows == [(1, 1, 1, 1, 0.9, 0.1)]
    base.close()


_WRITER = """
import sys
from spherodetect.app.store import edits, steps
from spherodetect.app.store.database import Database
base = Database(sys.argv[1])
for k in range(40):
    edits.label_objects(base, steps.Who(sys.argv[2], f"{sys.argv[2]}-{k:06d}"), [(1, 1 + k % 4)])
"""


def test_two_programs_write_at_once_and_nothing_is_lost(base, field):
    found(base, field, [disc(30, 30)])
    folder = str(base.path.parent)
    running = [
        subprocess.Popen([sys.executable, "-c", _WRITER, folder, name]) for name in ("anna", "ben")
    ]
    assert [one.wait(60) for one in running] == [0, 0]
    assert base.number("SELECT count(*) FROM label_event") == 80

"""Source photograph and split in the names of exported files."""

from __future__ import annotations

import pytest

from spherodetect.labels.file_names import roboflow_name, source_of, split_in, tile_of

HASH = "9fa5d2cc9ed96d15f38bb03916762fdd"


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (f"train/patient_03_11_jpg.rf.{HASH}.jpg", "patient_03_11"),
        ("valid/smear.1_PNG.rf.HASH.jpg", "smear.1"),
        ("a.tiff.rf.ab12.png", "a"),
        ("train/a_jpg.rf.ab12_0_0_640_480.jpg", "a"),
        ("export/p1/train/a_jpg.rf.ab12.jpg", "p1/a"),
        ("p2/images/a_jpg.rf.ab12.jpg", "p2/a"),
        # Without Roboflow's mark the same name in another folder is another photograph.
        ("train/0001.jpg", "train/0001"),
    ],
)
def test_the_source_photograph(file, source):
    assert source_of(file) == source


@pytest.mark.parametrize(
    ("file", "tile"),
    [
        ("train/a_jpg.rf.ab12_0_0_640_480.jpg", "0_0_640_480"),
        ("train/a_jpg.rf.ab12_320_0_960_480.jpg", "320_0_960_480"),
        ("train/a_jpg.rf.ab12.jpg", ""),
        ("train/a_0_0_640_480.jpg", ""),
    ],
)
def test_the_tile(file, tile):
    assert tile_of(file) == tile


def test_a_written_name_is_read_back():
    assert source_of(roboflow_name("patient_01_2", HASH)) == "patient_01_2"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("valid", "val"),
        ("validation", "val"),
        ("Test", "test"),
        ("instances_val2017", "val"),
        ("latest", None),
        ("trainer", None),
        ("", None),
    ],
)
def test_the_split(name, split):
    assert split_in(name) == split

"""Class names: what people write, in several languages, and which names are refused."""

from __future__ import annotations

import pytest

from spherodetect.errors import BadLabelsError
from spherodetect.vocabulary import (
    CLASS_NAMES,
    RED_CELLS,
    SYNONYMS,
    canonical_name,
    read_classes,
    unknown_names,
)

KNOWN = {
    "rbc": [
        "RBC", "Red_Blood-Cells", "RedBloodCell", "normal cell", "Erythrozyt", "ERYTHROZYTEN",
        "Rote Blutkörperchen", "érythrocytes", "hématie", "globules rouges", "Glóbulos Rojos",
        "eritrocitos", "เม็ดเลือดแดง", "target cell", "Burr-Cell", "Elliptocyte", "Echinozyten",
        "Teardrop Cells", "elliptocyte RBC", "RBC (normal)",
    ],
    "spherocyte": [
        "Spherocytes (HS)", "Sphärozyt", "SPHÄROZYTEN", "Kugelzellen", "sphérocyte", "Esferocitos",
        "microspherocyte", "Spha\u0308rozyt", "สเฟียโรไซต์",
    ],
    "wbc": ["WBCs", "Leukozyten", "Weiße Blutkörperchen", "globules blancs", "เม็ดเลือดขาว"],
    "platelet": ["PLT", "Thrombozyt", "Blutplättchen", "plaquettes", "plaquetas", "เกล็ดเลือด"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "class_name"), [(n, c) for c, names in KNOWN.items() for n in names]
)
def test_usual_names_are_known(name, class_name):
    assert canonical_name(name) == class_name


@pytest.mark.parametrize(
    "name", ["", "not spherocyte", "RBC (spherocyte)", "spherocyte?", "artefact", "3", "rbc/wbc"]
)
def test_other_names_are_not_guessed(name):
    assert canonical_name(name) is None


def test_every_red_cell_of_a_model_reaches_a_class():
    assert {canonical_name(name) for name in RED_CELLS} == {"rbc", "spherocyte"}
    assert set(SYNONYMS.values()) == set(CLASS_NAMES)
    assert {canonical_name(name) for name in CLASS_NAMES} == set(CLASS_NAMES)


def test_a_mapping_goes_before_the_synonyms():
    assert unknown_names(["rbc", "Zelle", "Zelle"], {}) == ["Zelle"]
    assert unknown_names(["rbc", "Zelle"], {"Zelle": "none"}) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", "Zelle: rbc\n3: spherocyte\nDreck: none\n"),
     ("c.csv", "Zelle,rbc\n3,spherocyte\nDreck,none\n"),
     ("d.csv", "Zelle;rbc\r\n3;spherocyte\r\nDreck;none\r\n")],
)  # fmt: skip
def test_a_mapping_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == {"Zelle": "rbc", "3": "spherocyte", "Dreck": "none"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", "Zelle: cell"), ("c.yaml", "[1]"), ("c.csv", "Zelle"), ("c.csv", "a,b,c")],
)
def test_a_wrong_mapping_names_the_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadLabelsError, match=name.replace(".", r"\.")):
        read_classes(tmp_path / name)

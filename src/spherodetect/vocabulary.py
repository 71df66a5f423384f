"""Class names: the four classes, the finer names of red cells, and what people call them.

lint, tfrecords and score all resolve names by `canonical_name`. A name that it does not know is an
error for the caller, never a cell that is silently left out: a missing kind of red cell would raise
the percentage of spherocytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from spherodetect.errors import BadLabelsError
from spherodetect.safety import quoted, read_csv, read_yaml

CLASS_NAMES = ("rbc", "spherocyte", "wbc", "platelet")
#: Names of red cells, also those of models with finer classes: Chula RBC-12's, and HemaDetect's
#: stippled cells.
RED_CELLS = frozenset(
    {"rbc", "spherocyte", "erythrocyte", "normal", "macrocyte", "microcyte", "target cell",
     "stomatocyte", "ovalocyte", "teardrop", "burr cell", "schistocyte", "uncategorised",
     "hypochromia", "elliptocyte", "basophilic stippling"}
)  # fmt: skip
#: The class of a label that is no blood cell, in a mapping of the user.
NO_CELL = "none"

# Names are in lower case without accents; a plural with -s is found by its singular.
_RBC = """
    rbc, red blood cell, red blood corpuscle, red cell, erythrocyte, normal, normocyte, discocyte,
    rotes blutkorperchen, rote blutkorperchen, rote blutzelle, rote blutzellen, erythrozyt,
    erythrozyten, normozyt, normozyten, normal erythrozyt, normale erythrozyten,
    globule rouge, globules rouges, hematie,
    globulo rojo, globulos rojos, eritrocito, celula roja, celulas rojas, glóbulo vermelho, hemacia,
    เม็ดเลือดแดง, เซลล์เม็ดเลือดแดง, เม็ดเลือดแดงปกติ, อีริโทรไซต์
"""
_FINER_RBC = """
    macrocyte, microcyte, target, target cell, codocyte, stomatocyte, ovalocyte, elliptocyte,
    teardrop, tear drop, tear drop cell, dacrocyte, dacryocyte, burr, burr cell, echinocyte,
    acanthocyte, spur cell, schistocyte, schizocyte, fragmented rbc, helmet cell, keratocyte,
    bite cell, blister cell, knizocyte, pencil cell, sickle, sickle cell, drepanocyte,
    uncategorised, uncategorized, hypochromia, hypochromic, basophilic stippling,
    polychromatic, reticulocyte, rouleaux cell,
    makrozyt, makrozyten, mikrozyt, mikrozyten, targetzelle, targetzellen, schiessscheibenzelle,
    schiessscheibenzellen, kodozyt, kodozyten, stomatozyt, stomatozyten, ovalozyt, ovalozyten,
    elliptozyt, elliptozyten, tranentropfenzelle, tranentropfenzellen, dakrozyt, dakrozyten,
    echinozyt, echinozyten, stechapfelzelle, stechapfelzellen, akanthozyt, akanthozyten,
    schistozyt, schistozyten, fragmentozyt, fragmentozyten, sichelzelle, sichelzellen, retikulozyt,
    retikulozyten,
    cellule cible, cellules cibles, schizocyte, drepanocyte,
    macrocito, microcito, diana, celula diana, celulas diana, dianocito, estomatocito, ovalocito,
    eliptocito, dacriocito, equinocito, acantocito, esquistocito, drepanocito, reticulocito
"""
_SPHEROCYTE = """
    spherocyte, microspherocyte, spherical cell,
    spharozyt, spharozyten, sphaerozyt, sphaerozyten, mikrospharozyt, mikrospharozyten,
    mikrosphaerozyt, mikrosphaerozyten, kugelzelle, kugelzellen,
    esferocito, microesferocito, sferocito,
    สเฟียโรไซต์, สเฟียโรไซท์, สเฟอโรไซต์, เม็ดเลือดแดงกลม, เม็ดเลือดแดงทรงกลม
"""
_WBC = """
    wbc, white blood cell, white blood corpuscle, white cell, leukocyte, leucocyte,
    neutrophil, eosinophil, basophil, lymphocyte, monocyte, granulocyte,
    weisses blutkorperchen, weisse blutkorperchen, weisse blutzelle, weisse blutzellen, leukozyt,
    leukozyten, lymphozyt, lymphozyten, monozyt, monozyten, granulozyt, granulozyten,
    globule blanc, globules blancs,
    globulo blanco, globulos blancos, leucocito, linfocito, monocito, neutrofilo, eosinofilo,
    basofilo, neutrophile, eosinophile, basophile,
    เม็ดเลือดขาว, เซลล์เม็ดเลือดขาว, ลิวโคไซต์
"""
_PLATELET = """
    platelet, blood platelet, plt, thrombocyte,
    blutplattchen, thrombozyt, thrombozyten, plaquette, plaqueta, trombocito,
    เกล็ดเลือด, เกร็ดเลือด
"""


def _key(name: str) -> str:
    """A name in lower case, without Latin accents, with single spaces for any separator."""
    words = re.sub(r"(?<=[a-zß-ÿ])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    decomposed = unicodedata.normalize("NFKD", words.casefold())
    # Only Latin accents: Thai writes vowels and tones with combining marks.
    plain = "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


#: What people call the classes; `canonical_name` looks names up here by `_key`.
SYNONYMS: Mapping[str, str] = {
    _key(name): class_name
    for class_name, names in (
        ("rbc", _RBC),
        ("rbc", _FINER_RBC),
        ("spherocyte", _SPHEROCYTE),
        ("wbc", _WBC),
        ("platelet", _PLATELET),
    )
    for name in names.split(",")
}
_BRACKETS = re.compile(r"^(?P<name>[^()]+)\((?P<remark>[^()]*)\)$")
#: A remark in brackets that changes no class: hereditary spherocytosis.
_REMARKS = frozenset({"hs"})


@lru_cache(maxsize=4096)
def canonical_name(name: str) -> str | None:
    """The class that a label's name means, or None if it is not known.

    A finer name of a red cell means rbc. A remark in brackets is accepted if it means the same
    class as the name before it.

    >>> canonical_name("Red_Blood Cells"), canonical_name("Sphärozyt"), canonical_name("Burr-Cell")
    ('rbc', 'spherocyte', 'rbc')
    """
    if (match := _BRACKETS.match(name.strip())) is not None:
        meant, remark = canonical_name(match["name"]), match["remark"]
        agrees = _key(remark) in _REMARKS or canonical_name(remark) == meant
        return meant if agrees else None
    key = _key(name)
    for candidate in (key, key.removesuffix("s"), key.removesuffix("es")):
        if candidate in SYNONYMS:
            return SYNONYMS[candidate]
    # "normal cell", "elliptocyte RBC": a kind of red cell, and the word for cell.
    kind, _, noun = key.removesuffix("s").rpartition(" ")
    if noun in {"cell", "rbc", "zelle", "erythrozyt"} and SYNONYMS.get(kind) in RED_CELLS:
        return SYNONYMS[kind]
    return None


def class_of(name: str, classes: Mapping[str, str]) -> str | None:
    """The class of a name by the user's mapping, or else by `canonical_name`."""
    return classes.get(name) or canonical_name(name)


def same_name(a: str, b: str) -> bool:
    """Whether two names differ only in case, accents and separators."""
    return _key(a) == _key(b)


def unknown_names(names: Iterable[str], classes: Mapping[str, str]) -> list[str]:
    """The names without a class, each once and sorted."""
    return sorted({name for name in names if class_of(name, classes) is None})


def unknown_name_error(where: str, names: Iterable[str], mend: str) -> BadLabelsError:
    """The error for names without a class.

    Args:
        where: the file, quoted.
        names: the unknown names.
        mend: the next step.
    """
    known = sorted({*CLASS_NAMES, *RED_CELLS})
    return BadLabelsError(
        f"{where}: expected known class names, got {', '.join(map(quoted, names))}; "
        f"known: {', '.join(known)}, and their usual names in English, German, French, Spanish and "
        f"Thai; {mend}"
    )


def read_classes(path: str | Path) -> dict[str, str]:
    """The user's mapping of names to classes, for `--classes FILE`.

    The file is YAML (`Zelle: rbc`) or CSV (`Zelle,rbc`). A class is rbc, spherocyte, wbc or
    platelet, or none for a label that is no blood cell.

    Raises:
        BadLabelsError: the file cannot be read, or names another class.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        rows = [cells for _, cells in read_csv(path, error=BadLabelsError)]
        if not all(len(cells) == 2 for cells in rows):
            raise BadLabelsError(f"{quoted(path)}: expected two columns, name and class")
        pairs = {cells[0]: cells[1] for cells in rows}
    else:
        data = read_yaml(path, error=BadLabelsError)
        if not isinstance(data, dict):
            raise BadLabelsError(
                f"{quoted(path)}: expected lines `name: class`, got something else"
            )
        pairs = {str(name): str(class_name) for name, class_name in data.items()}
    allowed = (*CLASS_NAMES, NO_CELL)
    for name, class_name in pairs.items():
        if class_name not in allowed:
            raise BadLabelsError(
                f"{quoted(path)}: {quoted(name)}: expected one of {', '.join(allowed)}, "
                f"got {quoted(class_name)}; mend it there"
            )
    return pairs

"""The bundled model's held-out blocks of a stain, as evidence on how much patients differ.

Error rates differ between patients, and two patients of a laboratory hardly tell by how much. The
blocks of another model on films of the same stain tell more, even if its mean rates are others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

from spherodetect.detect.model_folder import ModelCard

#: Data sets (the part of a records' name before a fold's letter) and whose convention labels them.
CONVENTIONS = {"dataset_a_mgg": "dataset-a", "chula": "chula"}
#: Words of May-Grünwald-Giemsa stain, without accents; Pappenheim's name is in use for it too.
_MGG = ("mgg", "grunwald", "gruenwald", "pappenheim")
_COUNTS = ("true_spherocytes", "called_of_true", "true_others", "called_of_others")


def reference_of(
    stains: Sequence[str], card: ModelCard, *, but: Collection[str] = ()
) -> dict[str, Any]:
    """`rates.reference` of model.json: blocks of a model on films of one of the stains, or nothing.

    Args:
        stains: of the films that taught the new model.
        card: the other model. Its conventions have the blocks.
        but: names of blocks that are left out, because the new model has them itself.
    """
    wanted = {_kind(stain) for stain in stains}
    judged = (card.provenance, *card.provenance.second_look)
    stain_of = {
        name: str(manifest.get("stain", ""))
        for one in judged
        for name, manifest in one.data.items()
    }
    for data_set, convention in CONVENTIONS.items():
        stain = stain_of.get(data_set, "")
        blocks = [
            {key: block[key] for key in ("name", *_COUNTS)}
            for block in card.conventions.get("rates", {}).get(convention, ())
            if block["name"] not in but
        ]
        if stain and _kind(stain) in wanted and blocks:
            return {"model": card.name, "stain": stain, "blocks": blocks}
    return {}


def _kind(stain: str) -> str:
    """The stain in small letters without accents; one name for all names of MGG."""
    plain = unicodedata.normalize("NFKD", stain.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c)).strip()
    return "mgg" if any(word in plain for word in _MGG) else plain


__all__ = ["CONVENTIONS", "reference_of"]

"""What a status means, in other languages than English: a table of texts.

The English sentences, with the numbers that are missing, are in `status_text`.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Language to status to sentence. Every language has every status.
STATUS_TEXTS: Mapping[str, Mapping[str, str]] = {
    "de": {
        "ok": "Genügend zählbare Zellen und Felder; das Intervall ist höchstens 10 Punkte breit.",
        "low_confidence": "Mit geringer Sicherheit eingestuft: zu wenige Zellen oder Felder, oder "
        "ein zu breites Intervall.",
        "at_or_below_limit_of_blank": "Nicht eingestuft: Ein Präparat ohne Sphärozyten könnte "
        "diese Zahl ergeben.",
        "insufficient_cells": "Nicht eingestuft: zu wenige zählbare Zellen oder Felder.",
        "field_quality": "Nicht eingestuft: zu wenige Felder bestanden die Qualitätskontrolle.",
        "unseen_stain": "Nicht eingestuft: Die Ausstriche gleichen keinen, die das Modell gelernt "
        "hat. Der Prozentsatz ist nicht korrigiert.",
        "uncalibrated": "Nicht eingestuft: Die Fehlerraten des Modells sind nicht bekannt. Der "
        "Prozentsatz ist nicht korrigiert.",
        "out_of_domain": "Nicht eingestuft: Diese Bilder gleichen nicht denen, für die das "
        "Verfahren gemacht ist.",
    },
    "es": {
        "ok": "Suficientes células contables y campos; el intervalo mide 10 puntos como máximo.",
        "low_confidence": "Graduado con poca confianza: pocas células o pocos campos, o un "
        "intervalo demasiado ancho.",
        "at_or_below_limit_of_blank": "Sin grado: un frotis sin ningún esferocito podría dar "
        "este recuento.",
        "insufficient_cells": "Sin grado: muy pocas células contables o muy pocos campos.",
        "field_quality": "Sin grado: muy pocos campos superaron el control de calidad.",
        "unseen_stain": "Sin grado: los frotis no se parecen a ninguno de los que el modelo "
        "aprendió. El porcentaje no está corregido.",
        "uncalibrated": "Sin grado: no se conocen las tasas de error del modelo. El porcentaje no "
        "está corregido.",
        "out_of_domain": "Sin grado: estas imágenes no se parecen a aquellas para las que se hizo "
        "el método.",
    },
    "fr": {
        "ok": "Assez de cellules comptables et de champs ; l'intervalle mesure au plus 10 points.",
        "low_confidence": "Gradué avec peu de certitude : trop peu de cellules ou de champs, ou un "
        "intervalle trop large.",
        "at_or_below_limit_of_blank": "Sans grade : un frottis sans aucun sphérocyte pourrait "
        "donner ce compte.",
        "insufficient_cells": "Sans grade : trop peu de cellules comptables ou de champs.",
        "field_quality": "Sans grade : trop peu de champs ont passé le contrôle de qualité.",
        "unseen_stain": "Sans grade : les frottis ne ressemblent à aucun de ceux que le modèle a "
        "appris. Le pourcentage n'est pas corrigé.",
        "uncalibrated": "Sans grade : les taux d'erreur du modèle ne sont pas connus. Le "
        "pourcentage n'est pas corrigé.",
        "out_of_domain": "Sans grade : ces images ne ressemblent pas à celles pour lesquelles la "
        "méthode est faite.",
    },
}


__all__ = ["STATUS_TEXTS"]

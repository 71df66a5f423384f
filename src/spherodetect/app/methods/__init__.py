"""Methods that find objects in a field: watershed, Mask R-CNN, label images, and SAM.

Modules: `method` (what a method is, its parameters), `watershed`, `mask_rcnn`, `label_images`,
`sam`.
"""

from __future__ import annotations

from spherodetect.app.errors import NotThere
from spherodetect.app.methods.label_images import LabelImages
from spherodetect.app.methods.mask_rcnn import MaskRCNN
from spherodetect.app.methods.method import Found, Method, Parameter
from spherodetect.app.methods.sam import Sam
from spherodetect.app.methods.watershed import Watershed

METHODS: tuple[Method, ...] = (Watershed(), MaskRCNN(), LabelImages(), Sam())


def method_named(name: str) -> Method:
    """A method by its id.

    Raises:
        NotThere: there is none.
    """
    for method in METHODS:
        if method.id == name:
            return method
    known = ", ".join(method.id for method in METHODS)
    raise NotThere(f"method: expected one of {known}, got another one")


__all__ = ["METHODS", "Found", "Method", "Parameter", "method_named"]

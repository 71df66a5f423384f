"""The part of a SavedModel that one function needs.

TensorFlow makes Python objects of every operation of every function that a SavedModel holds. That
takes six seconds for the signatures that serve bytes and patients, two for the function of tiles,
and two for the signature of images. Here all but one of them are left out before TensorFlow sees
them. The weights and the function that stays are the same.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PB = "saved_model.pb"
_SIGNATURES = "signatures"
_FUNCTIONS = ("function", "bare_concrete_function")


@contextlib.contextmanager
def with_one_function(
    saved_model: Path, *, signature: str = "", function: str = ""
) -> Iterator[Path]:
    """A temporary copy of a SavedModel with one signature, or with one function of its root.

    The weights are not copied. A SavedModel of another layout, or without this function, is
    returned as it is.

    Args:
        saved_model: the folder.
        signature: name of the signature that stays.
        function: name of the function that stays, if it is no signature.
    """
    with tempfile.TemporaryDirectory(prefix="spherodetect-") as name:
        folder = Path(name)
        content = _reduced((saved_model / _PB).read_bytes(), signature, function)
        if content is None:
            yield saved_model
            return
        (folder / _PB).write_bytes(content)
        for other in saved_model.iterdir():
            if other.name != _PB:
                (folder / other.name).symlink_to(other.resolve())
        yield folder


def _reduced(content: bytes, signature: str, function: str) -> bytes | None:
    """The file without the other functions, or None if it has another layout."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString(content)
        (graph,) = saved.meta_graphs
        objects = graph.object_graph_def
        root = objects.nodes[0]
        (signatures,) = (
            objects.nodes[child.node_id]
            for child in root.children
            if child.local_name == _SIGNATURES
        )
    except Exception:  # of protobuf, which is TensorFlow's dependency and not one of this package
        return None  # TensorFlow says what is wrong with the file
    parent, wanted = (signatures, signature) if signature else (root, function)
    stays = {child.node_id for child in parent.children if child.local_name == wanted}
    if len(stays) != 1:
        return None
    kept = _without_other_functions(objects, stays)
    for node in (signatures, root):
        _drop_emptied(node, objects, stays)
    for name in set(graph.signature_def) - {signature}:
        graph.signature_def.pop(name)
    library = {one.signature.name: one for one in graph.graph_def.library.function}
    called: set[str] = set()
    for name in kept:
        _add_called(name, library, called)
    functions = [one for name, one in library.items() if name in called]
    del graph.graph_def.library.function[:]
    graph.graph_def.library.function.extend(functions)
    return saved.SerializeToString()


def _without_other_functions(objects: Any, stays: set[int]) -> set[str]:
    """Empty the nodes of all functions except these; returns the names of those that stay."""
    kept: set[str] = set()
    for number, node in enumerate(objects.nodes):
        if node.WhichOneof("kind") not in _FUNCTIONS:
            continue
        if number in stays:
            kept |= {*node.function.concrete_functions}
            kept |= {node.bare_concrete_function.concrete_function_name} - {""}
        else:
            # Places of nodes are their names, so that a node cannot be removed.
            node.Clear()
            node.user_object.identifier = "_generic_user_object"
            node.user_object.version.CopyFrom(objects.nodes[0].user_object.version)
    for name in set(objects.concrete_functions) - kept:
        objects.concrete_functions.pop(name)
    return kept


def _drop_emptied(node: Any, objects: Any, stays: set[int]) -> None:
    """Remove the names of emptied functions from an object."""
    children = [
        child
        for child in node.children
        if child.node_id in stays
        or child.local_name == _SIGNATURES
        or not _is_empty(objects.nodes[child.node_id])
    ]
    del node.children[:]
    node.children.extend(children)


def _is_empty(node: Any) -> bool:
    return node.WhichOneof("kind") == "user_object" and not node.children


def _add_called(name: str, library: dict[str, Any], called: set[str]) -> None:
    """Add a function, and those that it calls."""
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in called or name not in library:
            continue
        called.add(name)
        for node in library[name].node_def:
            waiting.append(node.op)
            for value in node.attr.values():
                waiting.append(value.func.name)
                waiting += [one.name for one in value.list.func]


__all__ = ["with_one_function"]

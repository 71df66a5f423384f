"""The part of a SavedModel that detection needs.

TensorFlow makes Python objects of every operation of every function that a SavedModel holds, which
takes six seconds for the signatures that serve bytes and patients and that this package does not
call. Here they are left out before TensorFlow sees them. The weights and the functions that stay
are the same.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PB = "saved_model.pb"
_SIGNATURES = "signatures"


@contextlib.contextmanager
def with_signatures_only(saved_model: Path, names: set[str]) -> Iterator[Path]:
    """A temporary copy of a SavedModel with these signatures alone; its functions stay.

    The weights are not copied. A SavedModel of another layout is returned as it is.

    Args:
        saved_model: the folder.
        names: of the signatures.
    """
    with tempfile.TemporaryDirectory(prefix="spherodetect-") as name:
        folder = Path(name)
        content = _reduced((saved_model / _PB).read_bytes(), names)
        if content is None:
            yield saved_model
            return
        (folder / _PB).write_bytes(content)
        for other in saved_model.iterdir():
            if other.name != _PB:
                (folder / other.name).symlink_to(other.resolve())
        yield folder


def _reduced(content: bytes, names: set[str]) -> bytes | None:
    """The file without the other signatures and what only they call.

    None if nothing can be left out, or if the file has another layout.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString(content)
        (graph,) = saved.meta_graphs
        objects = graph.object_graph_def
        (signatures,) = (
            objects.nodes[child.node_id]
            for child in objects.nodes[0].children
            if child.local_name == _SIGNATURES
        )
    except Exception:  # of protobuf, which is TensorFlow's dependency and not one of this package
        return None  # TensorFlow says what is wrong with the file
    kept = [child for child in signatures.children if child.local_name in names]
    left_out = [child for child in signatures.children if child.local_name not in names]
    if not left_out or len(kept) != len(names):
        return None
    for child in left_out:
        node = objects.nodes[child.node_id]
        if node.WhichOneof("kind") != "bare_concrete_function":
            return None
        objects.concrete_functions.pop(node.bare_concrete_function.concrete_function_name, None)
        # Places of nodes are their names, so that a node cannot be removed.
        node.Clear()
        node.user_object.identifier = "_generic_user_object"
        node.user_object.version.CopyFrom(objects.nodes[0].user_object.version)
        graph.signature_def.pop(child.local_name, None)
    del signatures.children[:]
    signatures.children.extend(kept)
    library = {one.signature.name: one for one in graph.graph_def.library.function}
    called: set[str] = set()
    for function in objects.concrete_functions:
        _add_called(function, library, called)
    functions = [one for name, one in library.items() if name in called]
    del graph.graph_def.library.function[:]
    graph.graph_def.library.function.extend(functions)
    return saved.SerializeToString()


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


__all__ = ["with_signatures_only"]

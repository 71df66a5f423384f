"""serving: the graph's score equals that of score, and unusable files are not decoded."""

from __future__ import annotations

import io
import struct
import zlib
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from spherodetect.fields.image import MAX_PIXELS, read_image
from spherodetect.score.counts import STATUSES, score_counts
from spherodetect.score.rates import ClassifierRates, labels_table

pytestmark = pytest.mark.train
MODELS = {
    "labels": None,
    "good": ClassifierRates((90, 80, 120), (84, 70, 110), (900, 950, 700), (9, 4, 21), name="good"),
    "uneven": ClassifierRates(
        (50, 60, 0), (45, 20, 0), (400, 300, 500), (80, 3, 10), name="uneven"
    ),
    "useless": ClassifierRates((100, 100), (52, 49), (100, 100), (50, 48), name="useless"),
    "unknown": ClassifierRates((), (), (), (), name="unknown"),
}


@pytest.fixture(scope="module")
def serving() -> ModuleType:
    return import_module("spherodetect.graph.serving")


@pytest.fixture(scope="module")
def in_graph(serving):
    """score_counts, traced as for export."""
    import tensorflow as tf

    counts = tf.TensorSpec([None], tf.int32)
    table_of = tf.TensorSpec([None, 3], tf.float64)
    function = tf.function(
        lambda s, n, table, unseen: serving.score_counts(s, n, table, unseen=unseen),
        input_signature=[counts, counts, table_of, tf.TensorSpec([], tf.bool)],
    )

    def score(
        spherocytes, countable, model: ClassifierRates | None, unseen: bool = False
    ) -> dict[str, float]:
        table = labels_table() if model is None else model.table
        counts = (np.array(n, np.int32) for n in (spherocytes, countable))
        result = function(*counts, table, unseen)
        return {name: value.numpy() for name, value in result.items()}

    return score


def assert_same(in_graph, spherocytes, countable, model, *, unseen: bool = False) -> None:
    hint = "unseen_stain" if unseen else None
    ours, theirs = (
        in_graph(spherocytes, countable, model, unseen),
        score_counts(spherocytes, countable, model=model, status_hint=hint),
    )
    for name in ("raw_percent", "hs_score", "hs_score_low", "hs_score_high"):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(
            ours[name], expected, atol=1e-4, rtol=0, err_msg=f"{name}: {spherocytes} {countable}"
        )
    assert STATUSES[int(ours["status_code"])] == theirs.status, (spherocytes, countable)


EDGES = {
    "no field": ([], []),
    "no cells": ([0, 0, 0], [0, 0, 0]),
    "one field": ([30], [250]),
    "two fields": ([30, 10], [250, 200]),
    "with fields without cells": ([0, 30, 0, 25, 31, 20], [0, 250, 0, 200, 240, 190]),
    "none called": ([0] * 12, [100] * 12),
    "all called": ([100] * 12, [100] * 12),
    "all called in one field": ([0] * 11 + [90], [90] * 12),
    "one cell": ([1], [1]),
    "just enough": ([10, 10, 10], [66, 67, 67]),
    "just too few": ([10, 10, 10], [66, 67, 66]),
    "ten quiet fields": ([20] * 10, [100] * 10),
    "very many": ([400] * 60, [2000] * 60),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("edge", EDGES)
def test_the_graph_scores_edge_cases_as_python_does(in_graph, edge, model):
    for unseen in (False, True):
        assert_same(in_graph, *EDGES[edge], MODELS[model], unseen=unseen)


@pytest.mark.parametrize("model", MODELS)
def test_the_graph_scores_random_counts_as_python_does(in_graph, model):
    rng = np.random.default_rng(len(model))
    for _ in range(25):
        n_fields = int(rng.integers(1, 30))
        countable = rng.integers(0, int(rng.choice([20, 150])), n_fields)
        share = rng.beta(1, int(rng.choice([1, 20])))
        assert_same(in_graph, rng.binomial(countable, share), countable, MODELS[model])


def test_all_statuses_of_the_graph_occur(in_graph):
    counts = [([10] * 3, [50] * 3), ([0] * 12, [100] * 12), ([10] * 5, [60] * 5)]
    codes = [int(in_graph(*c, MODELS["good"])["status_code"]) for c in counts]
    perfect = ClassifierRates((900,) * 12, (900,) * 12, (900,) * 12, (0,) * 12)
    codes.append(int(in_graph([10] * 12, [100] * 12, perfect)["status_code"]))
    codes.append(int(in_graph([10] * 12, [100] * 12, MODELS["unknown"])["status_code"]))
    assert {STATUSES[code] for code in codes} == set(STATUSES) - {
        "out_of_domain",
        "field_quality",
        "unseen_stain",
    }


def encoded(kind: str, **options) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 21, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue(), pixels


def test_decoded_pixels_equal_read_image(serving):
    data, pixels = encoded("PNG")
    np.testing.assert_array_equal(serving.decode(data), pixels)
    for options in ({"quality": 95}, {"quality": 70, "subsampling": 2}):
        data, _ = encoded("JPEG", **options)
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(serving.decode(data), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_other_pngs_equal_read_image(serving, mode):
    smooth = np.add.outer(np.arange(40), 3 * np.arange(50)).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(smooth.astype(np.uint16) * 250)
    else:
        image = Image.merge(
            "RGBA", [Image.fromarray(part) for part in (smooth, smooth[::-1], 200 - smooth, smooth)]
        )
        image = image.convert("RGB").quantize(99) if mode == "P" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({"transparency": 3} if mode == "P" else {}))
    ours, theirs = serving.decode(buffer.getvalue()).numpy(), read_image(buffer.getvalue())
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_cmyk_and_grey_jpegs_equal_read_image(serving):
    smooth = Image.fromarray(np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8))
    for image in (
        smooth,
        Image.merge("CMYK", [smooth, smooth.rotate(90), smooth.rotate(180), smooth.rotate(270)]),
    ):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        ours, theirs = serving.decode(buffer.getvalue()).numpy(), read_image(buffer.getvalue())
        assert np.abs(ours.astype(int) - theirs).max() <= 1


def huge_png(height: int, width: int) -> bytes:
    """A PNG with a huge size in its header and hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("height", "width"), [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (1, MAX_PIXELS + 1)]
)
def test_a_huge_image_is_refused_by_its_header(serving, height, width):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {MAX_PIXELS} pixels"):
        serving.decode(huge_png(height, width))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PN", b"GIF89a" + bytes(20), b"BM" + bytes(60), b"II*\x00" + bytes(40), b"%!PS"],
)
def test_other_bytes_than_jpeg_and_png_are_refused(serving, data):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG or PNG"):
        serving.decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_an_error_and_no_crash(serving, kind):
    import tensorflow as tf

    data, _ = encoded(kind)
    for length in (9, 20, len(data) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            serving.decode(data[:length])

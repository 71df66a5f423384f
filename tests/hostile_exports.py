"""Exports as no tool should write them: whole ones with something wrong in them, as hypothesis
strategies.

A seed decides what is changed, so that ten thousand of them cost minutes; hypothesis shrinks to the
simplest seed.
"""

from __future__ import annotations

import copy
import io
import json
import math
import random
import unicodedata
import urllib.parse
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

#: A file's name below the export's root, and its bytes.
Files = dict[str, bytes]

HEIGHT, WIDTH = 48, 64
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 0.5, -7.25, 10**30, 2**63, -(2**63), 1e308, -1e308, 1e-320,
    math.nan, math.inf, -math.inf, "", " ", "0", "1", "\0", "a.jpg", "../../etc/passwd",
    "/etc/passwd", "C:\\boot.ini", "..\\b.jpg", "a" * 300, "\ud800", "\u202egpj.exe", "=1+1",
    "<script>", "\n\r\x1b[2J", "RBC", [], {}, [[]], [{}], [[[]]], [None], [1, 2], [math.nan] * 4,
    [1e300, 1e300, 1e300, 1e300], [0, 0, 0, 0], [[5, 5, 5, 5]], [[1, 1, 9, 9, 1, 1]],
    {"size": [HEIGHT, WIDTH], "counts": [10**12]},
    {"size": [HEIGHT, WIDTH], "counts": [-5, HEIGHT * WIDTH + 5]},
    {"size": [10**9, 10**9], "counts": [10**18]}, {"size": [HEIGHT, WIDTH], "counts": "~" * 50},
    {"size": [HEIGHT, WIDTH], "counts": [0] * 5000}, {"size": None, "counts": None},
    {"counts": "\ud800"},
)  # fmt: skip
LABEL_FILES = (
    "train/_annotations.coco.json",
    "valid/_annotations.coco.json",
    "_annotations.coco.json",
    "labels.json",
    "train.json",
    "annotations/instances_val2017.json",
    "labels_my-project_2024-05-01-10-30-00.json",
)
IMAGE_NAMES = (
    "Mu\u0308ller 01.jpg",
    "patient_02/IMG_0001.JPEG",
    "a.jpg",
    "b.png",
    "c_jpg.rf.0123456789abcdef.jpg",
    "sub/d.jpg",
    "patient_07_3.JPG",
    "ü ñ.jpg",
    "'quoted'.jpg",
)


def _photograph(
    seed: int, *, orientation: int = 1, size_hw: tuple[int, int] = (HEIGHT, WIDTH)
) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (*size_hw, 3), np.uint8)
    image, buffer = Image.fromarray(noise), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


#: Folders of the labels and of the images in exports of a label file for each image.
LAYOUTS = (
    ("labels", "images"),
    ("train/labels", "train/images"),
    ("labels/train", "images/train"),
    ("Annotations", "JPEGImages"),
    ("obj_train_data", "obj_train_data"),
    ("", ""),
)
#: A zip may hold a whole folder of this name.
WRAPPER = "my smears"
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32")
_WHOLE = _photograph(0)
PICTURES = (
    _WHOLE,
    _photograph(1),
    _photograph(2, orientation=6),
    _photograph(3, size_hw=(24, 32)),
    _WHOLE[:300],
    b"",
    b"GIF89a",
)


def whole(rng: random.Random) -> dict[str, Any]:
    """A COCO data set in which nothing is wrong: polygons, several parts, run-length masks, boxes,
    crowds."""
    names = rng.sample(IMAGE_NAMES, rng.randrange(1, 4))
    images = [
        {"id": k, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for k, name in enumerate(names)
    ]
    annotations = []
    for number in range(rng.randrange(7)):
        shape = rng.choice((_polygons, _mask, _box))(rng)
        annotations.append(
            {
                "id": number + 1,
                "image_id": rng.randrange(len(images)),
                "category_id": rng.randrange(1, 4),
                "iscrowd": 0,
                "area": 1.0,
                **shape,
            }
        )
    categories = [{"id": 0, "name": "cells", "supercategory": "none"}] * rng.randrange(2)
    categories += [
        {"id": k, "name": name, "supercategory": "cells"}
        for k, name in enumerate(("RBC", "Spherocyte", "cell, odd"), 1)
    ]
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _polygons(rng: random.Random) -> dict[str, Any]:
    parts = []
    for _ in range(rng.randrange(1, 3)):
        turn = np.sort([rng.uniform(0, 2 * math.pi) for _ in range(rng.randrange(5, 12))])
        x, y = rng.uniform(8, WIDTH - 8), rng.uniform(8, HEIGHT - 8)
        parts.append(
            np.stack([x + 7 * np.cos(turn), y + 5 * np.sin(turn)], axis=1).ravel().tolist()
        )
    points = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    return {"segmentation": parts, "bbox": [*low.tolist(), *(high - low).tolist()]}


def _mask(rng: random.Random) -> dict[str, Any]:
    left, right = sorted(rng.sample(range(WIDTH + 1), 2))
    top, bottom = sorted(rng.sample(range(HEIGHT + 1), 2))
    counts, gap, run = [left * HEIGHT + top], HEIGHT - (bottom - top), bottom - top
    for _ in range(right - left - 1):
        counts += [run, gap]
    counts += [run, HEIGHT * WIDTH - sum(counts) - run]
    return {
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": rng.randrange(2),
    }


def _box(rng: random.Random) -> dict[str, Any]:
    x, y = rng.uniform(0, WIDTH - 6), rng.uniform(0, HEIGHT - 6)
    return {"bbox": [x, y, rng.uniform(1, 6), rng.uniform(1, 6)], "segmentation": []}


def spoil(data: Any, rng: random.Random) -> Any:
    """Change something at a random place: other content, left out, given twice, wrapped, or nested
    deeply."""
    path: list[Any] = []
    here = data
    while isinstance(here, dict | list) and here and (not path or rng.random() < 0.8):
        path.append(rng.choice(list(here) if isinstance(here, dict) else range(len(here))))
        here = here[path[-1]]
    if not path:
        return copy.deepcopy(rng.choice(JUNK))
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.randrange(10)
    if kind < 5:
        parent[path[-1]] = copy.deepcopy(rng.choice(JUNK))
    elif kind < 7:
        del parent[path[-1]]
    elif kind == 7 and isinstance(parent, list):
        parent.append(copy.deepcopy(here))
    elif kind == 8:
        parent[path[-1]] = [here] if rng.random() < 0.5 else {"x": here}
    else:
        for _ in range(rng.randrange(1, 60)):
            here = [here]
        parent[path[-1]] = here
    return data


def garble(text: bytes, rng: random.Random) -> bytes:
    """Damage a file as disks, editors and people do."""
    at = rng.randrange(len(text) + 1)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: text[:at],
        lambda: text[at:],
        lambda: b"\xef\xbb\xbf" + text,
        lambda: text + b"}",
        lambda: (
            text[:at]
            + rng.choice((b"\0", b"\xff\xfe", b"[" * 5000, b"1e999", b'"', b"\xf0\x9f"))
            + text[at:]
        ),
        lambda: text.decode(errors="replace").encode("utf-16"),
        lambda: b"[" * 100_000,
        lambda: b"",
        lambda: text.replace(b"1", b"1" * 5000, 1),
        lambda: b"[" * 900 + text + b"]" * 900,
    )
    return rng.choice(ways)()


def _other_name(name: str, rng: random.Random) -> str:
    """A file name as tools write it that keep another path, form or suffix."""
    ways = (
        lambda: urllib.parse.quote(name),
        lambda: unicodedata.normalize("NFC", name),
        lambda: name.upper(),
        lambda: rf"C:\Users\lab\{name}",
        lambda: f"/data/upload/1/{name}",
        lambda: f"https://host/{name}?key=1",
        lambda: name.rpartition(".")[0],
        lambda: f" {name} ",
    )
    return rng.choice(ways)()


def _coco(rng: random.Random) -> Files:
    files = {}
    for _ in range(rng.choice((1, 1, 1, 2))):
        data = whole(rng)
        for image in data["images"]:
            if rng.random() < 0.3:
                image["file_name"] = _other_name(image["file_name"], rng)
        for _ in range(rng.randrange(5)):
            data = spoil(data, rng)
        text = json.dumps(data).encode()
        files[rng.choice(LABEL_FILES)] = garble(text, rng) if rng.random() < 0.1 else text
    return files


def _voc(rng: random.Random) -> Files:
    files = {}
    for name in rng.sample(IMAGE_NAMES, 2):
        objects = ""
        for _ in range(rng.randrange(4)):
            corners = [
                rng.choice((1, 5, 20.5, 40, -3, "nan", "inf", "", "x", 10**30)) for _ in range(4)
            ]
            keys = rng.choice((("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2")))
            tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
            objects += rng.choice(
                (
                    "<object><name>RBC</name><bndbox>{}</bndbox></object>",
                    "<object><name>Erythrozyt \xe4</name><polygon>{}</polygon></object>",
                    "<object>{}</object>",
                )
            ).format(tags)
        size = rng.choice(
            (f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>", "", "<size>9</size>")
        )
        head = rng.choice(("", '<?xml version="1.0" encoding="utf-8"?>'))
        if rng.random() < 0.1:
            head += '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
        named = f"<filename>{rng.choice(IMAGE_NAMES)}</filename>"
        text = f"{head}<annotation>{named}{size}{objects}</annotation>"
        files[f"{_stem(name)}.xml"] = _written(text, rng)
    return files


def _points(rng: random.Random) -> Files:
    files = {}
    for name in rng.sample(IMAGE_NAMES, 2):
        cells = [
            [rng.choice((1, 20.5, "3,5", -1, 1e300, "nan", "", "x", "0")) for _ in range(3)]
            for _ in range(5)
        ]
        separator = rng.choice((" ", ",", ";", "\t"))
        lines = [
            "X,Y,Counter".replace(",", separator),
            *(separator.join(map(str, row)) for row in cells),
        ]
        text = "\n".join(lines[rng.randrange(2) :])
        files[_stem(name) + rng.choice((".txt", ".csv"))] = _written(text, rng)
    return files


def _yolo(rng: random.Random) -> Files:
    files: Files = {"data.yaml": b"names: [RBC, Spherocyte]\n"}
    if rng.random() < 0.3:
        files["data.yaml"] = rng.choice(
            (b"", b"names: 3", b"names: {a: b}", b"{", b"names: [[]]", b"names: [\xe4]",
             b"names: [RBC]\nkpt_shape: [2, 3]", b"names: [RBC]\nkpt_shape: [-1, 1e9]")
        )  # fmt: skip
    elif rng.random() < 0.3:
        files = {rng.choice(("classes.txt", "obj.names")): "RBC\nSph\xe4rozyt\n".encode("cp1252")}
    for name in rng.sample(IMAGE_NAMES, 2):
        lines = []
        for _ in range(rng.randrange(5)):
            number = rng.choice(("0", "1", "1.0", "7", "-1", "x", "1" * 5000))
            values = [rng.choice((0.2, 0.5, 0.8, 0.8, 1.5, "nan", "", 10**30)) for _ in range(8)]
            lines.append(" ".join(map(str, [number, *values[: rng.choice((0, 3, 4, 4, 5, 6, 8))]])))
        files[f"{_stem(name)}.txt"] = _written("\n".join(lines), rng)
    return files


def _labelme(rng: random.Random) -> Files:
    files = {}
    for name in rng.sample(IMAGE_NAMES, 2):
        shapes = [
            {
                "label": "RBC",
                "shape_type": rng.choice(("polygon", "rectangle", "circle", "point", "linestrip")),
                "points": [
                    [rng.uniform(0, 60), rng.uniform(0, 40)] for _ in range(rng.randrange(5))
                ],
            }
            for _ in range(rng.randrange(4))
        ]
        data: Any = {"shapes": shapes, "imagePath": _other_name(name, rng), "version": "5.2.1"}
        if rng.random() < 0.5:
            data |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        for _ in range(rng.randrange(4)):
            data = spoil(data, rng)
        files[f"{_stem(name)}.json"] = _written(json.dumps(data), rng)
    return files


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _written(text: str, rng: random.Random) -> bytes:
    """A text in one of the encodings that editors write, damaged at times."""
    data = text.encode(rng.choice(ENCODINGS), errors="replace")
    return garble(data, rng) if rng.random() < 0.2 else data


@st.composite
def exports(draw: st.DrawFn) -> tuple[Files, bool]:
    """The files of an export, labels and images, and whether it is a zip."""
    kind = draw(st.sampled_from((_coco, _coco, _coco, _yolo, _yolo, _voc, _points, _labelme)))
    rng = random.Random(draw(st.integers(0, 2**64)))
    files = kind(rng)
    if kind is _coco:
        folder = rng.choice((*files, "a")).rpartition("/")[0]
    else:
        labels, folder = rng.choice(LAYOUTS)
        beside = ("data.yaml", "classes.txt", "obj.names")
        files = {k if k in beside else f"{labels}/{k}".strip("/"): v for k, v in files.items()}
    for name in rng.sample(IMAGE_NAMES, rng.randrange(6)):
        files[f"{folder}/{name}" if folder else name] = rng.choice(PICTURES)
    as_zip = rng.random() < 0.15
    if as_zip and rng.random() < 0.5:  # of a whole folder
        files = {f"{WRAPPER}/{name}": data for name, data in files.items()}
    return files, as_zip


def zipped(files: Files) -> bytes:
    """The files as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()

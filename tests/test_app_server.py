"""The server of the app: what it refuses, what it stores, what it tells and what it does not."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.app_project import TOKEN, draw_hardware, draw_project, finished, key

pytest.importorskip("fastapi", reason="needs the extra [app]")

from fastapi.testclient import TestClient

from spherodetect import score_patients
from spherodetect.app.corrected import corrected_field
from spherodetect.app.methods.mask_rcnn import examined as examined_field
from spherodetect.app.project import Project
from spherodetect.app.security import Access
from spherodetect.app.server import create_app
from spherodetect.errors import SpherodetectError
from spherodetect.labels.recipe import load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.pipeline.review import apply_review
from spherodetect.pipeline.review_answers import read_answers
from spherodetect.pipeline.review_record import ReviewRecord


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return folder, draw_project(folder)


@pytest.fixture(scope="module")
def examined(drawn, tmp_path_factory):
    """The drawn project after a run of the model; the tests work on copies."""
    folder = tmp_path_factory.mktemp("examined") / "smears"
    shutil.copytree(drawn[0], folder)
    with client_of(folder, drawn[1]) as client:
        job = run(client, "model")
        assert job["state"] == "done", job
        assert job["result"]["problems"] == []
    return folder


def client_of(folder, truth=None, **more):
    project = Project(folder, truth)
    client = TestClient(
        create_app(project, Access(TOKEN), **more),
        base_url="http://127.0.0.1:8765",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    client.project = project
    return client


def settled(client):
    """The client once the photographs are read."""
    end = time.monotonic() + 300
    while client.get("/api/jobs").json()["jobs"][0]["state"] in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.01)
    return client


@pytest.fixture
def client(drawn, examined, tmp_path):
    shutil.copytree(examined, tmp_path / "smears")
    with client_of(tmp_path / "smears", drawn[1]) as client:
        yield settled(client)


def run(client, method, fields="all", **params):
    settled(client)
    body = {"method": method, "params": params, "fields": fields, "reviewer": "anna"}
    return finished(client, client.post("/api/segment/runs", json=body))


def steps(client, *asked, reviewer="anna"):
    sent = [{"key": key(), **one} for one in asked]
    answer = client.post("/api/steps", json={"reviewer": reviewer, "steps": sent})
    assert answer.status_code == 200, answer.text
    return answer.json()


def label(objects, label_id):
    items = [{"object": k, "label": label_id} for k in objects]
    return {"kind": "label", "source": "field", "seen": "open", "items": items}


def objects_of(client, field=1):
    return client.get(f"/api/fields/{field}/objects").json()["objects"]


def names(client):
    sets = client.get("/api/label-sets").json()
    active = next(one for one in sets["sets"] if one["id"] == sets["active"])
    return {one["name"]: one["id"] for one in active["labels"]}


# Who may ask.


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("bare")) as client:
        yield client


def test_nothing_is_told_without_the_token(bare):
    described = bare.app.openapi()["paths"]
    paths = [re.sub(r"{\w+}", "1", path) for path in described if not path.endswith("z")]
    assert len(paths) > 30
    for path in [*paths, "/docs", "/openapi.json"]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "spherodetect-x=wrong"}):
            answer = TestClient(bare.app, base_url="http://127.0.0.1").get(path, headers=headers)
            assert answer.status_code == 401
            assert "token" in answer.json()["error"]


def test_the_start_address_gives_a_cookie_that_scripts_cannot_read(bare):
    page = TestClient(bare.app, base_url="http://127.0.0.1:8765", follow_redirects=False)
    assert page.get("/").status_code == 401
    assert page.get("/?token=wrong").status_code == 401
    answer = page.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert page.get("/api/session").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8765", "", "[::2]", "a]b"]
)
def test_another_host_is_refused(bare, host):
    answer = bare.get("/api/session", headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_the_hosts_of_the_loopback_are_served(bare, host):
    assert bare.get("/api/session", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:8765"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://hub.example.org"}, 200),
        ({}, 200),
    ],
)
def test_a_change_comes_from_a_page_of_this_server(bare, headers, code):
    page = TestClient(bare.app, base_url="http://127.0.0.1:8765")
    page.get(f"/?token={TOKEN}")
    body = {"reviewer": "anna", "steps": []}
    assert page.post("/api/steps", json=body, headers=headers).status_code == code


def test_every_answer_has_a_policy_without_other_sources(bare):
    for path in ("/api/session", "/docs", "/nothing", "/web/nothing.js"):
        policy = bare.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert bare.get(path).headers["x-content-type-options"] == "nosniff"


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(bare):
    large = {"Content-Length": str(10**9), "Content-Type": "application/json"}
    assert bare.post("/api/steps", content=b"{}", headers=large).status_code == 413

    def pieces():
        for _ in range(80):
            yield b" " * 65536

    answer = bare.post("/api/steps", content=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/api/fields/999/objects", None, 404),
        ("GET", "/api/fields/0/objects", None, 422),
        ("GET", "/api/fields/99999999999999999999/objects", None, 422),
        ("GET", "/api/changes?since=-1", None, 422),
        ("GET", "/api/crops?objects=a", None, 422),
        ("PUT", "/api/session", None, 405),
        ("POST", "/api/steps", {"reviewer": "\ud800", "steps": []}, 422),
        ("POST", "/api/steps", {"reviewer": "", "steps": []}, 422),
        ("POST", "/api/steps", {"reviewer": "a", "steps": [], "more": 1}, 422),
        ("POST", "/api/label-sets", {"name": "x\x00y"}, 422),
        ("POST", "/api/segment/runs", {"method": "nothing", "reviewer": "a"}, 404),
        ("POST", "/api/segment/runs", {"method": "watershed", "reviewer": "a"}, 409),
        ("POST", "/api/reviews", {"patient": "nobody", "reviewer": "a"}, 409),
        ("POST", "/api/classifiers", {"reviewer": "a"}, 409),
        ("POST", "/v1/detect", {"no": "image"}, 415),
        ("DELETE", "/api/jobs/j999", None, 404),
    ],
)
def test_what_cannot_be_done_is_one_sentence(bare, method, path, body, code):
    content = None if body is None else json.dumps(body).encode()
    answer = bare.request(
        method, path, content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == code, answer.text
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]


def test_the_description_is_served_from_the_package(bare):
    document = bare.get("/openapi.json").json()
    assert {"/v1/detect", "/v1/score", "/healthz", "/api/steps"} <= set(document["paths"])
    page = bare.get("/docs").text
    assert "v1/detect" in page
    assert "<script" not in page
    assert "https://" not in page


# Labelling.


def test_labels_are_stored_once_and_the_same_after_a_restart(client, drawn):
    ids = [one["id"] for one in objects_of(client)]
    sphere = names(client)["spherocyte"]
    first = {"key": key(), **label(ids, sphere)}
    body = {"reviewer": "anna", "steps": [first]}
    results = [client.post("/api/steps", json=body).json()["results"][0] for _ in range(3)]
    assert [one["status"] for one in results] == ["stored", "known", "known"]
    assert all(one["label"] == sphere and one["by"] == "anna" for one in objects_of(client))
    before = objects_of(client)
    client.__exit__(None, None, None)
    with client_of(client.project.folder, drawn[1]) as again:
        assert objects_of(settled(again)) == before


def test_one_refused_step_does_not_stop_the_others(client):
    sphere = names(client)["spherocyte"]
    answer = steps(client, label([1], sphere), label([99999], sphere), label([2], sphere))
    assert [one["status"] for one in answer["results"]] == ["stored", "refused", "stored"]
    assert "object 99999" in answer["results"][1]["error"]
    assert {one["id"] for one in answer["objects"]} == {1, 2}


def test_two_reviewers_are_both_kept_and_seen_by_each_other(client):
    sphere, rbc = names(client)["spherocyte"], names(client)["rbc"]
    cursor = client.get("/api/session").json()["cursor"]
    steps(client, label([1], sphere), reviewer="anna")
    steps(client, label([1], rbc), reviewer="ben")
    changes = client.get(f"/api/changes?since={cursor}").json()
    (seen,) = changes["objects"]
    assert seen["labels"] == {"anna": sphere, "ben": rbc}
    assert (seen["label"], seen["by"]) == (rbc, "ben")
    history = client.get("/api/objects/1").json()["history"]
    assert [(one["reviewer"], one["label"]) for one in history] == [("anna", sphere), ("ben", rbc)]
    assert client.get(f"/api/changes?since={changes['cursor']}").json()["objects"] == []


def test_outlines_are_drawn_cut_joined_deleted_and_undone(client):
    before = objects_of(client)
    box = [[5, 5], [45, 5], [45, 45], [5, 45]]
    flat = [float(v) for point in box for v in point]
    drawn = steps(client, {"kind": "draw", "field": 1, "polygon_xy": flat, "label": 2})
    (new,) = drawn["objects"]
    assert new["flags"] == ["drawn"]
    assert new["label"] == 2
    assert new["area_px"] == 1600
    measured = client.get(f"/api/objects/{new['id']}").json()["measurements"]
    assert measured["area_px"] == 1600
    assert 0.7 < measured["circularity"] < 0.9
    cut = steps(client, {"kind": "cut", "object": new["id"], "line_xy": [25, 0, 25, 60]})
    pieces = [one for one in cut["objects"] if one["visible"]]
    assert len(pieces) == 2
    assert sum(one["area_px"] for one in pieces) == 1600
    joined = steps(client, {"kind": "join", "objects": [one["id"] for one in pieces]})
    (whole,) = [one for one in joined["objects"] if one["visible"]]
    steps(client, {"kind": "delete", "objects": [whole["id"]]})
    for _ in range(4):
        answer = steps(client, {"kind": "undo"})
        assert answer["results"][0]["fields"] == [1]
    assert objects_of(client) == before
    assert not answer["can_undo"]
    assert answer["can_redo"]


def test_label_sets_are_a_persons_own(client):
    made = client.post("/api/label-sets", json={"name": "hardware"}).json()["set"]
    body = {"name": "washer", "colour": "#2980b9", "key": "1", "meaning": "class"}
    washer = client.post(f"/api/label-sets/{made['id']}/labels", json=body).json()["label"]
    client.patch(f"/api/label-sets/{made['id']}", json={"active": True})
    steps(client, label([1], washer["id"]))
    client.patch(f"/api/labels/{washer['id']}", json={"name": "ring"})
    assert names(client) == {"ring": washer["id"]}
    assert objects_of(client)[0]["label"] == washer["id"]
    assert client.delete(f"/api/labels/{washer['id']}").status_code == 409
    assert client.delete("/api/labels/4").status_code == 204
    client.patch("/api/label-sets/1", json={"active": True})
    assert objects_of(client)[0]["label"] is None


# Finding objects.


def test_another_method_keeps_every_label(client):
    sphere = names(client)["spherocyte"]
    fields = (2, 3)
    for field in fields:
        steps(client, label([one["id"] for one in objects_of(client, field)], sphere))
    before = {one["id"] for field in fields for one in objects_of(client, field)}
    job = run(client, "watershed", list(fields))
    after = [one for field in fields for one in objects_of(client, field)]
    assert before <= {one["id"] for one in after}
    assert sum(one["label"] == sphere for one in after) >= len(before)
    queue = client.get("/api/queue").json()["items"]
    waiting = {one["id"] for item in queue for one in item["old"]}
    assert job["result"]["n_attached"] + len(waiting) >= len(before)
    assert job["result"]["n_attached"] > 0.8 * len(before)


def test_a_preview_stores_nothing_and_obeys_its_limits(client):
    before = objects_of(client)
    sizes = []
    for params in ({}, {"border": "drop"}, {"most_area_px": 1}):
        body = {"field": 1, "method": "watershed", "params": params}
        job = finished(client, client.post("/api/segment/preview", json=body))
        sizes.append(job["result"]["n"])
    assert sizes[0] > sizes[1] > sizes[2] == 0
    assert objects_of(client) == before
    wrong = {"field": 1, "method": "watershed", "params": {"diameter_px": -1}}
    answer = client.post("/api/segment/preview", json=wrong)
    assert answer.status_code == 422
    assert "Diameter" in answer.json()["error"]


def test_cancel_stops_a_run_and_finished_fields_stay(drawn, tmp_path):
    folder, truth = drawn
    shutil.copytree(folder, tmp_path / "smears")
    truth.pause_s = 0.15
    try:
        with client_of(tmp_path / "smears", truth) as client:
            settled(client)
            body = {"method": "model", "fields": "all", "reviewer": "anna"}
            job = client.post("/api/segment/runs", json=body).json()["job"]
            while client.get(f"/api/jobs/{job['id']}").json()["job"]["done"] < 2:
                time.sleep(0.01)
            client.delete(f"/api/jobs/{job['id']}")
            while (job := client.get(f"/api/jobs/{job['id']}").json()["job"])["state"] == "running":
                time.sleep(0.01)
            assert job["state"] == "cancelled"
            found = [field["method"] for field in client.get("/api/fields").json()["fields"]]
            assert found[:2] == ["model", "model"]
            assert None in found
    finally:
        truth.pause_s = 0


def test_the_queue_holds_four_and_says_when_to_come_again(drawn, tmp_path):
    folder, truth = drawn
    shutil.copytree(folder, tmp_path / "smears")
    truth.pause_s = 0.3
    data = (folder / "p1" / "f1.png").read_bytes()
    try:
        with client_of(tmp_path / "smears", truth) as client:
            settled(client)
            body = {"method": "model", "fields": "all", "reviewer": "anna"}
            codes = [client.post("/api/segment/runs", json=body).status_code for _ in range(6)]
            assert codes == [202] * 5 + [429]
            answer = client.post("/v1/detect", content=data)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            for job in client.get("/api/jobs").json()["jobs"]:
                client.delete(f"/api/jobs/{job['id']}")
    finally:
        truth.pause_s = 0


# Pictures.


def test_pictures_hold_no_metadata_and_crops_one_zoom(client, drawn):
    path = client.project.folder / "p1" / "exif.jpg"
    exif = Image.Exif()
    exif[0x010E] = "patient Jane Doe"
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(path, exif=exif)
    finished(client, client.post("/api/fields/scan"))
    added = next(
        f for f in client.get("/api/fields").json()["fields"] if f["name"] == "p1/exif.jpg"
    )
    data = client.get(f"/api/fields/{added['id']}/image").content
    assert b"Jane" not in data
    assert not Image.open(io.BytesIO(data)).getexif()
    answer = client.get("/api/fields/1/image")
    assert Image.open(io.BytesIO(answer.content)).size == (360, 270)
    tag = {"If-None-Match": answer.headers["etag"]}
    assert client.get("/api/fields/1/image", headers=tag).status_code == 304
    sheet = client.get("/api/crops?objects=" + ",".join("1" * 12) + "&size=48&outline=1").content
    assert Image.open(io.BytesIO(sheet)).size == (480, 96)


def test_an_upload_becomes_a_field_and_the_same_file_is_known(client):
    data = io.BytesIO()
    Image.fromarray(np.full((60, 80, 3), 210, np.uint8)).save(data, "PNG")
    asked = {"params": {"patient": "../p9", "name": "../../x.png"}, "content": data.getvalue()}
    headers = {"Content-Type": "image/png"}
    first = client.post("/api/fields", headers=headers, **asked)
    again = client.post("/api/fields", headers=headers, **asked)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["field"]["id"] == again.json()["field"]["id"]
    written = client.project.folder / first.json()["field"]["name"]
    assert written.resolve().is_relative_to(client.project.folder.resolve())
    for wrong in (b"", b"no image", data.getvalue()[:40]):
        answer = client.post(
            "/api/fields", params={"patient": "p", "name": "y.png"}, content=wrong, headers=headers
        )
        assert answer.status_code == 422
    answer = client.post("/api/fields", params={"patient": "p", "name": "y.exe"}, content=b"x")
    assert answer.status_code == 415


# The pixel size.


def test_a_drawn_bar_gives_the_pixel_size_of_all_fields_that_have_it(tmp_path):
    rng = np.random.default_rng(1)
    for k in range(3):
        image = rng.normal(200, 3, (480, 640, 3))
        image[440:443, 500 : 600 - 20 * (k == 2)] = 0
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / f"{k}.png")
    with client_of(tmp_path) as client:
        settled(client)
        found = client.get("/api/fields/1/scale").json()
        assert found["bar"]["length_px"] == pytest.approx(100, abs=0.5)
        assert found["bar"]["x0"] == pytest.approx(500, abs=0.5)
        assert found["bar"]["x1"] == pytest.approx(600, abs=0.5)
        assert found["same_bar"] == [2]
        ends = {"x0": 500, "y0": 441.5, "x1": 600, "y1": 441.5, "length_um": 10}
        body = {**ends, "apply_to": "same_bar", "reviewer": "anna"}
        answer = client.put("/api/fields/1/scale", json=body).json()
        assert answer["scale"]["um_per_px"] == pytest.approx(0.1)
        assert answer["fields"] == [1, 2]
        fields = {one["id"]: one for one in client.get("/api/fields").json()["fields"]}
        assert fields[1]["scale_confirmed"]
        assert not fields[2]["scale_confirmed"]
        assert fields[2]["scale_source"] == "copied"
        assert fields[3]["um_per_px"] is None
        client.post("/api/scale/confirm", json={"fields": [2], "reviewer": "anna"})
        assert client.get("/api/fields/2/scale").json()["confirmed"]
        for wrong in (
            {"length_um": 0}, {"length_um": -1}, {"x1": 500}, {"x1": 9000}, {"length_um": 1e-9},
            {"length_um": None}, {"um_per_px": 0.1}, {"y0": None},
        ):  # fmt: skip
            body = {**ends, "reviewer": "anna", **wrong}
            assert client.put("/api/fields/1/scale", json=body).status_code == 422, wrong
        for um_per_px in (0, -1, 1e9):
            body = {"um_per_px": um_per_px, "reviewer": "anna"}
            assert client.put("/api/fields/1/scale", json=body).status_code == 422


# The blind review.


def _review(client, patient="p1", reviewer="anna", cells=50):
    body = {"patient": patient, "cells": cells, "seed": 3, "reviewer": reviewer}
    return client.post("/api/reviews", json=body).json()["review"]


def test_the_blind_page_tells_nothing_and_the_sample_does_not_move(client):
    review = _review(client)
    pages = [client.get(f"/api/reviews/{review['id']}/pages/1").json()]
    assert set(pages[0]) == {"review", "page", "items"}
    assert all(set(item) == {"n", "answer"} for item in pages[0]["items"])
    assert set(review) == {
        "id", "patient", "n_cells", "n_pages", "per_page", "answered", "done"
    }  # fmt: skip
    crops = client.get(f"/api/reviews/{review['id']}/pages/1/crops").content
    ids = [one["id"] for field in (1, 2) for one in objects_of(client, field)]
    steps(client, label(ids, 2), {"kind": "delete", "objects": ids[:5]})
    run(client, "watershed", [1])
    assert client.get(f"/api/reviews/{review['id']}/pages/1").json() == pages[0]
    assert client.get(f"/api/reviews/{review['id']}/pages/1/crops").content == crops


def test_a_review_gives_the_score_its_basis_and_counts_repeats(client):
    before = client.get("/api/patients").json()["patients"][0]
    assert before["basis"] == "model"
    review = _review(client)
    path = f"/api/reviews/{review['id']}"
    assert client.get(f"{path}/result?reviewer=anna").status_code == 409
    assert review["n_cells"] > 50  # some are shown twice
    for page in range(1, review["n_pages"] + 1):
        items = client.get(f"{path}/pages/{page}").json()["items"]
        said = [{"n": one["n"], "answer": "other"} for one in items]
        steps(client, {"kind": "answer", "review": review["id"], "page": page, "answers": said})
    done = client.get(f"{path}?reviewer=anna").json()["review"]
    assert done["done"]
    assert sum(done["answered"]) == review["n_cells"]
    result = client.get(f"{path}/result?reviewer=anna").json()
    assert result["n_reviewed"] == 50
    assert result["n_spherocytes"] == 0
    assert result["after"]["low"] == 0
    assert result["after"]["basis"] == "reviewed"
    assert result["repeats"]["n"] == result["repeats"]["same"] == review["n_cells"] - 50
    after = client.get("/api/patients").json()["patients"][0]
    assert (after["basis"], after["n_reviewed"]) == ("reviewed", 50)
    assert after["hs_score_high"] == result["after"]["high"]
    for _ in range(review["n_pages"]):
        steps(client, {"kind": "undo"})
    assert client.get("/api/patients").json()["patients"][0]["basis"] == "model"


def test_a_review_goes_on_without_a_cell_twice(client):
    first = _review(client)
    more = _review(client, cells=10)
    assert more["id"] == first["id"]
    assert more["n_cells"] > first["n_cells"]
    page = client.get(f"/api/reviews/{first['id']}/pages/99")
    assert page.status_code == 404


def _answer_all(client, review, said="other", reviewer="anna"):
    for page in range(1, review["n_pages"] + 1):
        items = client.get(f"/api/reviews/{review['id']}/pages/{page}").json()["items"]
        answers = [{"n": one["n"], "answer": said} for one in items]
        step = {"kind": "answer", "review": review["id"], "page": page, "answers": answers}
        steps(client, step, reviewer=reviewer)


def test_the_answers_are_a_file_that_review_apply_reads(client, tmp_path):
    review = _review(client)
    path = f"/api/reviews/{review['id']}/answers.json?reviewer="
    assert client.get(f"{path}anna").status_code == 409
    _answer_all(client, review)
    answer = client.get(f"{path}anna")
    assert answer.headers["content-disposition"].endswith('answers-p1-anna.json"')
    (tmp_path / "a.json").write_bytes(answer.content)
    (read,) = read_answers(tmp_path / "a.json")
    assert (read.patient_id, read.reviewer, read.seed, read.batches) == ("p1", "anna", 3, (50,))
    assert len(read.answers) == 50
    photographs = client.post("/api/exports/reviews", json={"reviewer": "anna"})
    assert "folder of results" in finished(client, photographs)["error"]


@pytest.mark.slow
def test_reviews_reach_the_score_of_the_results(drawn, tmp_path):
    folder, truth = drawn
    score_patients(folder, model=truth, out=tmp_path / "results")
    with client_of(tmp_path / "results", truth) as client:
        run(client, "model")
        _answer_all(client, _review(client))
        shown = client.get("/api/patients").json()["patients"][0]
        ben = client.get("/api/reviews/1/answers.json?reviewer=anna").json() | {"reviewer": "ben"}
        answer = client.post("/api/exports/reviews", json={"reviewer": "anna"})
        job = finished(client, answer)
        assert job["state"] == "done", job
        assert job["result"] == {"n_reviewed_patients": 1, "patients": ["p1"], "problems": []}
    with (tmp_path / "results" / "patients.csv").open(encoding="utf-8") as file:
        rows = {row["patient_id"]: row for row in csv.DictReader(file)}
    assert rows["p1"]["basis"] == "reviewed"
    assert rows["p2"]["basis"] == "model"
    assert float(rows["p1"]["hs_score_high"]) == pytest.approx(shown["hs_score_high"], abs=0.01)
    # The same answers once more change nothing; those of other cells are refused.
    (tmp_path / "ben.json").write_text(json.dumps(ben))
    apply_review(tmp_path / "results", [tmp_path / "ben.json"], model=truth)
    assert ReviewRecord.open(tmp_path / "results", "p1").readers == ["anna", "ben"]
    for wrong in ({"cells_sha256": "0"}, {"seed": 4}, {"batches": [99999]}):
        (tmp_path / "wrong.json").write_text(json.dumps(ben | wrong))
        with pytest.raises(SpherodetectError, match=r"wrong\.json.* expected .*; "):
            apply_review(tmp_path / "results", [tmp_path / "wrong.json"], model=truth)


# Training.


def _label_by_truth(client, fields=range(1, 7)):
    """Label the objects as the detector calls them."""
    by_name = names(client)
    for field in fields:
        for name in ("rbc", "spherocyte"):
            own = [one["id"] for one in objects_of(client, field) if one["model"]["name"] == name]
            steps(client, label(own, by_name[name]))


def test_figures_share_no_patient_with_training(client):
    _label_by_truth(client)
    overview = client.get("/api/training").json()
    assert (overview["groups"], overview["n_groups"], overview["warning"]) == ("patient", 3, "")
    job = finished(client, client.post("/api/classifiers", json={"reviewer": "anna"}))
    first = job["result"]["classifier"]
    assert not set(first["train_groups"]) & set(first["validation_groups"])
    assert set(first["train_groups"]) | set(first["validation_groups"]) == {"p1", "p2", "p3"}
    assert first["figures"]["n"] == first["n_validation"] == np.sum(first["figures"]["confusion"])
    assert first["figures"]["accuracy"] > 0.7
    assert first["previous"] is None
    again = finished(client, client.post("/api/classifiers", json={"reviewer": "anna"}))
    second = again["result"]["classifier"]
    assert second["validation_groups"] == first["validation_groups"]
    assert second["previous"]["figures"] == first["figures"]
    assert all(one["classifier"] for one in objects_of(client))
    document = client.get(f"/api/classifiers/{second['id']}.json").json()
    assert len(document["coef"][0]) == len(document["features"])


def test_each_set_has_its_predictions_and_a_deleted_label_leaves_none(client):
    _label_by_truth(client)
    finished(client, client.post("/api/classifiers", json={"reviewer": "anna"}))
    sphere = names(client)["spherocyte"]
    before = [one["classifier"]["label"] for one in objects_of(client)]
    made = client.post("/api/label-sets", json={"name": "other"}).json()["set"]["id"]
    client.patch(f"/api/label-sets/{made}", json={"active": True})
    assert all(one["classifier"] is None for one in objects_of(client))
    client.patch("/api/label-sets/1", json={"active": True})
    assert [one["classifier"]["label"] for one in objects_of(client)] == before
    run(client, "watershed", [1])
    assert all(one["classifier"] for one in objects_of(client)), "new outlines are predicted too"
    assert client.delete(f"/api/labels/{sphere}").status_code == 409
    # Of a label that no event names, such as one that only reviews answered, nothing is left.
    base = client.project.base
    rows = base.rows("SELECT * FROM label WHERE name = 'wbc'")
    with base.writing():
        base.execute("UPDATE prediction SET label_id = ? WHERE object_id = 1", (rows[0]["id"],))
    assert client.delete(f"/api/labels/{rows[0]['id']}").status_code == 204
    assert next(one for one in objects_of(client) if one["id"] == 1)["classifier"] is None


def test_too_few_patients_are_said_plainly(client):
    _label_by_truth(client, fields=range(1, 5))  # two patients
    overview = client.get("/api/training").json()
    assert overview["groups"] == "field"
    assert "too few patients" in overview["warning"]
    job = finished(client, client.post("/api/classifiers", json={"reviewer": "anna"}))
    one = job["result"]["classifier"]
    assert not set(one["train_groups"]) & set(one["validation_groups"])
    assert "too few patients" in one["warning"]


def test_reviewed_cells_do_not_train_unless_that_is_asked_for(client):
    review = _review(client)
    for page in range(1, review["n_pages"] + 1):
        items = client.get(f"/api/reviews/{review['id']}/pages/{page}").json()["items"]
        said = [{"n": one["n"], "answer": "other"} for one in items]
        steps(client, {"kind": "answer", "review": review["id"], "page": page, "answers": said})
    rows = {one["name"]: one for one in client.get("/api/training").json()["labels"]}
    assert rows["rbc"]["n"] == 0
    assert rows["rbc"]["n_reviewed"] == 50


@pytest.mark.parametrize("method", ["pca", pytest.param("tsne", marks=pytest.mark.slow)])
def test_embeddings_mark_training_and_validation_apart(client, method):
    _label_by_truth(client)
    body = {"method": method, "max": 60}
    job = finished(client, client.post("/api/embeddings", json=body))
    points = job["result"]["points"]
    assert len(points) == 60
    assert {one["part"] for one in points} == {"train", "validation"}
    at = np.array([[one["x"], one["y"]] for one in points])
    assert np.isfinite(at).all()
    assert at.std(axis=0).min() > 0


def test_cards_are_half_doubtful_half_random(client):
    asked = {"mode": "doubt", "limit": 20, "seed": 4}
    cards = client.get("/api/cards", params=asked).json()["cards"]
    doubts = sorted((one["doubt"] for one in cards), reverse=True)
    every = client.get("/api/cards", params={"mode": "class", "label": 0, "by": "human",
                                             "limit": 1000}).json()["cards"]  # fmt: skip
    top = sorted((one["doubt"] for one in every), reverse=True)[:10]
    assert doubts[:10] == top
    assert len(cards) == 20
    assert client.get("/api/cards", params=asked).json()["cards"] == cards
    assert client.get("/api/cards", params={**asked, "seed": 5}).json()["cards"] != cards


# What leaves and enters.


def test_export_and_import_give_the_same_labels(client, drawn, tmp_path):
    _label_by_truth(client)
    exported = client.get("/api/exports/coco.json")
    coco = exported.json()
    shown = {one["id"]: one["label"] for k in range(1, 7) for one in objects_of(client, k)
             if one["label"]}  # fmt: skip
    assert {one["id"] for one in coco["annotations"] if one["labelled_by"] == "human"} == set(shown)
    shutil.copytree(drawn[0], tmp_path / "fresh")
    with client_of(tmp_path / "fresh", drawn[1]) as fresh:
        settled(fresh)
        path = "/api/imports/coco?reviewer=anna"
        answer = fresh.post(path, content=exported.content).json()
        assert answer["n_new"] == answer["n_labelled"] == len(shown)
        assert answer["problems"] == []
        assert fresh.post(path, content=exported.content).json()["n_labelled"] == 0
        again = fresh.get("/api/exports/coco.json").json()
        assert _content(again) == _content(
            coco | {"annotations": [a for a in coco["annotations"] if a["labelled_by"] == "human"]}
        )
        for wrong in (b"", b"[1,", b"{}", b'{"images": [], "annotations": 3, "categories": []}'):
            assert fresh.post(path, content=wrong).status_code in (200, 422)


def _content(coco):
    category = {one["id"]: one["name"] for one in coco["categories"]}
    image = {one["id"]: one["file_name"] for one in coco["images"]}
    return sorted(
        (image[one["image_id"]], category[one["category_id"]], *one["bbox"],
         one["segmentation"]["counts"])
        for one in coco["annotations"]
    )  # fmt: skip


def test_tables_are_neutral_and_count_every_object(client):
    client.patch("/api/labels/1", json={"name": "=1+1"})
    steps(client, label([1], 1))
    rows = list(csv.DictReader(io.StringIO(client.get("/api/exports/cells.csv").text)))
    n = sum(len(objects_of(client, k)) for k in range(1, 7))
    assert len(rows) == n
    assert "'=1+1" in {row["label"] for row in rows}
    figures = client.get("/api/statistics?by=label").json()["rows"]
    assert sum(row["n"] for row in figures) == n
    assert client.get("/api/exports/statistics.csv").text.count("\n") > 10


def test_the_recipe_is_one_that_lint_and_tfrecords_read(client, tmp_path):
    _label_by_truth(client)
    data = client.get("/api/exports/recipe.zip").content
    zipfile.ZipFile(io.BytesIO(data)).extractall(client.project.folder)
    recipe = load_recipe(client.project.folder / "recipe.yaml")
    labels = read_labels(recipe)
    assert sum(len(field.annotations) for field in labels.fields) > 100
    assert {field.patient_id for field in labels.fields} == {"p1", "p2", "p3"}


def test_drawn_outlines_are_cells_of_the_corrected_field(client):
    by_name = names(client)
    cells = [one for one in objects_of(client) if one["model"]["name"] == "rbc"]
    ymin, xmin, ymax, xmax = cells[0]["box_yxyx"]
    middle = (xmin + xmax) / 2
    cut = {"kind": "cut", "object": cells[0]["id"], "line_xy": [middle, ymin - 2, middle, ymax + 2]}
    pieces = [one["id"] for one in steps(client, cut)["objects"] if one["visible"]]
    square = [5.0, 5.0, 25.0, 5.0, 25.0, 25.0, 5.0, 25.0]
    steps(
        client,
        label(pieces[:1], by_name["spherocyte"]),
        label([cells[1]["id"]], by_name["spherocyte"]),
        {"kind": "draw", "field": 1, "polygon_xy": square, "label": by_name["rbc"]},
        {"kind": "delete", "objects": [cells[2]["id"]]},
    )
    field = client.project.field(1)
    one = examined_field(client.project, field)
    after, n_left = corrected_field(client.project, field, one)
    assert n_left == 1, "the other piece has no label"
    # Cut, one piece kept; one deleted; one drawn.
    assert len(after.cells) == len(one.cells) - 2 + 2
    assert len(set(after.cells.cell_id.tolist())) == len(after.cells)
    spheres = [int((e.cells.names == "spherocyte").sum()) for e in (one, after)]
    assert spheres[1] == spheres[0] + 2
    assert after.cells.measurements["area_px"][-1] == 400
    assert list(after.cells.measurements) == list(one.cells.measurements)


@pytest.mark.slow
def test_reports_are_written_with_corrections(client):
    target = next(one for one in objects_of(client) if one["model"]["name"] == "rbc")
    steps(client, label([target["id"]], names(client)["spherocyte"]))
    removed = objects_of(client)[-1]["id"]
    steps(client, {"kind": "delete", "objects": [removed]})
    job = finished(client, client.post("/api/exports/reports", json={"reviewer": "anna"}))
    assert job["state"] == "done", job
    folder = client.project.folder / job["result"]["folder"]
    cells = list(csv.DictReader((folder / "cells.csv").open(encoding="utf-8")))
    n = sum(len(objects_of(client, k)) for k in range(1, 7))
    assert len(cells) == n
    called = {(row["field_id"], int(row["cell_id"])): row["class_name"] for row in cells}
    assert called["p1/f1.png", 1] == "spherocyte" or "spherocyte" in called.values()
    assert (folder / "index.html").is_file()


@pytest.mark.slow
def test_a_project_of_its_own_domain_from_an_empty_folder(tmp_path):
    truth = draw_hardware(tmp_path / "drawn")
    with client_of(tmp_path / "empty") as client:
        settled(client)
        assert client.get("/api/fields").json()["fields"] == []
        for name in truth:
            answer = client.post(
                "/api/fields",
                params={"patient": name.split("/")[0], "name": "a.png"},
                content=(tmp_path / "drawn" / name).read_bytes(),
                headers={"Content-Type": "image/png"},
            )
            assert answer.status_code == 201, answer.text
        made = client.post("/api/label-sets", json={"name": "hardware"}).json()["set"]["id"]
        for name, digit in (("washer", "1"), ("nut", "2")):
            body = {"name": name, "colour": "#2980b9", "key": digit, "meaning": "class"}
            client.post(f"/api/label-sets/{made}/labels", json=body)
        client.patch(f"/api/label-sets/{made}", json={"active": True})
        job = run(client, "watershed")
        assert job["result"]["n_objects"] == 60, job
        by_name = names(client)
        for field in client.get("/api/fields").json()["fields"]:
            found = {}
            for one in objects_of(client, field["id"]):
                ymin, xmin, ymax, xmax = one["box_yxyx"]
                middle = np.array([(xmin + xmax) / 2, (ymin + ymax) / 2])
                nearest = min(truth[field["name"]], key=lambda t: np.hypot(*(middle - t[:2])))
                assert np.hypot(*(middle - nearest[:2])) < 5
                found[one["id"]] = nearest[2]
            for name in by_name:
                chosen = [k for k, called in found.items() if called == name][:4]
                steps(client, label(chosen, by_name[name]))
            field["truth"] = found
        job = finished(client, client.post("/api/classifiers", json={"reviewer": "anna"}))
        assert job["result"]["classifier"]["figures"]["accuracy"] == 1
        rows = client.get("/api/statistics?by=label").json()["rows"]
        assert {row["name"]: row["n"] for row in rows} == {"washer": 30, "nut": 30}
        coco = client.get("/api/exports/coco.json").json()
        assert len(coco["annotations"]) == 60
        assert {one["name"] for one in coco["categories"]} == {"washer", "nut"}


# REST.


def test_detect_answers_with_the_cells_of_one_image(client, drawn):
    data = (drawn[0] / "p1" / "f1.png").read_bytes()
    headers = {"Content-Type": "image/png"}
    answer = client.post("/v1/detect?masks=rle", content=data, headers=headers)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["image"] == {"height": 270, "width": 360}
    assert len(found["cells"]) == len(objects_of(client))
    assert all(one["rle"]["size"] == [270, 360] for one in found["cells"])
    by_polygon = client.post("/v1/detect", content=data, headers=headers).json()
    assert all(len(one["polygon_xy"]) >= 6 for one in by_polygon["cells"])
    for wrong in (b"", b"x" * 100, data[:200]):
        answer = client.post("/v1/detect", content=wrong, headers=headers)
        assert answer.status_code == 422
        assert "expected" in answer.json()["error"] or "damaged" in answer.json()["error"]


def test_score_answers_a_small_patient_and_gives_a_job_for_a_large_one(client, drawn):
    def packed(n):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for k in range(n):
                archive.write(drawn[0] / f"p{k % 3 + 1}" / f"f{k // 3 + 1}.png", f"{k}.png")
        return data.getvalue()

    headers = {"Content-Type": "application/zip"}
    small = client.post("/v1/score?patient=x", content=packed(2), headers=headers)
    assert small.status_code == 200, small.text
    assert small.json()["patient_id"] == "x"
    assert small.json()["n_fields"] + small.json()["n_fields_rejected"] == 2
    large = client.post("/v1/score", content=packed(6), headers=headers)
    assert large.status_code == 202
    path = "/" + large.headers["location"]
    while (job := client.get(path).json())["state"] in ("waiting", "running"):
        time.sleep(0.02)
    assert job["result"]["n_countable"] > 100
    for wrong in (b"", b"no zip"):
        assert client.post("/v1/score", content=wrong, headers=headers).status_code == 422


def test_health_and_readiness(drawn, tmp_path):
    with client_of(tmp_path / "empty", drawn[1], preload=True) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        while client.get("/readyz").status_code == 503:
            time.sleep(0.01)
        assert client.get("/v1/models/spherodetect").json()["name"] == "truth"

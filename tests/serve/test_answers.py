"""What the service answers is what Python finds: search, classes, embeddings; and what it tells of the index."""

import io
import json
import os
import shutil
import time
from dataclasses import asdict

import pytest
from PIL import Image
from starlette.testclient import TestClient

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.functional.path_calibration import PathCalibration
from hierpretrain.serve import Service, create_app
from tests.serve.conftest import KNOWN, PHOTOS, TOKEN, sent, write_index


def as_told(index, result, root):
    """Returns a result of a search as the service tells it."""
    told = json.loads(json.dumps([asdict(found) for found in result.neighbours]))
    for one in told:
        one["path"] = os.path.relpath(one["path"], root) if one["path"].startswith(str(root)) else None
        one["key"] = one["key"] or None
    return told


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({}, {}),
        ({"k": 3}, {"k": 3}),
        ({"k": 2, "level": "1"}, {"k": 2, "level": 1}),
        ({"k": 2, "level": "level2"}, {"k": 2, "level": "level2"}),
        ({"within": "animal/dog"}, {"within": "animal/dog"}),
        ({"within": '["animal", "dog"]'}, {"within": ("animal", "dog")}),
        ({"where": "colour=red"}, {"where": {"colour": "red"}}),
        ({"within": "", "level": "", "where": ""}, {}),
    ],
)
def test_a_search_finds_what_python_finds(client, folder, index, form, options):
    root = folder.parent / "photos"
    queries = [root / PHOTOS[0], root / PHOTOS[4]]
    answer = client.post("/api/search", files=sent(*queries), data=form)
    assert answer.status_code == 200, answer.text
    wanted = index.search([str(path) for path in queries], **options)
    assert [one["query"] for one in answer.json()["results"]] == ["1.png", "2.png"]
    for one, found in zip(answer.json()["results"], wanted, strict=True):
        assert one["neighbours"] == as_told(index, found, root)
    assert str(folder.parent) not in answer.text


@pytest.mark.parametrize(("form", "options"), [({}, {}), ({"votes": 3, "threshold": 0.8}, {"k": 3, "threshold": 0.8})])
def test_classes_are_those_of_python(client, folder, index, form, options):
    query = folder.parent / "photos" / PHOTOS[3]
    (answer,) = client.post("/api/classify", files=sent(query), data=form).json()["results"]
    (found,) = index.classify(str(query), **options)
    wanted = json.loads(json.dumps(asdict(found)))
    assert answer == {**wanted, "query": "1.png", "calibrated": False}
    if not form:
        (searched,) = client.post("/api/search", files=sent(query), data={"classify": "true"}).json()["results"]
        assert searched["classification"] == {key: value for key, value in answer.items() if key != "query"}


def test_a_calibrated_index_answers_by_what_it_learned(own, tmp_path):
    from hierpretrain.apis.thresholds import Calibration
    from hierpretrain.functional.chain_rule import NUM_EVIDENCE

    folder, client = own()
    index = EmbeddingIndex.open(folder, device="cpu")
    paths = PathCalibration(0.07, ((0.0,) * (NUM_EVIDENCE + 1),) * 2, (0.4, None))
    index.calibration = Calibration(paths, 5, "precision", 0.9, 10, index.taxonomy.level_names, index.fingerprint)
    client.app.app.state.service.refresh()
    query = tmp_path / "photos" / PHOTOS[0]
    (answer,) = client.post("/api/classify", files=sent(query)).json()["results"]
    (found,) = index.classify(str(query))
    assert (answer["path"], answer["confidences"]) == (list(found.path), list(found.confidences))
    assert answer["calibrated"]
    assert answer["path"] == ["animal"]  # a threshold of None names nothing of that level
    assert client.get("/api/info").json()["calibrated"]


def test_of_a_tree_that_grew_deeper_than_its_calibration_classes_are_told_on_request_alone(own, tmp_path, caplog):
    from hierpretrain.apis.thresholds import Calibration
    from hierpretrain.functional.chain_rule import NUM_EVIDENCE

    folder, client = own()
    index = EmbeddingIndex.open(folder, device="cpu")
    paths = PathCalibration(0.07, ((0.0,) * (NUM_EVIDENCE + 1),) * 2, (0.4, None))
    index.calibration = Calibration(paths, 5, "precision", 0.9, 10, index.taxonomy.level_names, index.fingerprint)
    index.add(embeddings=index.embeddings().features[:1], keys=["N1"], paths=[("animal", "cat", "persian")])
    client.app.app.state.service.refresh()
    path = tmp_path / "photos" / PHOTOS[0]
    query = sent(path)
    for answer in (
        client.post("/api/classify", files=query),
        client.post("/api/search", files=query, data={"classify": "true"}),
    ):
        assert answer.status_code == 409
        assert "the calibration of the index is damaged or of another tree: calibrate it anew" in answer.json()["error"]
    (found,) = client.post("/api/classify", files=query, data={"votes": 3}).json()["results"]
    assert (found["path"], found["calibrated"]) == (list(index.classify(str(path), k=3)[0].path), False)
    assert client.post("/api/search", files=query).status_code == 200
    assert client.get("/api/info").json()["calibrated"] is None
    with pytest.raises(
        ValueError, match=r"its levels must be \('level1', 'level2', 'level3'\), not \('level1', 'level2'"
    ):
        index.check_classify()  # before queries are embedded
    index.check_classify(3)
    caplog.clear()
    Service(folder, device="cpu")
    assert "classes are told only where votes or a threshold are sent: the calibration of the index in " in caplog.text


def test_embeddings_are_those_of_the_model(client, folder, index):
    query = folder.parent / "photos" / PHOTOS[1]
    answer = client.post("/api/embed", files=sent(query)).json()
    assert (answer["model"], answer["fingerprint"]) == (index.model, index.fingerprint)
    assert answer["embeddings"] == index.inferencer.embed(str(query)).features.tolist()


def test_what_is_told_of_the_index(client, index, folder):
    told = client.get("/api/info").json()
    assert {name: told[name] for name in index.info()} == index.info()
    assert (told["writable"], told["calibrated"], told["limits"]["files"]) == (False, False, 16)
    paths = client.get("/api/branches").json()
    assert paths[:2] == [["animal"], ["tool"]]
    assert sorted(paths[2:]) == [["animal", "cat"], ["animal", "dog"], ["tool", "axe"], ["tool", "saw"]]
    assert client.get("/api/health").json() == {"status": "ok"}


def test_a_thumbnail_is_the_picture_at_a_smaller_size(own, tmp_path):
    big = Image.new("RGB", (800, 400), (200, 40, 40))
    big.save(tmp_path / "big.png")
    folder, client = own()
    shutil.copy(tmp_path / "big.png", tmp_path / "photos/tool/saw/9.png")
    index = EmbeddingIndex.open(folder, device="cpu")
    index.add(str(tmp_path / "photos/tool/saw/9.png"))
    client.app.app.state.service.refresh()
    answer = client.get("/api/thumbnail", params={"path": "tool/saw/9.png"})
    assert answer.headers["content-type"] == "image/webp"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (160, 80)
    assert all(abs(a - b) < 12 for a, b in zip(picture.convert("RGB").getpixel((80, 40)), (200, 40, 40), strict=True))


def test_the_endpoints_are_described_without_a_word_from_elsewhere(client):
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {
        f"/api/{name}"
        for name in ("add", "branches", "classify", "embed", "health", "info", "remove", "search", "thumbnail")
    }
    assert api["paths"]["/api/add"]["post"]["security"]
    for page in ("/", "/docs", "/page.js", "/endpoints.js", "/page.css"):
        answer = client.get(page)
        assert answer.status_code == 200
        assert "http:" not in answer.text
        assert "https:" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_change_by_another_process_is_seen(own, tmp_path):
    folder, client = own()
    query = sent(tmp_path / "photos" / PHOTOS[0])
    before = client.post("/api/search", files=query).json()["results"][0]["neighbours"]
    EmbeddingIndex.open(folder, device="cpu").remove("S7")
    end = time.monotonic() + 20
    while client.get("/api/info").json()["images"] != 7:
        assert time.monotonic() < end
        time.sleep(0.1)
    after = client.post("/api/search", files=query).json()["results"][0]["neighbours"]
    assert after == [one for one in before if one["key"] != "S7"]


def test_an_index_that_goes_or_becomes_another_model_s_is_told_and_its_older_state_answers(own, tmp_path):
    folder, client = own()
    query = sent(tmp_path / "photos" / PHOTOS[0])
    before = client.post("/api/search", files=query).json()
    manifest = folder / "index.json"
    whole = manifest.read_text()
    for text in (whole.replace('"fingerprint": "', '"fingerprint": "0'), "{"):
        manifest.write_text(text)
        client.app.app.state.service.refresh()
        answer = client.get("/api/health")
        assert answer.status_code == 503
        assert "its older state answers: see the log, and start anew" in answer.json()["status"]
        assert str(folder) not in answer.text
        assert client.post("/api/search", files=query).json() == before
    manifest.write_text(whole)
    client.app.app.state.service.refresh()
    assert client.get("/api/health").status_code == 200


def test_an_index_in_milvus_answers_and_changes_too(tmp_path):
    pytest.importorskip("milvus_lite")
    folder = write_index(tmp_path)
    index = EmbeddingIndex.open(folder, device="cpu")
    address = f"milvus-lite:{tmp_path}/shop.db#photos"
    index.inferencer.build_index(index.embeddings(), address)
    service = Service(address, image_root=tmp_path / "photos", token=TOKEN, device="cpu")
    query = tmp_path / "photos" / PHOTOS[0]
    with TestClient(create_app(service, ["testserver"])) as client:
        for form, options in (({}, {}), ({"within": "animal/dog"}, {"within": "animal/dog"})):
            (found,) = client.post("/api/search", files=sent(query), data=form).json()["results"]
            wanted = as_told(index, index.search(str(query), **options)[0], tmp_path / "photos")
            scores = [one.pop("score") for one in wanted]
            assert [one.pop("score") for one in found["neighbours"]] == pytest.approx(scores, abs=1e-6)
            assert found["neighbours"] == wanted
        (found,) = client.post("/api/classify", files=sent(query), data={"votes": 3}).json()["results"]
        assert found["path"] == list(index.classify(str(query), k=3)[0].path)
        assert client.get("/api/thumbnail", params={"path": PHOTOS[0]}).status_code == 200
        assert client.get("/api/thumbnail", params={"path": "animal/nothing.png"}).status_code == 404
        assert client.post("/api/remove", json={"names": ["S7", PHOTOS[1]]}, headers=KNOWN).json()["removed"] == 2
        assert client.get("/api/info").json()["images"] == 6
        about = json.dumps([{"key": "N1", "labels": ["animal", "cow"]}])
        assert client.post("/api/add", files=sent(query), data={"about": about}, headers=KNOWN).json()["added"] == 1
        assert ["animal", "cow"] in client.get("/api/branches").json()

"""Adding and removing by the service: with the token alone, whole or not at all, and nowhere but where it may."""

import copy
import errno
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.files import write_whole
from hierpretrain.serve import ImageRoot, Service
from hierpretrain.serve.forms import NewImage
from hierpretrain.serve.limits import Refusal
from tests.serve.conftest import KNOWN, PHOTOS, TOKEN, sent


def add(client, path, *about, headers=KNOWN):
    return client.post("/api/add", files=sent(*[path] * len(about)), data={"about": json.dumps(about)}, headers=headers)


def test_what_is_added_is_found_and_what_is_removed_is_not(own, tmp_path):
    folder, client = own(uploads="added")
    query = tmp_path / "photos" / PHOTOS[0]
    answer = add(client, query, {"key": "N1", "labels": ["animal", "cow"], "metadata": {"colour": "blue"}})
    assert answer.json() == {"added": 1, "removed": 0, "kept": 0, "embedded": 1, "relabelled": 0}
    (found,) = client.post("/api/search", files=sent(query), data={"within": "animal/cow"}).json()["results"]
    (one,) = found["neighbours"]
    assert one["key"] == "N1"
    assert one["metadata"] == {"colour": "blue"}
    assert one["score"] == pytest.approx(1, abs=1e-6)
    assert (tmp_path / "photos" / one["path"]).read_bytes() == query.read_bytes()
    assert client.get("/api/thumbnail", params={"path": one["path"]}).status_code == 200
    index = EmbeddingIndex.open(folder, device="cpu")
    assert len(index) == 9
    assert index.search(str(query), within="animal/cow")[0].neighbours[0].key == "N1"

    names = ["N1", PHOTOS[5]]
    answer = client.post("/api/remove", json={"names": names}, headers=KNOWN)
    assert answer.json() == {"added": 0, "removed": 2, "kept": 0, "embedded": 0, "relabelled": 0}
    assert index.refresh()
    assert len(index) == 7
    assert (tmp_path / "photos" / PHOTOS[5]).exists()


def test_without_a_folder_for_uploads_the_embedding_alone_is_kept(own, tmp_path):
    folder, client = own()
    files = sorted((tmp_path / "photos").rglob("*"))
    query = tmp_path / "photos" / PHOTOS[0]
    assert add(client, query, {"key": "N1"}, {"key": "N2"}).json()["added"] == 2
    (found,) = client.post("/api/search", files=sent(query)).json()["results"]
    assert [one["path"] for one in found["neighbours"] if one["key"] in ("N1", "N2")] == [None, None]
    assert sorted((tmp_path / "photos").rglob("*")) == files
    answer = add(client, query, {"key": "N3"}, {"key": "N1"})
    assert answer.status_code == 409
    assert "1 of 2 images are in the index already: 'N1'" in answer.json()["error"]
    assert len(EmbeddingIndex.open(folder)) == 10  # none of the two


def test_an_embedding_without_a_file_leaves_the_root_of_the_images_where_it_is(folder):
    root = folder.parent / "photos"
    service = Service(folder, device="cpu")
    assert {"S7", "S8"} <= set(service.index.paths)  # keys stand for their files
    assert service.root.folder == str(root)
    assert service.thumbnail(PHOTOS[0])[:4] == b"RIFF"


def test_an_index_of_the_working_directory_shows_its_pictures(folder, tmp_path, monkeypatch, caplog):
    shutil.copytree(folder.parent / "photos", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    index = EmbeddingIndex.open(folder, device="cpu", on_error="skip")
    names = sorted(path.name for path in Path().iterdir() if path.is_dir())  # without a folder in common
    assert len(names) > 1
    index.inferencer.build_index(names, "photos.index")
    service = Service("photos.index", device="cpu")
    assert service.root.folder == "."
    assert not caplog.text
    assert service.thumbnail(PHOTOS[0])[:4] == b"RIFF"
    assert [service.root.name_of(path) for path in (PHOTOS[0], str(tmp_path / "here" / PHOTOS[0]))] == [PHOTOS[0], None]
    monkeypatch.chdir(tmp_path)
    Service("here/photos.index", device="cpu")
    assert "no picture is shown: the images have no folder in common; the first is" in caplog.text


def test_a_root_that_shows_no_picture_is_told_at_the_start(folder, tmp_path, caplog):
    service = Service(folder, image_root=tmp_path, device="cpu")
    root = folder.parent / "photos"
    assert (
        f"no picture is shown: no image of the index is below the image root, '{tmp_path}'; the first is" in caplog.text
    )
    caplog.clear()
    service.root = ImageRoot(root)
    service._warn_of_root(service._files())
    assert not caplog.text
    root.rename(tmp_path / "away")
    try:
        service._warn_of_root(service._files())
    finally:
        (tmp_path / "away").rename(root)
    assert f"no picture is shown: the folder of the images, '{root}', is not there; start where the" in caplog.text


def test_names_that_are_not_sent_as_json_are_refused(own):
    _, client = own()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):  # the latter is what curl -d sends
        answer = client.post("/api/remove", content='{"names": ["S7"]}', headers={**KNOWN, "content-type": kind})
        assert answer.status_code == 415
        assert (
            answer.json()["error"] == "/api/remove takes JSON; send it with the header Content-Type: application/json"
        )


def test_a_refused_addition_leaves_no_file(own, tmp_path, monkeypatch):
    _, client = own(uploads="added")
    service = client.app.app.state.service

    def refuse(**_):
        raise ValueError(f"something about {service.index.folder}")

    monkeypatch.setattr(service.index, "add", refuse)
    answer = add(client, tmp_path / "photos" / PHOTOS[0], {"key": "N1"})
    assert (answer.status_code, answer.json()) == (
        409,
        {"error": "the index cannot be changed so; the log of the service says why"},
    )
    assert not [*(tmp_path / "photos/added").iterdir()]


def test_a_file_that_is_taken_back_is_no_image_of_another_service(own, tmp_path, monkeypatch):
    folder, client = own(uploads="added")
    first = client.app.app.state.service
    second, arrived, later = copy.copy(first), threading.Event(), []
    second.index = EmbeddingIndex.open(folder)
    new = [NewImage(key="N1")], [("x.png", (tmp_path / "photos" / PHOTOS[0]).read_bytes())]
    new = *new, first.index.embeddings().features[:1]
    before = set(first.index.paths)

    def arrive(**options):
        arrived.set()
        return EmbeddingIndex.add(second.index, **options)

    def refuse(**_):
        later.append(pool.submit(second.add, *new))
        arrived.wait(1)  # in vain: the second service waits until the first has taken its file back
        raise ValueError("no")

    monkeypatch.setattr(second.index, "add", arrive)
    monkeypatch.setattr(first.index, "add", refuse)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(Refusal, match="no"):
            first.add(*new)
        assert later[0].result()["added"] == 1
    (path,) = set(EmbeddingIndex.open(folder).paths) - before
    assert [str(file) for file in (tmp_path / "photos/added").iterdir()] == [path]


def test_files_of_images_that_the_index_has_stay_when_an_error_comes_after_the_change(own, tmp_path, monkeypatch):
    folder, client = own(uploads="added")
    service = client.app.app.state.service

    def fail_late(**options):
        EmbeddingIndex.add(EmbeddingIndex.open(folder), **options)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(service.index, "add", fail_late)
    assert add(client, tmp_path / "photos" / PHOTOS[0], {"key": "N1"}).status_code == 507
    assert Path(EmbeddingIndex.open(folder).paths[-1]).exists()


def test_nothing_is_changed_without_the_token(own, client, tmp_path, folder):
    _, ours = own()
    query = tmp_path / "photos" / PHOTOS[0]
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Béarer"},
    ):
        headers = {name: value.encode() for name, value in headers.items()}
        for answer in (
            add(ours, query, {"key": "N1"}, headers=headers),
            ours.post("/api/remove", json={"names": ["S7"]}, headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "send it in the header Authorization: Bearer TOKEN" in answer.json()["error"]
    answer = client.post("/api/remove", json={"names": ["S7"]}, headers=KNOWN)  # a service without one
    assert answer.status_code == 403
    assert "started without a token; start it with --token-file FILE or HIERPRETRAIN_TOKEN" in answer.json()["error"]
    assert ours.get("/api/info").json()["images"] == client.get("/api/info").json()["images"] == 8


def test_a_token_may_have_letters_outside_ascii(own):
    token = "ein Schlüssel: voilà"  # whose last byte in UTF-8 is a space in Latin-1
    _, client = own(token=token)
    for sent_token, status in ((token, 200), (f"{token}à", 401), (token.replace("à", "é"), 401)):
        headers = {"Authorization": f"Bearer {sent_token}".encode()}
        assert client.post("/api/remove", json={"names": ["S7"]}, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("about", "status", "message"),
    [
        ([], 422, "about must tell of each image; it tells of 0, and 1 were sent"),
        ([{}], 422, "images.0.key: Field required"),
        ([{"key": ""}], 422, "images.0.key: String should have at least 1 character"),
        ([{"key": "a\nb"}], 422, r"must be of letters that can be printed; it is 'a\nb'"),
        ([{"key": "a", "path": "/etc/passwd"}], 422, "images.0.path: Extra inputs are not permitted"),
        ([{"key": "a", "labels": "animal"}], 422, "images.0.labels: Input should be a valid"),
        ([{"key": "a", "labels": ["x"] * 33}], 422, "images.0.labels: List should have at most 32 items"),
        ("nonsense", 422, "images: Input should be a valid"),
    ],
)
def test_what_is_said_of_images_is_checked(own, tmp_path, about, status, message):
    _, client = own()
    answer = client.post(
        "/api/add", files=sent(tmp_path / "photos" / PHOTOS[0]), data={"about": json.dumps(about)}, headers=KNOWN
    )
    assert answer.status_code == status
    assert message in answer.json()["error"]


@pytest.mark.parametrize("name", ["../epoch_1.pth", "/etc/passwd", "animal", "nothing", "animal/cat/../cat/1.png"])
def test_a_name_that_is_none_of_the_index_removes_nothing(own, name):
    folder, client = own()
    answer = client.post("/api/remove", json={"names": ["S7", name]}, headers=KNOWN)
    assert answer.status_code == 404
    assert f"the index has no image of the key or path '{name}'; nothing was removed" in answer.json()["error"]
    assert len(EmbeddingIndex.open(folder)) == 8


def test_paths_of_the_disk_are_no_names(own, tmp_path):
    folder, client = own()
    name = str(tmp_path / "photos" / PHOTOS[0])
    assert client.post("/api/remove", json={"names": [name]}, headers=KNOWN).status_code == 404
    assert client.get("/api/thumbnail", params={"path": name}).status_code == 404
    assert len(EmbeddingIndex.open(folder)) == 8


def test_options_that_cannot_be(folder, tmp_path):
    with pytest.raises(ValueError, match="a token must have at least 16 letters, so that nobody guesses it; it has 3"):
        Service(folder, token="abc", device="cpu")
    (folder.parent / "photos/out").symlink_to(tmp_path)
    for uploads in ("../elsewhere", "/tmp", "out"):
        with pytest.raises(ValueError, match="the folder of uploads must be below the image root"):
            Service(folder, image_root=folder.parent / "photos", uploads=uploads, device="cpu")
    (folder.parent / "photos/out").unlink()
    EmbeddingIndex.open(folder).save(tmp_path / "bare")
    bare = EmbeddingIndex.open(tmp_path / "bare")
    bare.remove([path for path in bare.paths if path not in bare.keys])  # those of a file
    with pytest.raises(
        ValueError, match=r"no file of the index tells where that is: give it, image_root='...' \(--image"
    ):
        Service(tmp_path / "bare", uploads="added", device="cpu")


def test_json_that_says_a_thing_twice_changes_nothing(own, tmp_path):
    folder, client = own()
    query = tmp_path / "photos" / PHOTOS[0]
    about = {"about": '[{"key": "N1", "labels": ["animal"], "labels": ["tool"]}]'}
    answer = client.post("/api/add", files=sent(query), data=about, headers=KNOWN)
    assert answer.status_code == 422
    assert answer.json()["error"] == "images: no JSON: the key 'labels' is there twice in object 1; mend it"
    kind = {**KNOWN, "content-type": "application/json"}
    answer = client.post("/api/remove", content=b'{"names": ["S7"], "names": ["S8"]}', headers=kind)
    assert answer.status_code == 422
    assert answer.json()["error"] == "body: no JSON: the key 'names' is there twice in object 1; mend it"
    assert len(EmbeddingIndex.open(folder)) == 8


def test_uploads_that_a_full_disk_does_not_take_are_all_or_none(own, tmp_path, monkeypatch, caplog):
    folder, client = own(uploads="added")
    written = []

    def write(path, data):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        write_whole(path, data)
        written.append(path)

    monkeypatch.setattr("hierpretrain.serve.service.write_whole", write)
    about = json.dumps([{"key": "N1"}, {"key": "N2"}])
    files = sent(*(tmp_path / "photos" / name for name in PHOTOS[:2]))
    answer = client.post("/api/add", files=files, data={"about": about}, headers=KNOWN)
    assert answer.status_code == 507
    assert answer.json()["error"] == (
        "nothing was changed, for the service could not write it: No space left on device; tell "
        "whoever runs the service"
    )
    assert str(tmp_path) in caplog.text  # which file, for the log alone
    assert len(written) == 1
    assert not [*(tmp_path / "photos/added").iterdir()]
    assert len(EmbeddingIndex.open(folder)) == 8

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.undo()
    monkeypatch.setattr(client.app.app.state.service.index, "add", full)
    answer = client.post("/api/add", files=files, data={"about": about}, headers=KNOWN)
    assert answer.status_code == 507
    assert not [*(tmp_path / "photos/added").iterdir()]

"""A tiny index of photos with a key, and a service of it."""

import shutil

import pytest
from starlette.testclient import TestClient

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.serve import Service, create_app
from tests.commands.places import write_model, write_photos

PHOTOS = [f"animal/cat/{i}.png" for i in (1, 2, 3)] + ["animal/dog/1.png", "animal/dog/2.png", "tool/saw/1.png"]
TOKEN = "a token of enough letters"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


def write_index(root):
    """Writes photos, a model and an index of them; returns the index's folder."""
    write_model(root)
    write_photos(root, PHOTOS, broken="tool/broken.png")
    inferencer = EmbeddingInferencer(
        root / "tiny.py", root / "epoch_1.pth", device="cpu", on_error="skip", progress=False
    )
    index = inferencer.build_index(root / "photos", root / "photos.index")
    vectors = index.embeddings().features[:2] + 0.1
    index.add(embeddings=vectors, keys=["S7", "S8"], paths=[("tool", "axe"), ()], metadata={"colour": ["red", ""]})
    return root / "photos.index"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of an index that all others are copies of."""
    return write_index(tmp_path_factory.mktemp("written"))


def copy_index(folder, root):
    """Copies an index with its photos and its model, and returns the folder of the copy, as if made there."""
    shutil.copytree(folder.parent, root, dirs_exist_ok=True)
    manifest = root / folder.name / "index.json"
    manifest.write_text(manifest.read_text().replace(str(folder.parent), str(root)))  # the root of the paths
    return root / folder.name


@pytest.fixture(scope="module")
def folder(written, tmp_path_factory):
    """An index that no test changes."""
    return copy_index(written, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def index(folder):
    """The same, opened."""
    return EmbeddingIndex.open(folder, device="cpu")


@pytest.fixture(scope="module")
def client(folder):
    """A client of its service, which has no token."""
    app = create_app(Service(folder, image_root=folder.parent / "photos", device="cpu"), ["testserver"])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def own(written, tmp_path):
    """Returns a function that serves an index of its own with a token, and returns folder and client."""
    clients = []

    def serve(**options):
        folder = copy_index(written, tmp_path)
        options = {"image_root": tmp_path / "photos", "token": TOKEN, "device": "cpu", **options}
        clients.append(
            TestClient(create_app(Service(folder, **options), ["testserver"]), raise_server_exceptions=False)
        )
        return folder, clients[-1].__enter__()

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def sent(*paths):
    """Returns files as a client sends them."""
    return [("images", (path.name, path.read_bytes())) for path in paths]

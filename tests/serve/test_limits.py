"""Every limit and every refusal, with its message; hostile names and pictures; what the guard lets through."""

import asyncio
import io
import json
import struct
import zlib
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from hierpretrain.serve import Limits, Refusal, Service
from hierpretrain.serve.batches import Batches
from hierpretrain.serve.guard import Guard
from tests.serve.conftest import PHOTOS


def png(side=8):
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


def bomb():
    """A PNG that says it has 400 million pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("files", "form", "status", "message"),
    [
        ([("a", b"")], {}, 400, "cannot read the image 'a': it is of no known format: send a JPEG, PNG"),
        ([("a.png", png(2000)[:100])], {}, 400, "cannot read the image 'a.png': "),
        ([("a.png", bomb())], {}, 400, "its 400,000,000 pixels are more than the limit of 178,956,970"),
        ([("a.png", png())] * 17, {}, 413, "a request may have 16 images; this one has 17: send several"),
        ([("a.png", png())], {"k": 0}, 400, "k must be from 1 to 200; it is 0"),
        ([("a.png", png())], {"k": 201}, 400, "k must be from 1 to 200; it is 201"),
        ([("a.png", png())], {"k": "x"}, 422, "body.k: Input should be a valid integer"),
        ([("a.png", png())], {"level": "levl1"}, 400, "did you mean 'level1'"),
        ([("a.png", png())], {"within": "animal/cta"}, 400, "the tree has no branch 'animal/cta'; did you mean"),
        ([("a.png", png())], {"within": "[1]"}, 422, "within takes a path, a name, or a JSON list of names; it is"),
        ([("a.png", png())], {"where": "red"}, 422, "where takes NAME=TEXT, such as colour=red; 'red' is not like"),
        (
            [("a.png", png())],
            {"where": ["colour=red", "colour=blue"]},
            422,
            "where takes one text of each name, as an image has; of 'colour' there are two",
        ),
        ([("a.png", png())], {"where": "color=red"}, 400, "the index has no metadata 'color'; did you mean 'colour'?"),
        ([], {}, 422, "body.images: Field required"),
    ],
)
def test_a_search_that_is_refused_says_why(client, files, form, status, message):
    answer = client.post("/api/search", files=[("images", file) for file in files], data=form)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert "LoadRGB" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("form", "status", "message"),
    [
        ({"votes": 0}, 400, "votes must be from 1 to 200; it is 0"),
        ({"threshold": 1.5}, 422, "body.threshold: Input should be less than or equal to 1"),
    ],
)
def test_a_classification_that_is_refused_says_why(client, form, status, message):
    answer = client.post("/api/classify", files=[("images", ("a.png", png()))], data=form)
    assert (answer.status_code, message in answer.json()["error"]) == (status, True)


def test_large_images_and_requests_are_refused(own):
    _, client = own(limits=Limits(file_bytes=100, request_bytes=2000))
    answer = client.post("/api/embed", files=[("images", ("a.png", b"x" * 101))])
    assert answer.status_code == 413
    assert "an image may have 100 bytes; 'a.png' has 101 bytes: save it smaller" in answer.json()["error"]
    for content in (b"x" * 2001, iter([b"x" * 1500] * 2)):  # the second does not say how long it is
        answer = client.post("/api/embed", content=content, headers={"content-type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 413
        assert "a request may have 1.95 KiB; this one has at least" in answer.json()["error"]


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "../../etc/passwd", "a" * 3000, "名前.png", "a\r\nX: y", ""]
)
def test_hostile_names_of_files_come_back_as_text_at_most(client, name):
    answer = client.post("/api/search", files=[("images", (name or " ", png()))])
    assert answer.status_code == 200
    (result,) = answer.json()["results"]
    assert len(result["query"]) <= 200
    assert answer.headers["content-type"] == "application/json"


def test_a_request_of_nonsense_is_refused(client):
    for content, kind in (
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"[" * 100_000, "application/json"),
    ):
        answer = client.post("/api/search", content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 422)
        assert list(answer.json()) == ["error"]
    assert client.get("/api/nothing").json() == {"error": "Not Found"}
    assert client.get("/api/search").status_code == 405


def part(name, data, file=""):
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


IMAGE = part("images", png(), '; filename="a.png"')


@pytest.mark.parametrize("end", [b"", b"--x", b"--x\r\n"])
def test_a_form_that_was_cut_off_is_refused_and_not_answered_for_the_images_that_came(client, end):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert len(client.post("/api/search", content=IMAGE * 2 + b"--x--\r\n", headers=kind).json()["results"]) == 2
    for content in (IMAGE * 2, IMAGE + IMAGE[:-30], IMAGE[:40]):
        answer = client.post("/api/search", content=content + end, headers=kind)
        assert answer.status_code == 400
        assert "the body must end in its closing boundary; this one was cut off" in answer.json()["error"]


def test_what_is_said_twice_is_refused(client):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    content = IMAGE + part("k", b"1") + part("k", b"3") + b"--x--"
    answer = client.post("/api/search", content=content, headers=kind)
    assert (answer.status_code, answer.json()["error"]) == (422, "'k' must be there once; it is there 2 times")
    answer = client.get("/api/thumbnail?path=a&path=b")
    assert (answer.status_code, answer.json()["error"]) == (422, "'path' must be there once; it is there 2 times")
    twice = {"where": ["colour=red", "colour=red"]}  # which may be
    assert client.post("/api/search", files=[("images", ("a.png", png()))] * 2, data=twice).status_code == 200


def test_what_nothing_would_hear_is_refused(client):
    image = [("images", ("a.png", png()))]
    for path, form, message in (
        (
            "/api/search",
            {"topk": "3"},
            "'topk' is nothing that /api/search takes there; the form takes images, k, level, within, where, classify",
        ),
        (
            "/api/classify?votes=3",
            {},
            "'votes' is nothing that /api/classify takes there; in the address it takes nothing, in the form images, "
            "votes, threshold",
        ),
    ):
        answer = client.post(path, files=image, data=form)
        assert (answer.status_code, answer.json()["error"]) == (422, message)
    answer = client.get("/api/thumbnail?path=a&size=3")
    assert "'size' is nothing that /api/thumbnail takes there; in the address it takes path" in answer.json()["error"]


def test_a_fault_of_ours_tells_nothing(client, monkeypatch):
    def fail(*_):
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(client.app.app.state.service, "info", fail)
    answer = client.get("/api/info")
    assert (answer.status_code, answer.json()) == (500, {"error": "the service failed; its log says why"})
    assert answer.headers["x-frame-options"] == "DENY"


def test_thumbnails_are_of_listed_files_below_the_root_alone(own, tmp_path):
    _, client = own()

    def shown(name):
        return client.get("/api/thumbnail", params={"path": name})

    assert shown(PHOTOS[0]).status_code == 200
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/not listed.png")
    place = tmp_path / "photos" / PHOTOS[1]
    place.unlink()
    place.symlink_to(secret)
    (tmp_path / "photos" / PHOTOS[2]).unlink()
    (tmp_path / "photos" / PHOTOS[3]).write_bytes(b"no image")
    for name, message in (
        (PHOTOS[1], "is gone, cannot be read, or leads out of the root"),
        (PHOTOS[2], "is gone, cannot be read"),
        (PHOTOS[3], "is gone, cannot be read"),
        ("not listed.png", "the index has no image 'not listed.png' below its root"),
        ("../secret.png", "the index has no image '../secret.png'"),
        ("animal/../animal/cat/1.png", "the index has no image"),
        ("animal/cat/1.png\0", "the index has no image"),
        ("S7", "the index has no image 'S7'"),
        ("", "the index has no image ''"),
    ):
        answer = shown(name)
        assert answer.status_code == 404
        assert message in answer.json()["error"]
        assert str(tmp_path) not in answer.text


# ------------------------------------------------------------------ the guard
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "TestServer:80"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "testserver.evil.example"}, 421),
        ({"Host": "evil@testserver"}, 421),
        ({"Host": "testserver/x"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://testserver:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)
def test_other_names_and_other_pages_are_refused(client, headers, status):
    answer = client.get("/api/info", headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status == 421:
        assert "the header Host must name one of testserver" in answer.json()["error"]
    if status == 403:
        assert "a page may ask the service only if it comes from there" in answer.json()["error"]


class NoToken:
    token = None

    def knows(self, token):
        return False


def call(guard, path="/api/search", body=None, more_headers=()):
    """Returns the status, headers and JSON of what a guard answers; of a body that never comes, if it is given."""
    answers = []

    async def receive():
        if body is None:
            await asyncio.sleep(3600)
        return body

    async def send(message):
        answers.append(message)

    async def run():
        scope = {"type": "http", "path": path, "method": "POST", "headers": [(b"host", b"localhost"), *more_headers]}
        await guard(scope, receive, send)
        start, *rest = answers
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], headers, json.loads(b"".join(one["body"] for one in rest) or b"null")

    return run()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(("token", "status"), [("Schlüssel: voilà", 200), ("Schlüssel: voila", 401)])
def test_a_token_is_sent_as_utf_8_or_latin_1(encoding, token, status):
    class Tokens:
        token = "Schlüssel: voilà"
        knows = Service.knows

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1"})

    guard = Guard(app, ["localhost"], Limits(), Tokens())
    header = (b"authorization", f"Bearer {token}".encode(encoding))
    assert asyncio.run(call(guard, "/api/remove", more_headers=[header]))[0] == status


def test_requests_beyond_the_limit_are_told_to_come_again():
    async def run():
        go = asyncio.Event()

        async def app(scope, receive, send):
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1"})

        guard = Guard(app, ["localhost"], Limits(requests=3), NoToken())
        running = [asyncio.create_task(call(guard)) for _ in range(3)]
        await asyncio.sleep(0)
        status, headers, answer = await call(guard)
        assert (status, headers["retry-after"]) == (503, "1")
        assert answer["error"].startswith("the service works on at most 3 requests at a time, and has as many; send")
        go.set()
        assert (await call(guard, "/api/health"))[0] == 200
        assert [(await one)[0] for one in running] == [200] * 3
        assert guard.running == 0
        assert (await call(guard))[0] == 200

    asyncio.run(run())


def test_a_request_that_fails_frees_its_place():
    async def app(scope, receive, send):
        raise RuntimeError

    guard = Guard(app, ["localhost"], Limits(), NoToken())
    with pytest.raises(RuntimeError):
        asyncio.run(call(guard))
    assert guard.running == 0


def test_whoever_waits_for_embeddings_that_do_not_come_is_told_so():
    class OneTooFew:
        batch_size = 8

        def embed(self, pictures):
            return SimpleNamespace(features=torch.zeros(len(pictures) - 1, 4))

    async def ask():
        batches = Batches(OneTooFew())
        try:
            answers = asyncio.gather(*map(batches.embed, ([1, 2], [3])), return_exceptions=True)
            return await asyncio.wait_for(answers, 20)
        finally:
            batches.close()

    assert [type(answer) for answer in asyncio.run(ask())] == [RuntimeError] * 2


def test_a_body_that_never_comes_is_not_waited_for():
    from starlette.exceptions import HTTPException

    async def app(scope, receive, send):
        await receive()

    guard = Guard(app, ["localhost"], Limits(seconds=1), NoToken())
    with pytest.raises(HTTPException, match="a request must arrive within 1 seconds; this one has not"):
        asyncio.run(call(guard))


def test_limits_are_at_least_one():
    with pytest.raises(ValueError, match="files must be at least 1"):
        Limits(files=0)
    assert str(Refusal(400, "so")) == "so"

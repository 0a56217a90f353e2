"""What is written about pixels costs nothing, files are told from texts, and a large picture has a way in."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from hierpretrain.datasets import FolderDataset, LoadRGB, UnreadableImage
from hierpretrain.datasets.image_files import image_kind, is_clutter
from hierpretrain.datasets.loading import as_rgb, decode_rgb, open_rgb
from tests.datasets.tiff_files import tiff

XMP = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc or zlib.crc32(kind + data))


def png(**options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue(), pixels


MEGABYTES = {
    "tEXt": chunk(b"tEXt", b"workflow\0" + b"x" * 70_000_000),
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 600_000)),
    "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>" * 300_000)),
    "iCCP": chunk(b"iCCP", b"scanner\0\0" + zlib.compress(os.urandom(1_200_000))),
    "zTXt that swells": chunk(b"zTXt", b"bomb\0\0" + zlib.compress(b"\0" * 300_000_000, 9)),
    "bad checksum": chunk(b"tEXt", b"a\0b", crc=1),
    "short pHYs": chunk(b"pHYs", b"\0"),
    "damaged EXIF": chunk(b"eXIf", b"nothing"),
    "EXIF with a bad checksum": chunk(b"eXIf", b"MM\0*", crc=1),
}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", MEGABYTES)
def test_remarks_of_a_png_cost_nothing(tmp_path, name, at_end):
    data, pixels = png()
    cut = len(data) - 12 if at_end else 33
    (tmp_path / "a.png").write_bytes(data[:cut] + MEGABYTES[name] + data[cut:])
    assert (np.asarray(open_rgb(str(tmp_path / "a.png"))) == pixels).all()


def test_the_orientation_is_kept_among_large_remarks(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data, pixels = png(exif=exif)
    (tmp_path / "exif.png").write_bytes(data[:33] + MEGABYTES["zTXt"] + data[33:])
    assert (np.asarray(open_rgb(str(tmp_path / "exif.png"))) == np.rot90(pixels, -1)).all()
    data, _ = png()
    for flag, body in ((0, XMP.encode() + b" " * 2_000_000), (1, zlib.compress(XMP.encode() + b" " * 2_000_000))):
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([flag]) + b"\0\0\0" + body)
        (tmp_path / "xmp.png").write_bytes(data[:-12] + text + MEGABYTES["zTXt"] + data[-12:])
        assert (np.asarray(open_rgb(str(tmp_path / "xmp.png"))) == np.rot90(pixels, -1)).all()


def exif_says_six():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def exif_says_nothing():
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    return exif.tobytes()


PROFILE = b"\nexif\n%8d\n" % len(exif_says_six()) + exif_says_six().hex().encode()
SAYS_SIX = {
    "eXIf": chunk(b"eXIf", exif_says_six()[6:]),
    "profile in zTXt": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE)),
    "profile in tEXt": chunk(b"tEXt", b"Raw profile type exif\0" + PROFILE),
    "XMP beside EXIF of other things": chunk(b"eXIf", exif_says_nothing()[6:])
    + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode()),
    "XMP in tEXt": chunk(b"tEXt", b"XML:com.adobe.xmp\0" + XMP.encode()),
    "XMP in zTXt": chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(XMP.encode())),
}


@pytest.mark.parametrize("name", SAYS_SIX)
def test_every_orientation_of_a_png_is_kept_among_large_remarks(tmp_path, name):
    data, pixels = png()
    said, large = SAYS_SIX[name], MEGABYTES["zTXt"]
    for cut in (33, len(data) - 12):
        for remarks in (said, said + large, large + said):
            (tmp_path / "a.png").write_bytes(data[:cut] + remarks + data[cut:])
            assert (np.asarray(open_rgb(str(tmp_path / "a.png"))) == np.rot90(pixels, -1)).all()


def test_a_png_that_is_open_and_not_read_yet(tmp_path):
    data, pixels = png()
    for name in ("zTXt", "iTXt", "zTXt that swells", "short pHYs"):
        (tmp_path / "a.png").write_bytes(data[:-12] + MEGABYTES[name] + SAYS_SIX["XMP in tEXt"] + data[-12:])
        for source in (tmp_path / "a.png", io.BytesIO((tmp_path / "a.png").read_bytes())):
            with Image.open(source) as image:
                for _ in range(2):  # Pillow fails once alone
                    assert (np.asarray(as_rgb(image)) == np.rot90(pixels, -1)).all(), name
    with Image.open(io.BytesIO((data[:-500] + MEGABYTES["zTXt"] + data[-12:])[:-1000])) as image:
        with pytest.raises(OSError, match="truncated"):
            as_rgb(image)


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


DAMAGED_SEGMENTS = {
    "profile": segment(0xE2, b"ICC_PROFILE\0\1"),
    "Adobe": segment(0xEE, b"Adobe"),
    "JFIF": segment(0xE0, b"JFIF"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed"),
}


@pytest.mark.parametrize("name", DAMAGED_SEGMENTS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGB unconverted"])
def test_damaged_segments_of_a_jpeg_cost_nothing(name, mode):
    _, pixels = png()
    buffer = io.BytesIO()
    options = {"keep_rgb": True} if mode == "RGB unconverted" else {}
    Image.fromarray(pixels).convert(mode.split()[0]).save(buffer, "JPEG", progressive=True, comment="a", **options)
    data, damaged = buffer.getvalue(), DAMAGED_SEGMENTS[name]
    expected = np.asarray(decode_rgb(data, "a.jpg"))
    assert (np.asarray(decode_rgb(data[:2] + damaged + data[2:], "a.jpg")) == expected).all()
    exif = exif_says_six()  # which may be in several segments
    for says in (
        segment(0xE1, exif),
        segment(0xE1, exif[:20]) + segment(0xE1, exif[:6] + exif[20:]),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.encode()),
    ):
        found = decode_rgb(data[:2] + b"\xff" + damaged + says + data[2:], "a.jpg")
        assert (np.asarray(found) == np.rot90(expected, -1)).all()
    for cut in (100, len(data) - 600):
        with pytest.raises(UnreadableImage, match=r"cannot read the image a\.jpg: "):
            decode_rgb((data[:2] + damaged + data[2:])[:cut], "a.jpg")


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("alpha", [True, False])
def test_damaged_chunks_of_a_webp_cost_nothing(lossless, alpha):
    _, pixels = png()
    image = Image.fromarray(pixels)
    if alpha:
        image.putalpha(Image.fromarray(pixels[..., 0]))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, exif=exif_says_six(), icc_profile=b"x" * 131, xmp=b"<x/>")
    data = buffer.getvalue()
    turned = np.asarray(decode_rgb(data, "a.webp"))
    cut = data.index(b"EXIF") + 15
    assert (np.asarray(decode_rgb(data[:cut], "a.webp")) == np.rot90(turned)).all()
    profile = data.index(b"ICCP")
    for size in (0, 129, 133, 138, 1131, 1 << 30):
        damaged = data[: profile + 4] + struct.pack("<I", size) + data[profile + 8 :]
        assert (np.asarray(decode_rgb(damaged, "a.webp")) == turned).all()
        with pytest.raises(UnreadableImage, match=r"cannot read the image a\.webp: could not create decoder object"):
            decode_rgb(damaged[: damaged.index(b"VP8L" if lossless else b"VP8 ") + 300], "a.webp")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_entries_of_a_tiff_cost_nothing(tmp_path, order, compressed):
    pixels = png()[1][..., 0]
    outside = 1 << 30
    for entry in (
        (270, 2, 100, outside),
        (700, 1, 100, outside),
        (700, 3, 1, 5),
        (305, 2, 9, outside),
        (34665, 4, 1, 8),
    ):
        for turn, expected in ((1, pixels), (6, np.rot90(pixels, -1))):
            data = tiff(pixels, order, compressed=compressed, entries=[(274, 3, 1, turn), entry])
            (tmp_path / "a.tif").write_bytes(data)
            assert (np.asarray(open_rgb(str(tmp_path / "a.tif")))[..., 0] == expected).all(), entry
    xmp = XMP.encode()
    entries = [(270, 2, 100, outside), (700, 1, len(xmp), 8)]
    found = decode_rgb(tiff(pixels, order, compressed=compressed, entries=entries, before=xmp), "a.tif")
    assert (np.asarray(found)[..., 0] == np.rot90(pixels, -1)).all()
    with pytest.raises(UnreadableImage):
        decode_rgb(tiff(pixels, order, entries=[(270, 2, 100, outside)])[:2000], "a.tif")


def test_the_preview_of_a_raw_file_is_no_image(tmp_path):
    pixels = png()[1][..., 0]
    Image.fromarray(pixels).save(tmp_path / "IMG.jpg")
    (tmp_path / "IMG.dng").write_bytes(tiff(pixels, entries=[(254, 4, 1, 1), (50706, 1, 4, 0x0401)]))
    (tmp_path / "IMG.NEF").write_bytes(tiff(pixels))
    assert FolderDataset(data_root=str(tmp_path), need_labels=False).image_paths == [str(tmp_path / "IMG.jpg")]
    for entries in ([(50706, 1, 4, 0x0401)], [(254, 4, 1, 1), (330, 4, 1, 8), (270, 2, 99, 1 << 30)]):
        (tmp_path / "raw.tif").write_bytes(tiff(pixels, entries=entries))
        with pytest.raises(UnreadableImage, match=r"raw\.tif: it is the raw file of a camera, .* develop it"):
            open_rgb(str(tmp_path / "raw.tif"))
    assert decode_rgb(tiff(pixels, entries=[(254, 4, 1, 1)]), "a.tif").size == (60, 40)


def test_transparency_is_kept_among_large_remarks(tmp_path):
    info = PngImagePlugin.PngInfo()
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    image.save(tmp_path / "a.png", transparency=(4, 5, 6), pnginfo=info)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:33] + MEGABYTES["zTXt"] + data[33:])
    assert np.asarray(open_rgb(str(tmp_path / "a.png"))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_a_truncated_png_of_large_remarks_is_still_an_error(tmp_path):
    data, _ = png()
    (tmp_path / "a.png").write_bytes((data[:33] + MEGABYTES["zTXt"] + data[33:])[:-2000])
    with pytest.raises(UnreadableImage, match="truncated"):
        open_rgb(str(tmp_path / "a.png"))


@pytest.mark.parametrize("from_bytes", [False, True])
def test_pixels_of_a_png_that_are_damaged_are_told(tmp_path, from_bytes):
    ramp = np.add.outer(np.arange(300), np.arange(300)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(ramp).save(path)
    data = bytearray(path.read_bytes())
    for start, stop in ((len(data) * 6 // 10, len(data)), (len(data) // 2, len(data) // 2 + 9)):
        damaged = bytes(data[:start] + bytes(stop - start) + data[stop:])
        path.write_bytes(damaged)
        with pytest.raises(UnreadableImage, match=r"cannot read the image .*a.png: "):
            decode_rgb(damaged, "a.png") if from_bytes else open_rgb(str(path))
    flipped = data.replace(data[-20:-16], bytes(255 - byte for byte in data[-20:-16]))  # the checksum
    with pytest.raises(UnreadableImage, match="it is damaged: the checksum of its pixels is wrong; get it anew"):
        decode_rgb(bytes(flipped), "a.png")
    assert (np.asarray(decode_rgb(bytes(data), "a.png"))[..., 0] == ramp).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_of_any_kind_costs_nothing(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = ("no", "latitude", "at all")  # Pillow writes rationals: it fails at these when it turns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = Image.Exif()
        good[0x0112] = 6
        Image.new("RGB", (60, 40)).save(tmp_path / "a", kind, exif=good)
    turned = open_rgb(str(tmp_path / "a"))
    assert turned.size == ImageOps.exif_transpose(turned).size == (40, 60)  # who turns it again leaves it as it is
    with Image.open(tmp_path / "a") as image:
        image._exif = exif
        exif._loaded = True
        assert as_rgb(image).size == ((40, 60) if kind != "TIFF" else image.size)
    for damaged in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0nothing at all",
    ):
        if kind != "TIFF":
            Image.new("RGB", (60, 40)).save(tmp_path / "b", kind, exif=damaged)
            assert open_rgb(str(tmp_path / "b")).size == (60, 40)


@pytest.mark.parametrize("value", [0, 9, 65535, "6", (6, 6)])
def test_an_orientation_that_is_none_is_upright(value):
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = value
    assert as_rgb(image).size == (4, 2)


# ---------------------------------------------------------------- what is an image
TEXTS = [
    b"BMW 320i, red, two owners and a long history of repairs",
    b"BM",
    b"GIF89a is a format of CompuServe, from the year 1989",
    b"GIF87a, and GIF89a after it, are formats of CompuServe",
    b"RIFF1234WEBP is what such a file begins with, and VP8 ",
    b"\0\0\0 ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(40),  # a film
    b"    ftypavif is how it begins, and then come the boxes",
    b"II*\0\x10\0\0\0CR\2\0" + bytes(60),  # a camera's raw file
    b"MM* and II* are how TIFFs begin",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_image(text):
    assert image_kind(text[:64]) == ""


@pytest.mark.parametrize("size", [(1, 1), (255, 300), (640, 480), (3000, 2570)])
@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "TIFF", "JPEG", "PNG", "AVIF", "JPEG2000"])
def test_images_of_all_sizes_are_told(kind, size):
    if kind == "AVIF" and size[0] > 640:
        pytest.skip("takes seconds to write")
    for mode in ("RGB", "P", "1") if kind in ("BMP", "GIF", "TIFF", "PNG") else ("RGB",):
        buffer = io.BytesIO()
        Image.new(mode, size).save(buffer, kind)
        assert image_kind(buffer.getvalue()[:64]) == kind


def test_a_tiff_of_64_bit_offsets(tmp_path):
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "a.tif", big_tiff=True)
    assert image_kind((tmp_path / "a.tif").read_bytes()[:64]) == "TIFF"
    assert open_rgb(str(tmp_path / "a.tif")).getpixel((2, 1)) == (1, 2, 3)


def test_what_programs_leave_is_no_class(tmp_path):
    for folder in (
        "cats",
        "@eaDir/cats",
        "cats/@eaDir",
        ".ipynb_checkpoints",
        "__MACOSX/cats",
        "$RECYCLE.BIN",
        "#recycle",
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / folder / "1.png")
    (tmp_path / "cats/Thumbs.db").write_bytes((tmp_path / "cats/1.png").read_bytes())
    found = FolderDataset(data_root=str(tmp_path))
    assert found.image_paths == [str(tmp_path / "cats/1.png")]
    assert found.taxonomy.level_names == ("level1",)
    assert not is_clutter("macosx")


# ---------------------------------------------------------------- HEIC
def test_a_heic_takes_the_extra(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (60, 40), (200, 30, 90)).save(tmp_path / "a.jpg", "HEIF", quality=95)
    assert image_kind((tmp_path / "a.jpg").read_bytes()[:64]) == "HEIF"
    image = open_rgb(str(tmp_path / "a.jpg"))
    assert image.size == (60, 40)
    np.testing.assert_allclose(image.getpixel((30, 20)), (200, 30, 90), atol=8)


def test_without_the_extra_a_heic_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(UnreadableImage, match=r"a\.heic: it is a HEIC; .* pip install 'hierpretrain\[heif\]'"):
        open_rgb(str(tmp_path / "a.heic"))


# ---------------------------------------------------------------- large pictures
@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)  # an error from 10,000 on


@pytest.mark.parametrize(("min_side", "size"), [(None, (100, 80)), (60, (100, 80)), (21, (50, 40)), (10, (25, 20))])
def test_a_jpeg_beyond_the_limit_is_decoded_at_a_part(tmp_path, small_limit, min_side, size):
    Image.new("RGB", (200, 160), (200, 30, 90)).save(tmp_path / "a.jpg")
    image = open_rgb(str(tmp_path / "a.jpg"), min_side)
    assert image.size == size
    np.testing.assert_allclose(image.getpixel((10, 10)), (200, 30, 90), atol=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_rgb(str(tmp_path / "a.jpg"), max_pixels=32_000).size == (200, 160)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "progressive JPEG", "PNG of remarks"])
def test_others_beyond_the_limit_take_an_option(tmp_path, small_limit, kind):
    buffer = io.BytesIO()
    format_, options = ("JPEG", {"progressive": True}) if kind == "progressive JPEG" else (kind.split()[0], {})
    Image.new("RGB", (200, 160), (200, 30, 90)).save(buffer, format_, **options)
    data = buffer.getvalue()
    if kind == "PNG of remarks":
        data = data[:33] + MEGABYTES["zTXt"] + data[33:]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(
        UnreadableImage, match=r"its 32,000 pixels are more than .* 10,000, .*LoadRGB\(max_pixels=32000\)"
    ):
        open_rgb(str(tmp_path / "a"))
    found = LoadRGB(max_pixels=32_000)({"img_path": str(tmp_path / "a")})["img"]
    assert found.size == (200, 160)
    with pytest.raises(ValueError, match="max_pixels must be at least 1; it is 0"):
        LoadRGB(max_pixels=0)

"""Trees of images in which faults are planted, one of each kind, and clean ones."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

HUGE = 99
"""Pixels of a side beyond which a picture is huge in tests; see the fixture."""


def noise(seed, size=(24, 24)):
    """A picture that looks like no other: coarse noise, so that another compression changes little of it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write(path, seed, size=(24, 24), **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, size).save(path, **options)
    return path


def write_clean(root, first=0):
    """Writes three classes of two images each below two others, and one beside them; nothing is wrong with them."""
    names = (
        "animal/cat/a.png",
        "animal/cat/b.jpg",
        "animal/dog/a.png",
        "animal/dog/b.png",
        "tool/a.png",
        "tool/b.webp",
    )
    for i, name in enumerate(names):
        write(root / name, first + i)
    return names


def plant(root, outside):
    """Adds every fault that a folder can have to a clean tree; returns the (kind, subject, others) to be found."""
    found = set()

    def fault(kind, subject, *others):
        found.add((kind, subject, others))

    # files
    (root / "tool/broken_link.jpg").symlink_to("nowhere.jpg")
    fault("broken link", "tool/broken_link.jpg")
    write(outside / "secret.png", 900)
    (root / "tool/out.png").symlink_to(outside / "secret.png")
    fault("link out of the folder", "tool/out.png")
    (root / "tool/empty.jpg").touch()
    fault("empty file", "tool/empty.jpg")
    (root / "tool/page.jpg").write_text("<html>not found</html>")
    fault("no image", "tool/page.jpg")
    (root / "tool/notes.txt").write_text("notes")
    fault("left out", "tool/notes.txt")
    (root / "animal/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    fault("left out", "animal/.DS_Store")
    (root / "@eaDir").mkdir()
    write(root / "@eaDir/thumb.jpg", 901)
    fault("left out", "@eaDir")
    (root / "more").symlink_to(root / "tool")
    fault("left out", "more")
    (root / "bird/owl/snowy").mkdir(parents=True)
    fault("empty folder", "bird")
    # pictures
    whole = write(root / "tool/cut.png", 902, size=(64, 64)).read_bytes()
    (root / "tool/cut.png").write_bytes(whole[: len(whole) // 2])
    fault("truncated image", "tool/cut.png")
    (root / "tool/damaged.png").write_bytes(whole[:16] + b"\0" * 200)
    fault("broken image", "tool/damaged.png")
    write(root / "tool/tiny.png", 903, size=(5, 24))
    fault("tiny image", "tool/tiny.png")
    Image.new("RGB", (24, 24), "white").save(root / "tool/white.png")
    fault("blank image", "tool/white.png")
    write(root / "tool/huge.png", 904, size=(HUGE + 1, 1 + HUGE))
    fault("huge image", "tool/huge.png")
    # duplicates
    (root / "animal/dog/copy.png").write_bytes((root / "animal/dog/a.png").read_bytes())
    fault("copies", "animal/dog/a.png", "animal/dog/copy.png")
    (root / "tool/other_class.png").write_bytes((root / "animal/cat/a.png").read_bytes())
    fault("copies across classes", "animal/cat/a.png", "tool/other_class.png")
    noise(3).save(root / "animal/dog/small.jpg", quality=95, subsampling=0)
    fault("look-alikes", "animal/dog/b.png", "animal/dog/small.jpg")
    Image.open(root / "animal/cat/b.jpg").point(lambda value: min(value + 2, 255)).save(root / "tool/look.png")
    fault("look-alikes across classes", "animal/cat/b.jpg", "tool/look.png")
    # names
    for i in range(2):
        write(root / f"animal/Cat /{i}.png", 910 + i)
    fault("two spellings", "animal/Cat ", "animal/cat")
    for i, form in enumerate(("caf\u00e9", "cafe\u0301")):
        for j in range(2):
            write(root / form / f"{j}.png", 920 + 2 * i + j)
    fault("two Unicode forms", "cafe\u0301", "caf\u00e9")
    # the tree
    write(root / "lost.png", 930)
    fault("no label", "lost.png")
    write(root / "tool/saw/1.png", 931)
    write(root / "tool/axe/1.png", 932)
    write(root / "tool/axe/2.png", 933)
    fault("one image", "tool/saw")
    write(root / "food/fruit/1.png", 934)
    write(root / "food/fruit/2.png", 935)
    fault("one child", "food", "food/fruit")
    write(root / "plant/tree/oak/1.png", 936)
    write(root / "plant/tree/oak/2.png", 937)
    fault("chain", "plant", "plant/tree", "plant/tree/oak")
    write(root / "vehicle/car/1.png", 938)
    write(root / "vehicle/car/2.png", 939)
    write(root / "vehicle/axe/1.png", 940)
    write(root / "vehicle/axe/2.png", 941)
    write(root / "vehicle/axe/3.png", 942)
    fault("two parents", "vehicle/axe", "tool/axe")
    if os.geteuid():  # to whom files may be closed
        closed = write(root / "tool/closed.png", 943)
        closed.chmod(0)
        fault("unreadable file", "tool/closed.png")
    return found

"""Puts digests right after a part was changed: whoever makes a hostile index does so, and a faulty writer."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from hierpretrain.apis.part_files import sealed


def index(folder: Path, file: Path) -> None:
    """Renames a changed part of an index by its new digest, in the manifest too."""
    manifest = file.parent / "index.json"
    if file != manifest and file.exists():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        name = f"{file.name.partition('-')[0]}-{digest}{file.suffix}"
        manifest.write_text(manifest.read_text().replace(file.name, name))
        file.rename(file.parent / name)
    with suppress(OSError, ValueError, RecursionError, AttributeError):  # of a manifest that is none any more
        manifest.write_text(json.dumps(sealed(json.loads(manifest.read_text()))))


def embeddings(folder: Path, file: Path) -> None:
    """Writes the new digest of a changed file into the manifest of embeddings."""
    manifest = file.parent / "manifest.json"
    if not file.exists() or file == manifest:
        return
    about = json.loads(manifest.read_text())
    about["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(about))

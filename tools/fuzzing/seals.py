"""Puts digests right after a part was changed: whoever makes a hostile index does so, and a faulty writer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def index(folder: Path, file: Path) -> None:
    """Renames a changed part of an index by its new digest, in the manifest too."""
    if not file.exists() or file.name == "index.json":
        return
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"{file.name.partition('-')[0]}-{digest}{file.suffix}"
    manifest = file.parent / "index.json"
    manifest.write_text(manifest.read_text().replace(file.name, name))
    file.rename(file.parent / name)


def embeddings(folder: Path, file: Path) -> None:
    """Writes the new digest of a changed file into the manifest of embeddings."""
    manifest = file.parent / "manifest.json"
    if not file.exists() or file == manifest:
        return
    about = json.loads(manifest.read_text())
    about["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(about))

"""Names of indexes: a folder, or an address of Milvus."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote

_FORMS = "milvus://HOST:PORT/NAME, milvus+https://HOST:PORT/NAME or milvus-lite:///FOLDER/FILE.db#NAME"


class MilvusAddress(NamedTuple):
    """Where an index lies in Milvus: what its client connects to, and the name of the collection."""

    uri: str
    collection: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file of milvus-lite, and not a server.

        Example:
            >>> milvus_address("milvus-lite:shop.db#photos").is_file, milvus_address("milvus://shop.db/photos").is_file
            (True, False)
        """
        return not self.uri.startswith(("http://", "https://"))


def is_address(name: object) -> bool:
    """Returns whether the name of an index is an address of Milvus, and not a folder.

    Example:
        >>> is_address("milvus://db:19530/shop"), is_address("photos.index")
        (True, False)
    """
    return isinstance(name, str) and re.match(r"milvus(\+https?|-lite)?:", name) is not None


def milvus_address(name: str) -> MilvusAddress:
    """Reads an address.

    Raises:
        ValueError: If it is of another form, or the name is none that Milvus allows.

    Example:
        >>> milvus_address("milvus://db:19530/shop")
        MilvusAddress(uri='http://db:19530', collection='shop')
        >>> milvus_address("milvus-lite:///data/shop.db#photos")
        MilvusAddress(uri='/data/shop.db', collection='photos')
        >>> milvus_address("milvus-lite:shop.db#photos").uri
        'shop.db'
    """
    scheme, _, rest = name.partition(":")
    if scheme == "milvus-lite":
        path, _, collection = rest.removeprefix("//").partition("#")
        uri = os.path.expanduser(unquote(path))
        right = uri.endswith(".db")
    else:
        host, _, collection = rest.removeprefix("//").partition("/")
        uri = f"{'https' if scheme.endswith('+https') else 'http'}://{host}"
        right = re.fullmatch(r"[^:\[\]]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", host) and rest.startswith("//")
    if not right or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", collection):
        raise ValueError(
            f"an index in Milvus has an address such as {_FORMS}, with a NAME of letters, digits and '_'; it is "
            f"{name!r}"
        )
    return MilvusAddress(uri, collection)

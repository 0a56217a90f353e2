import struct
import zlib

FORMATS = {"u": 1, "i": 2, "f": 3}  # kinds of NumPy -> numbers of TIFF


def tiff(values, order="<", *, compressed=False, photometric=1, entries=(), before=b""):
    """Returns a grey TIFF of any kind of values, with entries (tag, type, count, value) and bytes from offset 8 on."""
    before += b"\0" * (len(before) % 2)
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if compressed else content
    content += b"\0" * (len(content) % 2)
    entries = [
        *((256, 3, 1, values.shape[1]), (257, 3, 1, values.shape[0]), (258, 3, 1, values.dtype.itemsize * 8)),
        *((259, 3, 1, 8 if compressed else 1), (262, 3, 1, photometric), (273, 4, 1, 8 + len(before))),
        *((278, 3, 1, values.shape[0]), (279, 4, 1, len(content)), (339, 3, 1, FORMATS[values.dtype.kind])),
        *entries,
    ]
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in sorted(entries):
        short = kind == 3 and count == 1
        directory += struct.pack(order + ("HHLHxx" if short else "HHLL"), tag, kind, count, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8 + len(before) + len(content))
    return head + before + content + directory + bytes(4)

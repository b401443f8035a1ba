"""What a file says of itself before a pixel is decoded: format, size, orientation, and whether its end is there.

Sizes are taken from here and checked against the limits before any decoder allocates memory.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from bonefrac.errors import FilmError, NotAnalysed, Unreadable

Format = Literal["JPEG", "PNG", "TIFF"]

MARK = "bonefrac annotated picture, not for diagnosis"  # written into our pictures, so that they are known again

_JPEG, _PNG, _TIFF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*")
_MAGIC = (_JPEG, _PNG, *_TIFF)
_FOREIGN = (  # other formats by their first bytes, and what to do about them
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"RIFF", "a WebP picture or sound"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\xffO\xffQ", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
)


@dataclass(frozen=True)
class Header:
    """The facts of one image file.

    `width` and `height` are pixels as stored, before `orientation` (EXIF/TIFF tag 274, 1 to 8) turns the film upright.
    `channels` counts stored colour components, `bits` those of one component.
    """

    format: Format
    width: int
    height: int
    channels: int
    bits: int
    orientation: int = 1
    white_is_zero: bool = False  # TIFF's PhotometricInterpretation 0: small numbers are bright


MAGIC_BYTES = 8


def has_film_magic(data: bytes) -> bool:
    """Whether a file that begins so is a JPEG, PNG or TIFF, as far as its beginning goes."""
    return any(data[: len(magic)] == magic[: len(data)] for magic in _MAGIC)


def read_header(data: bytes) -> Header:
    """Read the header of a whole file held in memory and check that its end is there.

    Raises NotAnalysed when the bytes are no image that is read here, Unreadable when they are a damaged one.
    """
    if not data:
        raise Unreadable("the file is empty (0 bytes); copy it again")
    try:
        if data.startswith(_JPEG):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(_TIFF):
            return _tiff(data)
    except FilmError:
        raise
    except (IndexError, struct.error, ValueError) as error:
        raise Unreadable("the image is cut short or damaged in its header; copy it again") from error
    if data[128:132] == b"DICM":
        raise NotAnalysed("a DICOM file, which this version does not read; export it as PNG")
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            raise NotAnalysed(f"{name}, not a radiograph in JPEG, PNG or TIFF")
    if not any(data[:4096]):
        raise Unreadable("the file holds only zero bytes, as after a broken copy; copy it again")
    raise NotAnalysed("not an image")


# --- JPEG: ITU-T T.81, annex B ---------------------------------------------------------------------------------

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOF_DECODED = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive Huffman: what OpenCV's libjpeg reads


def _jpeg(data: bytes) -> Header:
    at, orientation, frame = 2, 1, None
    while True:
        if data[at] != 0xFF:
            raise Unreadable("the JPEG is damaged: no marker where one must be; copy it again")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker in _SOF:
            frame = (marker, *struct.unpack_from(">BHHB", body))
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _orientation(body[6:])
        elif marker == 0xFE and body.startswith(MARK.encode()):
            raise NotAnalysed("an annotated picture made by bonefrac, not a film")
        at += 2 + length
        if marker == 0xDA:  # entropy-coded data begins; 0xFF is stuffed there, so an end marker is one
            break
    if frame is None:
        raise Unreadable("the JPEG is damaged: it has no frame header; copy it again")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise Unreadable("the JPEG is cut short: its end is missing; copy it again")
    marker, bits, height, width, channels = frame
    if marker not in _SOF_DECODED or bits != 8:
        raise NotAnalysed("a lossless, arithmetic or 12-bit JPEG, which is not read here; export it as PNG")
    if channels not in (1, 3):
        raise NotAnalysed("a CMYK (print) JPEG, not a radiograph; export it in grey")
    return Header("JPEG", width, height, channels, bits, orientation)


# --- PNG: W3C Portable Network Graphics, third edition ---------------------------------------------------------

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def _png(data: bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if colour not in _PNG_CHANNELS:
        raise Unreadable("the PNG is damaged in its header; copy it again")
    at, orientation = 8, 1
    while True:
        if at + 12 > len(data):
            raise Unreadable("the PNG is cut short: its end is missing; copy it again")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise Unreadable("the PNG is cut short: its end is missing; copy it again")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise Unreadable("the PNG is damaged: a checksum is wrong; copy it again")
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : end])
        elif kind == b"tEXt" and MARK.encode() in data[at + 8 : end]:
            raise NotAnalysed("an annotated picture made by bonefrac, not a film")
        elif kind == b"IEND":
            return Header("PNG", width, height, _PNG_CHANNELS[colour], bits, orientation)
        at = end + 4


# --- TIFF 6.0, and the TIFF inside EXIF ------------------------------------------------------------------------

_TYPE_SIZE = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT, LONG: no other is needed
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _STRIPS, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 273, 274, 277
_STRIP_BYTES, _TILES, _TILE_BYTES, _SAMPLE_FORMAT = 279, 324, 325, 339


def _directory(data: bytes) -> tuple[dict[int, tuple[int, ...]], int]:
    """The whole-number tags of the first image directory, and the offset of the next (0: none)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if kind not in _TYPE_SIZE or count > len(data):
            continue
        size = _TYPE_SIZE[kind] * count
        where = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        tags[tag] = struct.unpack_from(f"{order}{count}{'.BxHI'[kind]}", data, where)
    (after,) = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)
    return tags, after


def _orientation(exif: bytes) -> int:
    """Orientation of an EXIF block; 1 (upright) where the block is damaged, for it is not part of the picture."""
    try:
        value = _directory(exif)[0].get(_ORIENTATION, (1,))[0]
    except (struct.error, IndexError):
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff(data: bytes) -> Header:
    tags, after = _directory(data)
    offsets = tags.get(_STRIPS) or tags.get(_TILES) or ()
    sizes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    if not offsets or len(offsets) != len(sizes) or _WIDTH not in tags or _HEIGHT not in tags:
        raise Unreadable("the TIFF is damaged: its directory is incomplete; copy it again")
    if max(offset + size for offset, size in zip(offsets, sizes, strict=True)) > len(data):
        raise Unreadable("the TIFF is cut short: its pixels are missing; copy it again")
    if after:
        raise NotAnalysed("a TIFF of several pages; save each page as a file of its own")
    bits, channels = tags.get(_BITS, (1,))[0], tags.get(_SAMPLES, (1,))[0]
    if bits not in (8, 16) or tags.get(_SAMPLE_FORMAT, (1,))[0] != 1:
        raise NotAnalysed(f"a TIFF of {bits}-bit or signed samples, which is not read here; save it as 8 or 16 bit")
    if tags.get(_PHOTOMETRIC, (1,))[0] == 5:
        raise NotAnalysed("a CMYK (print) TIFF, not a radiograph; export it in grey")
    turned = tags.get(_ORIENTATION, (1,))[0]
    return Header(
        "TIFF",
        tags[_WIDTH][0],
        tags[_HEIGHT][0],
        channels,
        bits,
        orientation=turned if 1 <= turned <= 8 else 1,
        white_is_zero=tags.get(_PHOTOMETRIC, (1,))[0] == 0,
    )

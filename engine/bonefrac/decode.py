"""A file's bytes -> grey pixels, upright, bone bright. The only way by which a film enters: training, calibration,
evaluation and service all decode here, so that they see the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from bonefrac.errors import NotAnalysed, Unreadable
from bonefrac.header import Header, read_header
from bonefrac.results import Grey, Radiograph

MIN_SIDE = 96  # px; below this a fracture is a pixel or two
MAX_PIXELS = 64_000_000  # a 43 x 35 cm film at 0.1 mm is 15 million; refused before any allocation above this
MAX_BYTES = 512 * 2**20

_COLOUR_SPREAD = 32  # grey levels between a pixel's channels that make it coloured
_COLOUR_SHARE = 0.05  # of coloured pixels that make a film a colour picture: a coloured side marker stays below
_BLANK_RANGE = 12  # grey levels (of 256) between the 1st and the 99th percentile of a frame that shows nothing


def decode(data: bytes, *, long_side: int) -> Radiograph:
    """Decode one film. A JPEG may come back smaller than stored, but never below `long_side` px on its long side.

    Raises NotAnalysed (no radiograph: not an image, coloured, blank, too small, too large) or Unreadable (damaged).
    """
    header = read_header(data)
    _check_size(header)
    pixels = _grey(_read(data, header, long_side), header)
    if header.format != "TIFF":  # OpenCV turns a TIFF whatever the flag says
        pixels = _upright(pixels, header.orientation)
    _check_not_blank(pixels)
    width, height = (header.width, header.height) if header.orientation < 5 else (header.height, header.width)
    return Radiograph(pixels, width, height)


def _check_size(header: Header) -> None:
    size = f"{header.width} x {header.height} px"
    if min(header.width, header.height) < MIN_SIDE:
        raise NotAnalysed(f"the picture is too small: {size}, at least {MIN_SIDE} on each side are needed")
    if header.width * header.height > MAX_PIXELS:
        raise NotAnalysed(f"the picture is too large: {size}, at most {MAX_PIXELS // 10**6} million pixels are read")


def _read(data: bytes, header: Header, long_side: int) -> Grey:
    """Decode to (h, w) or (h, w, 3 or 4, blue first), still as stored: orientation is applied later, once for all."""
    if header.format == "JPEG":
        return _read_jpeg(data, header, long_side)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise Unreadable(f"the {header.format} is damaged and cannot be decoded; copy it again") from error
    if pixels is None:
        raise Unreadable(f"the {header.format} is damaged and cannot be decoded; copy it again")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise NotAnalysed(
            f"a {header.format} of {pixels.dtype} samples, which is not read here; save it as 8 or 16 bit"
        )
    if header.white_is_zero and pixels.dtype == np.uint16:  # OpenCV turns 8 bit alone
        pixels = np.iinfo(np.uint16).max - pixels
    return _as_grey(pixels)


def _read_jpeg(data: bytes, header: Header, long_side: int) -> Grey:
    """Decode at 1/8, 1/4, 1/2 or whole, and refuse what libjpeg only warns of: it fills a missing part with grey, which
    has no fracture. OpenCV, with the same pixels, keeps such warnings to itself."""
    factor = next(f for f in (8, 4, 2, 1) if f == 1 or max(header.width, header.height) >= f * long_side)
    try:
        pixels = simplejpeg.decode_jpeg(
            data,
            "GRAY" if header.channels == 1 else "BGR",
            min_height=-(-header.height // factor),
            min_width=-(-header.width // factor),
        )
    except ValueError as error:
        raise Unreadable(f"the JPEG is damaged ({str(error).rstrip('.')}); copy it again") from error
    return _as_grey(pixels[:, :, 0] if header.channels == 1 else pixels)


def _as_grey(pixels: cv2.typing.MatLike) -> Grey:
    """What OpenCV gave, with a type that is known; nothing is copied."""
    return pixels.astype(np.uint16 if pixels.dtype == np.uint16 else np.uint8, copy=False)


def _grey(pixels: Grey, header: Header) -> Grey:
    """One channel. Transparent pixels become black, as air is. Raises NotAnalysed for a colour picture."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4:
        full = np.iinfo(pixels.dtype).max
        for rows in np.array_split(pixels, max(1, len(pixels) // 256)):  # in strips: products need four times the room
            if (rows[:, :, 3] < full).any():
                rows[:, :, :3] = rows[:, :, :3] * (rows[:, :, 3:] / np.float32(full))
        pixels = pixels[:, :, :3]
    if pixels.shape[2] != 3:
        raise NotAnalysed(f"a {header.format} of {pixels.shape[2]} channels, which is not read here")
    blue, green, red = cv2.split(pixels[:: max(1, pixels.shape[0] // 128), :: max(1, pixels.shape[1] // 128)])
    spread = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
    level = _COLOUR_SPREAD if spread.dtype == np.uint8 else _COLOUR_SPREAD * 256
    if (spread > level).mean() > _COLOUR_SHARE:
        raise NotAnalysed("a colour picture, not a radiograph")
    return _as_grey(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))


_TURN = {3: cv2.ROTATE_180, 4: cv2.ROTATE_180, 5: cv2.ROTATE_90_CLOCKWISE, 6: cv2.ROTATE_90_CLOCKWISE,
         7: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}  # fmt: skip


def _upright(pixels: Grey, orientation: int) -> Grey:
    """Apply EXIF orientation 1 to 8 (CIPA DC-008, tag 274): turn, then mirror left to right for 2, 4, 5 and 7."""
    if orientation in _TURN:
        pixels = _as_grey(cv2.rotate(pixels, _TURN[orientation]))
    if orientation in (2, 4, 5, 7):
        pixels = _as_grey(cv2.flip(pixels, 1))
    return pixels


def _check_not_blank(pixels: Grey) -> None:
    small = np.ascontiguousarray(pixels[:: max(1, pixels.shape[0] // 128), :: max(1, pixels.shape[1] // 128)])
    shades = 1 << 8 * small.itemsize
    counts = cv2.calcHist([small], [0], None, [shades], [0, shades])  # sorting would take as long as the resize
    low, high = np.searchsorted(counts.cumsum(), [round(share * (small.size - 1)) for share in (0.01, 0.99)], "right")
    depth = 256 if pixels.dtype == np.uint8 else max(256, high)  # scanners fill 10 to 16 of the 16 bits
    if high - low < _BLANK_RANGE / 256 * depth:
        raise NotAnalysed("a blank frame: it shows next to nothing but one shade of grey")

"""Image files of every kind that a person might hand in, whole and damaged, as bytes by name."""

import warnings
import zlib
from base64 import b85decode
from collections.abc import Iterator
from io import BytesIO
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 53, 37
PNG_START = b"\x89PNG\r\n\x1a\n"
_ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
)  # fmt: skip
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB")


def gradient(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Return a picture, uint8 (height, width, 3), in which every row and column differs."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (columns * 255 // width, rows * 255 // height, (rows + columns) * 2 % 256)
    return np.stack(channels, axis=-1).astype(np.uint8)


def encode(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """Return an image as a file."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (image or Image.fromarray(gradient())).save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG file with its checksum."""
    return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))


def png(
    pixels: NDArray[Any],
    *,
    rows: int | None = None,
    before: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """Return an 8 or 16-bit PNG, with one to four channels; ``rows`` leaves the others out.

    ``before`` are chunks ahead of the pixels.
    """
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    body = pixels.astype(pixels.dtype.newbyteorder(">"))
    passes = [body[top::down, left::right] for top, left, down, right in _ADAM7]
    ordered = [line for each in (passes if interlaced else [body]) for line in each]
    lines = b"".join(b"\0" + line.tobytes() for line in ordered[:rows])
    header = pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    first, *rest = [png_chunk(kind, content) for kind, content in chunks]
    return PNG_START + first + before + b"".join(rest)


def without_part_of_the_scan(jpeg: bytes, *, kept: float = 0.5) -> bytes:
    """Return a JPEG that lost the end of its pixels, but not the end marker."""
    start = jpeg.rindex(b"\xff\xda") if b"\xff\xc2" not in jpeg else jpeg.index(b"\xff\xda")
    cut = start + int((len(jpeg) - start) * kept)
    while jpeg[cut - 1] == 0xFF or jpeg[cut] == 0:
        cut -= 1
    return jpeg[:cut] + b"\xff\xd9"


def written_by_pillow() -> Iterator[tuple[str, bytes]]:
    """Yield every format in every mode that Pillow writes."""
    Image.init()
    picture = Image.fromarray(gradient())
    for kind in sorted(Image.SAVE):
        for mode in _MODES:
            grey = mode in ("I", "F", "I;16")
            image = picture.convert("L").convert(mode) if grey else picture.convert(mode)
            try:
                yield f"{kind} {mode}", encode(kind, image)
            except (OSError, ValueError, KeyError, SystemError, RuntimeError):
                continue


def variants() -> Iterator[tuple[str, bytes]]:
    """Yield what the formats can be besides."""
    picture = Image.fromarray(gradient())
    other = Image.fromarray(gradient()[::-1, ::-1])
    yield "JPEG progressive", encode("JPEG", progressive=True)
    yield "JPEG restart markers", encode("JPEG", restart_marker_rows=1)
    yield "JPEG 4:4:4", encode("JPEG", subsampling=0, quality=95)
    yield "JPEG RGB", encode("JPEG", keep_rgb=True)
    yield "JPEG with a thumbnail in its EXIF", _with_thumbnail(picture, other)
    yield "JPEG with junk behind it", encode("JPEG") + b"junk" * 100
    yield "JPEG with extraneous bytes before its end", encode("JPEG")[:-2] + b"abcdef\xff\xd9"
    yield "JPEG arithmetic", ARITHMETIC_JPEG
    yield "JPEG twice", encode("JPEG") + encode("JPEG", other)
    yield "MPO of two", encode("MPO", save_all=True, append_images=[other])
    mpo = encode("MPO", save_all=True, append_images=[other])
    yield "MPO whose second picture is cut", mpo[:-300]
    yield "MPO whose second picture is gone", mpo[: mpo.rindex(b"\xff\xd8\xff")]
    yield "PNG animated", encode("PNG", save_all=True, append_images=[other])
    yield (
        "PNG palette with transparency",
        encode("PNG", picture.convert("P", palette=Image.Palette.ADAPTIVE), transparency=3),
    )
    for bits in (1, 2, 4):
        few = picture.quantize(2**bits)
        yield f"PNG palette of {bits} bits", encode("PNG", few, bits=bits)
    pixels = gradient()
    for channels, name in enumerate(("grey", "grey+alpha", "RGB", "RGBA"), start=1):
        deep = np.resize(pixels.astype(np.uint16) * 257, (HEIGHT, WIDTH, channels))
        yield f"PNG 16 bits {name}", png(deep)
    yield "PNG interlaced", png(pixels, interlaced=True)
    yield "PNG 16 bits RGB interlaced", png(pixels.astype(np.uint16) * 257, interlaced=True)
    yield "PNG grey with a transparent level", encode("PNG", picture.convert("L"), transparency=9)
    yield "PNG RGB with a transparent colour", encode("PNG", transparency=(9, 9, 9))
    yield (
        "PNG with a note of wrong checksum",
        png(pixels, before=png_chunk(b"tEXt", b"a\0b")[:-1] + b"x"),
    )
    yield "PNG black at its end", png(np.concatenate([pixels, np.zeros((9, WIDTH, 3), np.uint8)]))
    yield "PNG with a gamma", png(pixels, before=png_chunk(b"gAMA", pack(">I", 100000)))
    yield "GIF animated", encode("GIF", save_all=True, append_images=[other])
    yield "GIF interlaced", encode("GIF", picture.convert("P"), interlace=1)
    yield "GIF transparent", encode("GIF", picture.convert("P"), transparency=3)
    yield "GIF whose first frame is an inset", _gif_with_an_inset()
    yield "WEBP lossless", encode("WEBP", lossless=True)
    yield "WEBP lossy with alpha", encode("WEBP", picture.convert("RGBA"), quality=60)
    yield "WEBP animated", encode("WEBP", save_all=True, append_images=[other])
    yield "BMP 8 bits grey", encode("BMP", picture.convert("L"))
    yield "BMP top down", _bmp_top_down(encode("BMP"))
    for kind in ("PNG", "GIF", "BMP", "WEBP"):
        yield f"{kind} with junk behind it", encode(kind) + b"junk" * 100
    yield "JPEG of 1 x 1", encode("JPEG", picture.crop((0, 0, 1, 1)))
    yield "PNG of 1 x 300", encode("PNG", picture.resize((1, 300)))
    yield "JPEG XL", JPEG_XL


def damaged() -> Iterator[tuple[str, bytes]]:
    """Yield files that lost a part of themselves."""
    sources = {
        "JPEG": encode("JPEG", quality=95),
        "JPEG progressive": encode("JPEG", quality=95, progressive=True),
        "PNG": encode("PNG"),
        "GIF": encode("GIF"),
        "BMP": encode("BMP"),
        "WEBP": encode("WEBP"),
        "WEBP lossless": encode("WEBP", lossless=True),
    }
    for kind, content in sources.items():
        for share in (0.02, 0.3, 0.6, 0.9, 0.97):
            yield f"{kind} cut at {share:.0%}", content[: int(len(content) * share)]
        yield f"{kind} without its last byte", content[:-1]
    for kind in ("JPEG", "JPEG progressive"):
        for kept in (0.1, 0.5, 0.8):
            half = without_part_of_the_scan(sources[kind], kept=kept)
            yield f"{kind} of which {kept:.0%} are left", half
    for rows in (0, HEIGHT // 2, HEIGHT - 1):
        yield f"PNG of {rows} rows", png(gradient(), rows=rows)
        yield f"PNG interlaced, of {rows} lines", png(gradient(), rows=rows, interlaced=True)
    whole = png(gradient())
    yield "PNG without an end", whole[:-12]
    for kind in (b"IDAT", b"IHDR", b"IEND"):
        end = whole.index(kind) + 4 + int.from_bytes(whole[whole.index(kind) - 4 :][:4], "big")
        yield (
            f"PNG with a wrong checksum of {kind.decode()}",
            whole[:end] + bytes([whole[end] ^ 1]) + whole[end + 1 :],
        )
    other = Image.fromarray(gradient()[::-1, ::-1])
    for kind in ("GIF", "PNG", "WEBP"):
        animated = encode(kind, save_all=True, append_images=[other])
        yield f"{kind} animated, cut in its second picture", animated[:-200]
    flipped = bytearray(sources["JPEG"])
    for offset in range(3):
        flipped[int(len(flipped) * 0.8) + offset] ^= 0x5A
    yield "JPEG with flipped bytes", bytes(flipped)
    grey = Image.fromarray(gradient()).convert("L")
    yield "BMP of 16 bits", _bmp_of_16_bits()
    yield "JPEG grey of half its data", without_part_of_the_scan(encode("JPEG", grey, quality=95))
    cmyk = encode("JPEG", Image.fromarray(gradient()).convert("CMYK"), quality=95)
    yield "JPEG CMYK of half its data", without_part_of_the_scan(cmyk)


def _with_thumbnail(picture: Image.Image, other: Image.Image) -> bytes:
    thumbnail = encode("JPEG", other.resize((16, 12)))
    return encode("JPEG", picture, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail)


def _gif_with_an_inset() -> bytes:
    content = bytearray(encode("GIF", Image.fromarray(gradient()).convert("P")))
    content[6:10] = pack("<HH", WIDTH + 20, HEIGHT + 10)
    return bytes(content)


def _bmp_of_16_bits() -> bytes:
    pixels = bytes(range(32)) * 4
    body = pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + pack("<IHHI", 54 + len(pixels), 0, 0, 54) + body + pixels


def _bmp_top_down(content: bytes) -> bytes:
    """Return a BMP whose first row is the uppermost, as its negative height says."""
    row = (WIDTH * 3 + 3) // 4 * 4
    body = content[54:]
    rows = [body[start : start + row] for start in range(0, len(body), row)]
    return content[:22] + pack("<i", -HEIGHT) + content[26:54] + b"".join(reversed(rows))


JPEG_XL = b85decode(
    "{|X=hXn;rv1OWgL0!t_|-Guc9*Fg@}3JMB??+OZzXapdl5G~La<Kyo`-~ttuD*>nhLQnz(Aq#+sQkk*=S{(5I-~W"
    "IA|NZ}WpGFl`R8bXGR8bXGR8f^M$a8QhSyF;f>;K>X|6jlQKP$Kspx33$(Eq>x|HJ)494h%&h&Evl0-Z&=vRxV}Q"
    "`G|pH2"
)
"""The gradient as libjxl writes it without loss; Pillow does not write the format."""

ARITHMETIC_JPEG = b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00;&K2L=TQ2L}fU2?z=d6b%du3k(?&6Au&}8Xq1V8XO!TBrYc)A}k{u94I"
    "#_EHE)NG&CP4IXyTsJT5adGXL8ELjeg12@DGi7!3^=G9erxGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUGBPqUG"
    "BPqUGBPqUGBPqUGBPqUGBW?k01*fPB>*)80U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0McYtp|Hs"
    "8M%l7+r8a~t5A)dar&#$9nOe(up;vF>*lJLdncE?sgbE>omvu&s0bELtLWc5W<!-9sE{kl&tn?)oR4>(^TZ8mH_U"
    "DliBa8m=*W0H_xRt!moi$cF<=f|tPUJ!rja?ZUGikm}c8Fo9CF};IPZbu`?DoV#s&#)T1QU~0YW;_x@`19`>eM|g"
    "sRG`uTn{fv7r{sOA_p*8Z8!hf"
)
"""The gradient as ``cjpeg -arithmetic`` writes it."""

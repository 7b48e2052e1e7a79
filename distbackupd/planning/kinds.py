"""What a content probably is, by how it begins: a name's extension for contents whose names are lost."""

from __future__ import annotations

import codecs

HEAD = 4096
"""So many bytes of a content are enough to guess."""

_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0\x10\0\0\0CR", "cr2"),
    (0, b"II*\0", "tif"),
    (0, b"MM\0*", "tif"),
    (0, b"8BPS", "psd"),
    (8, b"WEBP", "webp"),
    (8, b"WAVE", "wav"),
    (8, b"AVI ", "avi"),
    (0, b"%PDF-", "pdf"),
    (0, b"%!PS", "ps"),
    (0, b"{\\rtf", "rtf"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"MThd", "mid"),
    (0, b"\x1aE\xdf\xa3", "mkv"),
    (4, b"ftypqt", "mov"),
    (4, b"ftypM4A", "m4a"),
    (4, b"ftyphei", "heic"),
    (4, b"ftypmif1", "heic"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypcrx", "cr3"),
    (4, b"ftyp3g", "3gp"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (0, b"\0\0\x01\xba", "mpg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wmv"),
    (0, b"FLV\x01", "flv"),
    (30, b"mimetypeapplication/epub+zip", "epub"),
    (30, b"mimetypeapplication/vnd.oasis.opendocument.text", "odt"),
    (30, b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ods"),
    (30, b"mimetypeapplication/vnd.oasis.opendocument.presentation", "odp"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"\x1f\x8b", "gz"),
    (0, b"BZh", "bz2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zst"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (257, b"ustar", "tar"),
    (0, b"SQLite format 3\0", "sqlite"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "doc"),
    (0, b"\x7fELF", "elf"),
    (0, b"MZ", "exe"),
    (0, b"#!", "sh"),
    (0, b"<?xml", "xml"),
    (0, b"<!DOCTYPE html", "html"),
    (0, b"<html", "html"),
    (0, b"From ", "mbox"),
    (0, b"BEGIN:VCARD", "vcf"),
    (0, b"BEGIN:VCALENDAR", "ics"),
    (0, b"-----BEGIN PGP", "asc"),
    (0, b"-----BEGIN ", "pem"),
)
"""Offset, bytes there, extension; the first that fits decides."""

_IN_ZIP = ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx"), (b"META-INF/", "jar"))
UNKNOWN = "unknown"


def guess_extension(head: bytes) -> str:
    """The extension for a content that begins with ``head``: ``jpg``, ``txt``; :data:`UNKNOWN` where nothing fits."""
    for offset, beginning, extension in _BEGINNINGS:
        if head.startswith(beginning, offset):
            if extension == "zip":
                return next((better for inside, better in _IN_ZIP if inside in head), "zip")
            return extension
    return "txt" if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    try:
        # What is as long as a head may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character in "\t\n\r\f" for character in text)

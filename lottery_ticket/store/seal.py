"""JSON documents that tell whether they are whole: their last key is the CRC-32 of everything before it."""

import zlib

from lottery_ticket.errors import LotteryTicketError

_KEY = b',"crc32":"'


def seal(document: str) -> str:
    """A JSON object, not empty, as text, with the key `crc32` added at its end: eight hexadecimal digits."""
    body = document.rstrip().removesuffix("}").rstrip()
    return f'{body}{_KEY.decode()}{_crc32(body.encode())}"}}'


def unseal(sealed: bytes) -> bytes:
    """The JSON object without its seal; LotteryTicketError if it is not what was sealed.

    A document without a seal, as lottery-ticket lab before 0.3 wrote them, is given back as it is: whoever reads it
    must refuse keys that are not known, such as a damaged `crc32`.
    """
    body, key, rest = sealed.rpartition(_KEY)
    if not key:
        return sealed
    if rest != f'{_crc32(body)}"}}'.encode():
        raise LotteryTicketError("it is damaged: its checksum does not fit")
    return body + b"}"


def _crc32(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"

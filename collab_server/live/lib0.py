"""The variable-length encoding of lib0 (``lib0/encoding.js``, ``lib0/decoding.js``), bounded.

A reader takes the whole buffer and a position and returns the value and the position after it. It raises
``Malformed`` when the buffer ends too early, when a number is above 2^53 - 1 or longer than eight bytes, when
a string is not UTF-8, and when a number is padded (``80 00`` for 0). lib0 itself reads padded numbers but no
writer makes them; refusing them keeps one meaning to one byte string.
"""

from schemas.errors import Malformed

MAX_SAFE_INTEGER = 2**53 - 1
MAX_VAR_BYTES = 8  # 8 * 7 bits hold 2^53 - 1; 300 KB of 0x80 must not become a number of two million bits


def read_var_uint(buf: bytes, pos: int) -> tuple[int, int]:
    """An unsigned number, 0 … 2^53 - 1."""
    try:
        byte = buf[pos]
        if byte < 0x80:
            return byte, pos + 1
        value = byte & 0x7F
        shift = 7
        end = pos + MAX_VAR_BYTES
        pos += 1
        while pos < end:
            byte = buf[pos]
            pos += 1
            if byte < 0x80:
                value |= byte << shift
                if byte == 0 or value > MAX_SAFE_INTEGER:
                    break
                return value, pos
            value |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise Malformed("The bytes end in the middle of a number.") from None
    raise Malformed("A number is padded or above 2^53 - 1.")


def read_var_int(buf: bytes, pos: int) -> tuple[int, int]:
    """A signed number, ±(2^53 - 1): the sign is bit 6 of the first byte, which carries six bits of value."""
    try:
        byte = buf[pos]
        sign = -1 if byte & 0x40 else 1
        value = byte & 0x3F
        if byte < 0x80:
            return sign * value, pos + 1
        shift = 6
        end = pos + MAX_VAR_BYTES
        pos += 1
        while pos < end:
            byte = buf[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if byte == 0 or value > MAX_SAFE_INTEGER:
                    break
                return sign * value, pos
    except IndexError:
        raise Malformed("The bytes end in the middle of a number.") from None
    raise Malformed("A number is padded or outside of ±(2^53 - 1).")


def read_var_bytes(buf: bytes, pos: int) -> tuple[bytes, int]:
    """A length and that many bytes. Nothing is allocated for a length beyond the end of the buffer."""
    length, pos = read_var_uint(buf, pos)
    end = pos + length
    if end > len(buf):
        raise Malformed("A length points beyond the end.")
    return buf[pos:end], end


def read_var_string(buf: bytes, pos: int) -> tuple[str, int]:
    """A length in bytes and that many bytes of strict UTF-8 (no surrogates, no overlong forms)."""
    raw, pos = read_var_bytes(buf, pos)
    try:
        return raw.decode(), pos
    except UnicodeDecodeError:
        raise Malformed("A string is not valid UTF-8.") from None


def write_var_uint(value: int) -> bytes:
    """The shortest form of 0 … 2^53 - 1. A number outside of that is our own mistake: ``ValueError``."""
    if value < 0x80:
        if value < 0:
            raise ValueError(f"{value} is negative")
        return _ONE_BYTE[value]
    if value > MAX_SAFE_INTEGER:
        raise ValueError(f"{value} is above 2^53 - 1")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_var_bytes(data: bytes) -> bytes:
    return write_var_uint(len(data)) + data


def write_var_string(text: str) -> bytes:
    """UTF-8 with its length in bytes. A lone surrogate is our own mistake: ``UnicodeEncodeError``."""
    return write_var_bytes(text.encode())


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))

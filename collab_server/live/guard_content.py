"""The contents of Yjs structs, format V1 (``yjs/src/structs/Content*.js``): checked, never kept.

Every function takes the buffer and a position and returns the position after the content. A position may come
out beyond the end of the buffer: the next byte that is read there raises ``IndexError``, and the guard turns
``IndexError`` and ``UnicodeDecodeError`` into ``Malformed`` in one place.
"""

import json
import re

from collab_server.live.lib0 import MAX_SAFE_INTEGER, read_var_int, read_var_uint
from schemas.errors import Malformed

# What a yjs or yrs client writes about an embedded document. Another key would reach the constructor of
# ``Y.Doc`` in every browser: a guid that is a number makes the whole document impossible to encode.
_SUBDOCUMENT_OPTIONS = frozenset(
    (b"gc", b"autoLoad", b"shouldLoad", b"meta", b"collectionid", b"collectionId", b"encoding")
)
_PLAIN_JSON = frozenset((b"null", b"true", b"false", b"{}", b'""'))
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def skip_text(buf: bytes, pos: int) -> int:
    """A string that counts as a name or a value: UTF-8, possibly empty."""
    length = buf[pos]
    pos += 1
    if length >= 0x80:
        length, pos = read_var_uint(buf, pos - 1)
    end = pos + length
    raw = buf[pos:end]
    if not raw.isascii():
        raw.decode()
    return end


def low_surrogates(text: str, clock: int) -> tuple[int, ...]:
    """Clocks of the second halves of the surrogate pairs of a string that starts at ``clock``."""
    return tuple(clock + m.start() + i + 1 for i, m in enumerate(_ASTRAL.finditer(text)))


def skip_any(buf: bytes, pos: int, depth: int) -> int:
    """One value of lib0's Any encoding with at most ``depth`` arrays and objects one in another.

    25,000 levels are applied by the engine, 28,000 (56 KB) overflow its stack and kill the process.
    """
    tag = buf[pos]
    pos += 1
    if tag == 119:
        return skip_text(buf, pos)
    if tag == 125:
        return read_var_int(buf, pos)[1]
    if tag == 126 or tag == 127 or tag == 120 or tag == 121:
        return pos
    if tag == 123:
        return pos + 8
    if tag == 124:
        return pos + 4
    if tag == 118 or tag == 117:
        return _skip_container(buf, pos, depth, tag)
    if tag == 116:
        length, pos = read_var_uint(buf, pos)
        return pos + length
    if tag == 122:
        # The engine rewrites 5n as 5 in every stored state and every merged frame: an honest refusal is
        # better than a value that silently changes its type.
        if abs(int.from_bytes(buf[pos : pos + 8], "big", signed=True)) <= MAX_SAFE_INTEGER:
            raise Malformed("A BigInt below 2^53 would be stored as a plain number: write a number or a string.")
        return pos + 8
    raise Malformed(f"A value has the unknown tag {tag}.")


def _skip_container(buf: bytes, pos: int, depth: int, tag: int) -> int:
    if depth <= 0:
        raise Malformed("A value is nested too deeply.")
    count, pos = read_var_uint(buf, pos)
    if count > len(buf) - pos:
        raise Malformed("A value claims more elements than there are bytes.")
    depth -= 1
    if tag == 117:
        for _ in range(count):
            pos = skip_any(buf, pos, depth)
        return pos
    for _ in range(count):
        end = skip_text(buf, pos)
        if end - pos == 10 and buf[pos + 1 : end] == b"__proto__":
            raise Malformed('An object has the key "__proto__", which JavaScript cannot keep.')
        pos = skip_any(buf, end, depth)
    return pos


def skip_subdocument(buf: bytes, pos: int, depth: int) -> int:
    """A guid and an object of options."""
    pos = skip_text(buf, pos)
    if buf[pos] != 118:
        raise Malformed("The options of an embedded document are not an object.")
    count, pos = read_var_uint(buf, pos + 1)
    if count > len(_SUBDOCUMENT_OPTIONS):
        raise Malformed("An embedded document has too many options.")
    for _ in range(count):
        end = skip_text(buf, pos)
        if buf[pos + 1 : end] not in _SUBDOCUMENT_OPTIONS:
            raise Malformed("An embedded document has an unknown option.")
        pos = skip_any(buf, end, depth - 1)
    return pos


def skip_type(buf: bytes, pos: int) -> int:
    """The kind of a shared type, and the name of an XML element."""
    kind = buf[pos]
    if kind == 3:
        return skip_text(buf, pos + 1)
    if kind == 5:
        raise Malformed("Y.XmlHook is not supported: the engine cannot store its name.")
    if kind > 6:
        raise Malformed(f"Unknown kind of shared type: {kind}.")
    return pos + 1


def skip_json(buf: bytes, pos: int, depth: int) -> int:
    """JSON text as JavaScript *and* the engine read it: finite numbers, no NaN, whole surrogate pairs."""
    length, pos = read_var_uint(buf, pos)
    end = pos + length
    raw = buf[pos:end]
    if raw in _PLAIN_JSON:
        return end
    text = raw.decode()
    if len(raw) < length:
        raise IndexError
    try:
        value = _JSON.decode(text)
    except (ValueError, RecursionError):
        raise Malformed("An embed or a format is not valid JSON.") from None
    if "\\u" in text and not _is_unicode(value):
        raise Malformed("A JSON string has half of a surrogate pair.")
    if raw.count(b"[") + raw.count(b"{") > depth and _is_deeper_than(depth, value):
        raise Malformed("A JSON value is nested too deeply.")
    return end


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("the number is out of range")
    return number


def _integer(digits: str) -> float:
    if 19 <= len(digits) <= 20 and 2**63 <= int(digits) < 2**64:
        raise ValueError("the engine takes neither an i64 nor a float here")
    return _finite(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _is_deeper_than(depth: int, value: object) -> bool:
    level = [value]
    while level:
        containers = [v for v in level if isinstance(v, (dict, list))]
        if containers and depth <= 0:
            return True
        depth -= 1
        level = [child for c in containers for child in (c.values() if isinstance(c, dict) else c)]
    return False

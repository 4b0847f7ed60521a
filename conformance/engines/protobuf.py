"""As much of protobuf as the CRI needs: messages are dictionaries, described by a table of fields. Unknown fields are
skipped when read; a field that is not in the table is an error when written."""


def table(text):
    """`Name { field=1:type ... }` -> {Name: {field: (number, type, repeated)}}. Types: str (the default), bytes, int, bool,
    map (of strings), or a message; `*` in front: repeated."""
    messages = {}
    for part in text.split("}"):
        name, brace, fields = part.partition("{")
        if not brace:
            continue
        rows = messages[name.strip()] = {}
        for field in fields.split():
            key, _, rest = field.partition("=")
            number, _, kind = rest.partition(":")
            rows[key] = (int(number), kind.lstrip("*") or "str", kind.startswith("*"))
    return messages


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(number, data):
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def encode(messages, name, values):
    out = b""
    for key, value in values.items():
        number, kind, repeated = messages[name][key]
        if kind == "map":
            for k, v in value.items():
                out += _sized(number, _sized(1, k.encode()) + _sized(2, v.encode()))
            continue
        for one in value if repeated else [value]:
            if kind in ("int", "bool"):
                out += _varint(number << 3) + _varint(int(one))
            elif kind == "str":
                out += _sized(number, one.encode())
            elif kind == "bytes":
                out += _sized(number, one)
            else:
                out += _sized(number, encode(messages, kind, one))
    return out


def _read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _fields(data):
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(data, at)
        elif kind == 2:
            size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at:at + size], "little"), at + size
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def decode(messages, name, data):
    """Every field of the table is in the answer, with its zero value where it was not sent; messages are None then."""
    rows = messages[name]
    by_number = {number: (key, kind, repeated) for key, (number, kind, repeated) in rows.items()}
    out = {}
    for key, (_, kind, repeated) in rows.items():
        zero = {"int": 0, "bool": False, "str": "", "bytes": b"", "map": {}}.get(kind)
        out[key] = [] if repeated else zero
    for number, value in _fields(data):
        if number not in by_number:
            continue
        key, kind, repeated = by_number[number]
        if kind == "map":
            entry = dict(_fields(value))
            out[key][entry.get(1, b"").decode()] = entry.get(2, b"").decode("utf-8", "replace")
            continue
        if kind in ("int", "bool"):
            if repeated and isinstance(value, bytes):  # packed
                at = 0
                while at < len(value):
                    one, at = _read_varint(value, at)
                    out[key].append(one)
                continue
            value = bool(value) if kind == "bool" else value - (1 << 64) if value >> 63 else value
        elif kind == "str":
            value = value.decode("utf-8", "replace")
        elif kind != "bytes":
            value = decode(messages, kind, value)
        if repeated:
            out[key].append(value)
        else:
            out[key] = value
    return out

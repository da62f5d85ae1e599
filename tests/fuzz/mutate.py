"""Small and gross damage to bytes, all from one seeded generator."""

import re

NUMBERS = [
    "0", "-1", "1e400", "-0.0", "nan", "inf", "99999999999999999999999999", "1e-320", "0x7fffffff",
    "1_000_000", "2147483648", "9223372036854775807", "-9223372036854775809", "0.1", "true", '""',
]  # fmt: skip
FRAGMENTS = [
    "[[also]]\n", "[data]\n", "[[data]]\n", "kind = \"file\"\n", 'path = "/dev/zero"\n', "zip = ",
    'path = "../../etc/passwd"\n', 'name = "../x"\n', "{ range = [0, 1e9, 1e-9] }", "[[[[1]]]]",
    "{ linspace = [0, 1, 1e18] }", "{ logspace = [-1, 1, 3] }", '"""', "'''", "=", "\n=\n",
    "a.b.c = 1\n",
    "model = 3\n", "seeds = [1, 1.5, true]\n", "\u0000", "\u202e", "\ud7ff", "é", "𝔘", "#",
    "\r", "\t",
    "[sweep]\nzip = [[\"model.width\", \"train.lr\"]]\n", "inf", "1979-05-27T07:32:00Z",
    "[probe]\n",
    "every = 0\n", "split = [1, 0, 0]\n", "standardize = \"yes\"\n", "init_file = \"~nobody/x\"\n",
    "__import__('os').system('true')", "${HOME}", "!!python/object:os.system", "\\", "{",
    "}", "[", "]",
]  # fmt: skip


def mutated(content, rng, others=()):
    """One damage of a random kind, or a few."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        content = bytearray(rng.choice(KINDS)(content, rng, others))
    return bytes(content)


def _place(content, rng):
    return rng.randrange(len(content) + 1)


def flip(content, rng, _):
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def overwrite(content, rng, _):
    at = _place(content, rng)
    value = rng.choice([b"\xff", b"\x00", b"\x7f", b"\x80", b"9", b" "])
    length = rng.choice([1, 2, 4, 8, 100])
    content[at : at + length] = value * min(length, max(len(content) - at, 0))
    return content


def truncate(content, rng, _):
    return content[: _place(content, rng)]


def cut(content, rng, _):
    at = _place(content, rng)
    del content[at : at + rng.choice([1, 2, 10, 100, 1000])]
    return content


def repeat(content, rng, _):
    at, length = _place(content, rng), rng.choice([1, 10, 100, 1000])
    content[at:at] = content[at : at + length] * rng.choice([1, 2, 50])
    return content


def insert(content, rng, _):
    at = _place(content, rng)
    if rng.random() < 0.5:  # where a line begins: then it may well be read
        at = content.rfind(b"\n", 0, at) + 1
    content[at:at] = rng.choice(FRAGMENTS).encode("utf-8", "surrogatepass")
    return content


def nest(content, rng, _):
    at = _place(content, rng)
    content[at:at] = rng.choice([b"[", b"{a=", b"[[", b"(", b'{"a":', b"a."]) * rng.choice(
        [10, 300, 5000]
    )
    return content


def number(content, rng, _):
    found = list(re.finditer(rb"-?\d[\d.e+-]*", content))
    if found:
        chosen = rng.choice(found)
        content[chosen.start() : chosen.end()] = rng.choice(NUMBERS).encode()
    return content


def line(content, rng, _):
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i] = rng.choice([lines[j], b"", lines[i] + lines[j], lines[i][::-1]])
    return b"\n".join(lines)


def splice(content, rng, others):
    if not others:
        return content
    other = rng.choice(others)
    return content[: _place(content, rng)] + other[rng.randrange(len(other) + 1) :]


KINDS = [flip, flip, overwrite, truncate, cut, repeat, nest, line, splice]
KINDS += [insert, insert, insert, number, number, number]

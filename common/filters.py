"""Filter expressions from values that nobody can break out of.

    where("category == {category} and year >= {year}", category=user_text, year=2020)

A template is written in Milvus' own language, and each value that fills it comes out quoted: a
text that poses as an expression, such as `x" or id >= 0 or "" == "`, stays a text. Milvus 2.5 and
later fill templates of the same form themselves (`filter_params=`); this works on any Milvus.

What the functions return are strings for `filter=`. `where()` knows them from text of a user, so
that they can fill a template too:

    author = json_path("meta", "author", "name")
    recent = where("year >= {year}", year=2020)
    where("{author} == {name} and not {recent}", author=author, name=user_text, recent=recent)

Where Milvus Lite 3.2.2 and the local server 2.3.5 read an expression in two ways, it is written so
that both give the same rows, or it is refused with a FilterError that names what is in the way.
All that is said here of the two was tried on both; the grammar that they share is that of Milvus,
internal/parser/planparserv2/Plan.g4. Five things remain that the text of an expression cannot mend:

- Write `and`, `or`, `not`, `in` and `like` in lower case: the server knows no `AND`.
- A search of the local server refuses what is nested 50 deep, and a chain `a or b or c ...` nests
  with each `or`: write long ones by `any_of()`, which halves them.
- A row that lacks a JSON key: for `!=` and `not` Milvus Lite leaves it out, the server takes it.
- A FLOAT field is compared in 32 bits by the server and in 64 by Milvus Lite. For equality give
  `np.float32(0.1)`, whose value is the one that is stored; or use DOUBLE.
- On Milvus Lite JSON `true` equals 1, and `false` equals 0.
"""

import math
import re
import reprlib
from collections.abc import Sequence

import numpy as np

MAX_INTEGER = 2**63 - 1  # of INT64. A server cannot parse the smallest one, -2**63.

# Words of the grammar, of Milvus Lite's and of the server's: none of them can name a field there.
_RESERVED_WORD = re.compile(
    "and|or|not|in|like|is|null|exists|true|false|iso|interval|text_match|phrase_match"
    "|random_sample|array_length|(array|json)_contains(_all|_any)?",
    re.IGNORECASE,
)

# The escapes that both engines know. Everything else is written as itself: Milvus Lite knows no
# \u and no \x, and the server refuses the surrogate pairs that json.dumps makes of an emoji.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WILDCARD = re.compile(r"[%_\\]")
# Keys are not unquoted as values are: see getColumnInfoFromJSONIdentifier() in parser_visitor.go.
_MISREAD_KEYS = (
    (re.compile(r"\]\["), "the server splits paths there, and the local server goes down with it"),
    (
        re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]"),
        "the server compares keys as JSON writes them, where it is an escape",
    ),
    (re.compile(r"\\u[0-9a-fA-F]{4}"), "releases after 2.3 take it for the character it encodes"),
)
# A text in quotes, a placeholder, or a quote or brace that belongs to neither.
_PIECE = re.compile(
    r"""(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\{(?P<name>\w+)\}|(?P<stray>["'{}])""",
    re.DOTALL,
)


class FilterError(ValueError):
    """A value or name that cannot be put into a filter; the message says why."""

    exit_code = 1  # the message is made for people: no traceback around it


class Term(str):
    """A part of an expression that can stand anywhere in one, such as a field or a literal."""

    __slots__ = ()


class Filter(str):
    """An expression that is true or false; `where()` puts it into parentheses."""

    __slots__ = ()


def where(template: str, /, **values: object) -> Filter:
    """Fill the placeholders of a template with quoted values.

    Args:
        template: an expression in Milvus' language with placeholders `{name}`. It is the text of
            the program and never that of a user: only the values are quoted.
        values: one for each placeholder. What `literal()` takes is quoted; what the functions of
            this module return is put in as it is, a filter in parentheses.

    Raises:
        FilterError: a value that cannot be quoted; a placeholder without a value or the other way
            round; a placeholder within quotes, or where the value would not stand for itself.
    """
    # The checks look at the template alone, with the last character of each value: a search in
    # the values would take a time that grows with the square of their length.
    parts, context, end, used = [], "", 0, set()
    for piece in _PIECE.finditer(template):
        between, end = template[end : piece.start()], piece.end()
        context += between
        if piece["name"]:
            used.add(piece["name"])
            text = _filled(piece["name"], values, context, template[end : end + 1])
        else:
            text = _constant(piece[0])
        parts += [between, text]
        context += text[-1:]
    unused = ", ".join(sorted(values.keys() - used))
    if unused:
        raise FilterError(f"no placeholder for {unused} in {_shown(template)}")
    return Filter("".join(parts) + template[end:])


def literal(value: object) -> Term:
    """Quote one value: a str, bool, int, float, NumPy scalar, or a list of one kind of these.

    A negative number stands in parentheses, without which Milvus Lite takes none as an argument
    of ARRAY_CONTAINS; within a list, where it takes no parentheses, it stands without.

    Raises:
        FilterError: U+0000, half a surrogate pair, NaN or infinity, an int of more than 64 bits,
            a list of mixed kinds, or another type.
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        return Term(f"[{', '.join(_listed(_items(value)))}]")
    text = _scalar(_plain(value))
    return Term(f"({text})" if text.startswith("-") else text)


def field_name(name: str) -> Term:
    """Check the name of a field, or of a dynamic field, that comes from outside of the program.

    Raises:
        FilterError: not letters, digits and underscores of ASCII, or a word of the language.
    """
    if isinstance(name, Term):
        return name
    if isinstance(name, Filter) or not isinstance(name, str):
        raise FilterError(f"{_shown(name)} ({type(name).__name__}) is no name of a field")
    advice = "a dynamic field of that name can be had by json_path('$meta', name)"
    if not _NAME.fullmatch(name):
        raise FilterError(
            f"{_shown(name)} is no name of a field: ASCII letters, digits and _, no digit "
            f"first; {advice}"
        )
    if _RESERVED_WORD.fullmatch(name):
        raise FilterError(f"{name} is a word of the filter language; {advice}")
    return Term(str(name))


def json_path(field: str, *keys: str | int) -> Term:
    """A path into a JSON field, or to a dynamic field of any name: `json_path("$meta", "my key")`.

    Args:
        field: the JSON field, or "$meta", where Milvus keeps the dynamic fields.
        keys: a str for each key of an object, an int from 0 for each index of a list.

    Raises:
        FilterError: no keys, or one that an engine would misread. `][` is refused above all: a
            key with it brings the local server down.
    """
    base = field if field == "$meta" else field_name(field)
    if not keys:
        raise FilterError(f"a path into {base} needs a key")
    return Term(base + "".join(f"[{_key(key)}]" for key in keys))


def in_list(field: str, values: Sequence[object]) -> Term | Filter:
    """Whether a field, or what is at a JSON path, is one of the values; of none, always false.

    For a field this is `field in [...]`. Milvus Lite takes no path before `in`, so that for a path
    it becomes `any_of()` comparisons; keep such lists short.

    Args:
        field: a name, or what `json_path()` returns.
        values: what `literal()` takes as a list; may be empty.

    Raises:
        FilterError: as `field_name()` and `literal()`.
    """
    column, items = field_name(field), _items(values)
    if "[" not in column:
        return Filter(f"{column} in {literal(items)}")
    if not items:
        return Term(f"((exists {column}) and not (exists {column}))")
    return any_of([Term(f"{column} == {literal(item)}") for item in items])


def any_of(filters: Sequence[Term | Filter]) -> Term:
    """Whether at least one of the filters is true: `(a or b)`, of more than two in halves.

    In a chain `a or b or c ...` each `or` is one level deeper in the message that is sent, and a
    search of the local server refuses 50 of them: "unsupported expr proto node". Halves of halves
    stay flat: 1,000 filters are 10 levels deep.

    Args:
        filters: one or more that the functions of this module return.

    Raises:
        FilterError: none at all, or something else than a filter.
    """
    for each in filters:
        if not isinstance(each, (Term, Filter)):
            raise FilterError(f"{_shown(each)} is no filter: make one by where()")
    if len(filters) == 0:
        raise FilterError("any of no filters would always be false: write `id in []`")
    return Term(f"({_halved(filters)})")


def like_prefix(field: str, text: str) -> Term | Filter:
    r"""Whether a field, or what is at a JSON path, begins with the text.

    This is `field like "text%"`, unless the text holds `%`, `_` or `\`: the engines escape those
    in three different ways. Then it is the range from the text up to the next text that does not
    begin with it, which holds the same rows: all compare texts by code points.

    Args:
        field: a name, or what `json_path()` returns.
        text: any text that `literal()` takes; the empty one is a prefix of all texts.

    Raises:
        FilterError: as `field_name()` and `literal()`.
    """
    column, first = field_name(field), _text(text)
    if not _WILDCARD.search(text):
        return Filter(f"{column} like {_text(text + '%')}")
    beyond = _next_text(text)
    if not beyond:
        return Filter(f"{column} >= {first}")
    return Term(f"({column} >= {first} and {column} < {_text(beyond)})")


def like_contains(field: str, text: str) -> Filter:
    r"""Whether a field, or what is at a JSON path, contains the text: `field like "%text%"`.

    Ask `milvus.can("LIKE_INFIX")` first: the local server knows no such pattern.

    Args:
        field: a name, or what `json_path()` returns.
        text: without `%`, `_` and `\`. Milvus Lite escapes them by a backslash in a field, and not
            at all in a JSON path; in other releases of Milvus a backslash before any other
            character means something different again.

    Raises:
        FilterError: one of these characters; or as `field_name()` and `literal()`.
    """
    column, _ = field_name(field), _text(text)
    found = _WILDCARD.search(text)
    if found:
        raise FilterError(
            f"{found[0]!r} at position {found.start()} of {_shown(text)} cannot be looked for by "
            "LIKE: not every Milvus can tell the character from the wildcard or the escape"
        )
    return Filter(f"{column} like {_text(f'%{text}%')}")


# Alternatives


def _halved(filters: Sequence[Term | Filter]) -> str:
    if len(filters) == 1:
        return f"({filters[0]})" if isinstance(filters[0], Filter) else filters[0]
    middle = (len(filters) + 1) // 2
    parts = [
        _halved(part) if len(part) == 1 else f"({_halved(part)})"
        for part in (filters[:middle], filters[middle:])
    ]
    return " or ".join(parts)


# Templates


def _filled(name: str, values: dict[str, object], before: str, after: str) -> str:
    """The text for the placeholder `name` between the text `before` and the character `after`."""
    if name not in values:
        raise FilterError(f"no value for {{{name}}}")
    value = values[name]
    problem = _misplaced(value, before, after)
    if problem:
        raise FilterError(f"{{{name}}} {problem}")
    if isinstance(value, Filter):
        return f"({value})"
    try:
        return value if isinstance(value, Term) else literal(value)
    except FilterError as error:
        raise FilterError(f"{{{name}}}: {error}") from error


def _misplaced(value: object, before: str, after: str) -> str:
    """Why `value` would not be read as itself between `before` and `after`; empty if it would."""
    if re.search(r"[\w$.]$", before) or re.match(r"[\w$.]", after):
        return "needs a space around it"  # u{x} would become u"...", which is another literal
    bracket = re.search(r"(\w+|\])(\s*)\[\s*$", before)
    if bracket and not (bracket[1].lower() == "in" and bracket[2]):
        return "stands for a key within brackets: make the path with json_path()"
    if isinstance(value, (list, tuple, np.ndarray)):
        if re.search(r"\]\s*(not\s+)?in\s*$", before):
            return "is a list for a JSON path, which Milvus Lite does not take: use in_list()"
        if len(value) == 0 and not re.search(r"\bin\s*$", before):
            return "is an empty list, which a server takes only after `in`"
    return ""


def _constant(piece: str) -> str:
    """A text in quotes of the template; or the error for a piece that is none."""
    if len(piece) > 1 and not re.search("[{}]", piece):
        return piece
    if len(piece) > 1:
        raise FilterError(
            f"a brace within quotes in the template: {_shown(piece)}. A placeholder stands "
            "without quotes, they come with the value"
        )
    if piece in "{}":
        raise FilterError(f"a single {piece} in the template: placeholders are written {{name}}")
    raise FilterError(f"a {piece} in the template without its second one")


# Values


def _items(values: Sequence[object]) -> list[object]:
    """The elements of a list of values of one kind."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise FilterError(f"{_shown(values)} is no list, tuple or NumPy array of values")
    items = [_plain(value) for value in values]
    kinds = sorted({_kind(item) for item in items})
    if len(kinds) > 1:
        raise FilterError(f"a list of more than one kind of values: {', '.join(kinds)}")
    return items


def _plain(value: object) -> object:
    """NumPy's scalars as those of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "str" if isinstance(value, str) else type(value).__name__


def _listed(items: Sequence[object]) -> list[str]:
    """The elements of a list as they stand in its brackets."""
    texts = [_scalar(item) for item in items]
    # IN tells 0.0 from -0.0 on Milvus Lite, though == does not.
    return [*texts, "-0.0"] if "0.0" in texts else texts


def _scalar(value: object) -> str:
    """A single value as both engines read it; a negative number without parentheses."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):  # before int: bool is one
        return "true" if value else "false"
    # Not repr(): that of an IntEnum or a NumPy float is no number.
    if isinstance(value, int):
        return int.__repr__(_checked_integer(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FilterError(f"{float.__repr__(value)} is no number that can be compared with")
        return float.__repr__(value) if value else "0.0"
    if value is None:
        raise FilterError("None is no value to compare with: write `field is null`")
    raise FilterError(
        f"a value is a str, bool, int or float, or a list of one of these, not {_shown(value)} "
        f"({type(value).__name__})"
    )


def _checked_integer(value: int) -> int:
    if abs(value) <= MAX_INTEGER:
        return value
    if value == -MAX_INTEGER - 1:
        raise FilterError(
            f"{value} is the one INT64 that a server cannot parse: use `< {-MAX_INTEGER}`"
        )
    raise FilterError(f"an int of {value.bit_length()} bits: INT64 ends at {MAX_INTEGER}")


def _text(text: str) -> str:
    """A text in double quotes."""
    if isinstance(text, (Term, Filter)):
        raise FilterError(f"{_shown(text)} is an expression already, and no text to be quoted")
    if not isinstance(text, str):
        raise FilterError(f"{_shown(text)} ({type(text).__name__}) is no text")
    if "\0" in text:
        raise FilterError(
            f"U+0000 at position {text.index(chr(0))} of {_shown(text)}: Milvus Lite has no escape "
            "for it, and at a raw one the local server cuts a LIKE pattern off"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"U+{ord(text[error.start]):04X} at position {error.start} of {_shown(text)} is half "
            "of a surrogate pair, which is no character"
        ) from error
    return f'"{text.translate(_ESCAPES)}"'


def _key(key: str | int) -> str:
    """What stands in the brackets of a path."""
    if isinstance(key, int) and not isinstance(key, bool):
        if key < 0:
            raise FilterError(f"{key} is no index: a list is counted from 0")
        return int.__repr__(_checked_integer(key))
    if not isinstance(key, str):
        raise FilterError(f"a key is a str or an int, not {_shown(key)} ({type(key).__name__})")
    if not key:
        raise FilterError("an empty key: a server parses none")
    for pattern, reason in _MISREAD_KEYS:
        found = pattern.search(key)
        if found:
            raise FilterError(f"{found[0]!r} in the key {_shown(key)}: {reason}")
    return _text(key)


def _next_text(text: str) -> str:
    """The first text after all those that begin with `text`, by code points; empty: none is."""
    head = text.rstrip("\U0010ffff")
    if not head:
        return ""
    code = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if code == 0xD800 else code)  # surrogates are no characters


def _shown(value: object) -> str:
    return reprlib.repr(value)

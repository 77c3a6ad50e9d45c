"""The page of results."""

import base64
from html.parser import HTMLParser

from public.runtime.page import Section, chart, matrix, page, picture, table, text

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


class Reader(HTMLParser):
    """What a browser would make of it: the words shown, the pictures, links and their targets."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())


def test_what_is_shown() -> None:
    """Names of the user's are text, floats have four digits, nothing is asked of another host."""
    rows = [("<b>cat & dog", 3, 2 / 3), ("mouse", 0, None)]
    sections = [
        Section("Classes", [text("two < three"), table(("class", "images", "recall"), rows)]),
        Section("Nothing", []),
        Section("Pictures", [picture(PNG, 'a "dot"')]),
    ]
    reader = Reader(page("a & b", sections))
    assert reader.open == []
    assert reader.words == [
        *("a & b", "a & b", "Classes", "Pictures", "Classes", "two < three"),
        *("class", "images", "recall", "<b>cat & dog", "3", "0.6667", "mouse", "0", "Pictures"),
    ]
    heads = [attributes.get("class") for tag, attributes in reader.attributes if tag == "th"]
    assert heads == ["words", None, None], "words stand on the left, numbers on the right"
    (image,) = [attributes for tag, attributes in reader.attributes if tag == "img"]
    source = image["src"] or ""
    assert (image["alt"], base64.b64decode(source.removeprefix("data:image/png;base64,"))) == ('a "dot"', PNG)
    links = [attributes["href"] for tag, attributes in reader.attributes if tag == "a"]
    targets = [f"#{attributes['id']}" for tag, attributes in reader.attributes if tag == "h2"]
    assert links == targets == ["#s0", "#s1"]
    assert not any("http" in str(value) for _, attributes in reader.attributes for value in attributes.values())


def test_long_words_may_be_broken() -> None:
    """A path, but no sentence: its words keep their room."""
    reader = Reader(table(("what",), [("the folder /data/of/somebody/train",), ("twenty short words of a sentence",)]))
    cells = [attributes["class"] for tag, attributes in reader.attributes if tag == "td"]
    assert cells == ["words long", "words"]


def test_a_matrix() -> None:
    """A quarter and three quarters of a row; zeros are empty, and so is a row of them. The whole name is a tooltip."""
    reader = Reader(matrix("truth", ["a<b", "c"], [[1, 3], [0, 0]]))
    assert reader.words == ["truth", "a<b", "c", "a<b", "1", "3", "c"]
    shades = [attributes["style"] for tag, attributes in reader.attributes if "style" in attributes]
    assert [str(shade).split("/ ")[1] for shade in shades] == ["0.25)", "0.75)", "0.00)", "0.00)"]
    assert [attributes["title"] for tag, attributes in reader.attributes if tag == "th"] == ["a<b", "c", "a<b", "c"]


def test_a_chart() -> None:
    """The corners of the field, and a gap where there is no number."""
    reader = Reader(chart("recall", "precision", {"a": [(0.0, 0.0), (0.5, float("nan")), (1.0, 1.0)], "b & c": []}))
    lines = [attributes["points"] for tag, attributes in reader.attributes if tag == "polyline"]
    assert lines == ["50.0,330.0 450.0,30.0", ""]
    assert {"recall", "precision", "a", "b & c"} <= set(reader.words)

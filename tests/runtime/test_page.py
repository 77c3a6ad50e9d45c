"""The page of results."""

import base64
from html.parser import HTMLParser

from public.runtime.page import Section, page, picture, table, text

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
    (image,) = [attributes for tag, attributes in reader.attributes if tag == "img"]
    source = image["src"] or ""
    assert (image["alt"], base64.b64decode(source.removeprefix("data:image/png;base64,"))) == ('a "dot"', PNG)
    links = [attributes["href"] for tag, attributes in reader.attributes if tag == "a"]
    targets = [f"#{attributes['id']}" for tag, attributes in reader.attributes if tag == "h2"]
    assert links == targets == ["#s0", "#s1"]
    assert not any("http" in str(value) for _, attributes in reader.attributes for value in attributes.values())

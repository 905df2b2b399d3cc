"""Names that a filter asks for, against those that there are."""

import difflib
from collections.abc import Collection

from spiceproxy.filter.error import FilterError
from spiceproxy.filter.syntax import Compare, Node, Path, walk


def check_names(tree: Node, text: str, known: Collection[str] | None) -> frozenset[str]:
    """The top-level names of a filter.

    Raises:
        FilterError: One is not among those that are known. Those of fields are not looked at.
    """
    nodes = [node for node, _ in walk(tree)]
    paths = [node for node in nodes if isinstance(node, Path)]
    if known is not None:
        # In `channel == display` it is the quotes that are missing.
        texts = {id(node.right) for node in nodes if isinstance(node, Compare)}
        for path in paths:
            if path.name not in known:
                raise FilterError(_unknown(path, id(path) in texts, known), text, path.position)
    return frozenset(path.name for path in paths)


def _unknown(path: Path, is_compared: bool, known: Collection[str]) -> str:
    message = f"there is no name `{path.name[:40]}`"
    near = difflib.get_close_matches(path.name, known, n=1)
    if near:
        return f"{message}; did you mean `{near[0]}`?"
    if is_compared and not path.steps:
        return f'{message}; text is written in quotes: "{path.name[:40]}"'
    return f"{message}; names are {', '.join(sorted(known))}"

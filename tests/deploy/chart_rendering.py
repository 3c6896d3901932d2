"""A Helm chart in the clear: just as much of Go's templates as the chart in deploy/ uses, for machines without helm.

Whatever it does not know is an error, so a chart that uses more is noticed. It cannot show that Helm itself agrees:
where helm is installed, the tests render with it too.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

__all__ = ["ChartError", "render"]

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()|]|[^\s()|]+')


class ChartError(Exception):
    """The chart refuses its values, or uses something that is not known here."""


@dataclass
class _Block:
    """A list of nodes, and for `if` and `with` the nodes of `else`."""

    keyword: str
    argument: str
    nodes: list["_Block | str"] = field(default_factory=list)
    otherwise: list["_Block | str"] | None = None


def render(chart: Path, values: Mapping[str, Any], *, release: str = "trial") -> list[dict[str, Any]]:
    """Render all templates of a chart.

    Args:
        chart: its folder.
        values: laid over those of values.yaml.
        release: its name.

    Raises:
        ChartError: the chart refuses the values.
    """
    description = yaml.safe_load((chart / "Chart.yaml").read_text())
    context = {
        "Values": _merged(yaml.safe_load((chart / "values.yaml").read_text()), values),
        "Chart": {"AppVersion": description["appVersion"]},
        "Release": {"Name": release, "Service": "Helm", "Namespace": "default"},
    }
    renderer = _Renderer()
    paths = sorted((chart / "templates").iterdir())
    roots = {path: _parse(path.read_text()) for path in paths}
    for root in roots.values():
        renderer.definitions.update(
            {json.loads(n.argument): n.nodes for n in root if isinstance(n, _Block) and n.keyword == "define"}
        )
    texts = {path: renderer.run(root, context, context) for path, root in roots.items()}
    manifests = [yaml.safe_load(text) for path, text in texts.items() if path.suffix == ".yaml"]
    return [manifest for manifest in manifests if manifest is not None]


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, Mapping):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


def _parse(text: str) -> list[_Block | str]:
    root = _Block("root", "")
    stack = [root]
    end, trim = 0, False

    def add(node: _Block | str) -> None:
        top = stack[-1]
        (top.nodes if top.otherwise is None else top.otherwise).append(node)

    for match in _ACTION.finditer(text):
        literal = text[end : match.start()]
        literal = literal.lstrip() if trim else literal
        add(literal.rstrip() if match[1] else literal)
        end, trim = match.end(), bool(match[3])
        keyword, _, argument = match[2].partition(" ")
        match keyword:
            case "if" | "with" | "range" | "define":
                block = _Block(keyword, argument)
                add(block)
                stack.append(block)
            case "else" if not argument:
                stack[-1].otherwise = []
            case "end":
                stack.pop()
            case "else":
                raise ChartError(f"not known here: else {argument}")
            case _ if not match[2].startswith("/*"):
                add(_Block("print", match[2]))
    add(text[end:].lstrip() if trim else text[end:])
    if stack != [root]:
        raise ChartError(f"{stack[-1].keyword} {stack[-1].argument} has no end")
    return root.nodes


class _Renderer:
    def __init__(self) -> None:
        self.definitions: dict[str, list[_Block | str]] = {}
        self._functions: dict[str, Callable[..., Any]] = {
            **_FUNCTIONS,
            "include": lambda name, context: self.run(self.definitions[name], context, context),
        }

    def run(self, nodes: Sequence[_Block | str], dot: Any, root: Any) -> str:
        return "".join(node if isinstance(node, str) else self._block(node, dot, root) for node in nodes)

    def _block(self, block: _Block, dot: Any, root: Any) -> str:
        if block.keyword == "define":
            return ""
        value = self._pipeline(block.argument, dot, root)
        match block.keyword:
            case "print":
                return _text(value)
            case "range":
                return "".join(self.run(block.nodes, item, root) for item in value)
            case _ if value:
                return self.run(block.nodes, value if block.keyword == "with" else dot, root)
            case _:
                return self.run(block.otherwise or [], dot, root)

    def _pipeline(self, text: str, dot: Any, root: Any) -> Any:
        tokens = _TOKEN.findall(text)
        value = self._commands(tokens, dot, root)
        if tokens:
            raise ChartError(f"not understood: {text}")
        return value

    def _commands(self, tokens: list[str], dot: Any, root: Any) -> Any:
        """Evaluate a pipeline up to its end or a closing bracket, taking its tokens away."""
        piped: list[Any] = []
        while True:
            words: list[Any] = []
            name = tokens[0] if tokens and re.fullmatch(r"[a-zA-Z0-9]*[a-zA-Z]", tokens[0]) else None
            if name is not None:
                tokens.pop(0)
            while tokens and tokens[0] not in ("|", ")"):
                words.append(self._operand(tokens, dot, root))
            if name is None:
                (value,) = words
            elif name in self._functions:
                value = self._functions[name](*words, *piped)
            else:
                raise ChartError(f"not known here: {name}")
            if not tokens or tokens[0] == ")":
                return value
            tokens.pop(0)
            piped = [value]

    def _operand(self, tokens: list[str], dot: Any, root: Any) -> Any:
        word = tokens.pop(0)
        if word == "(":
            value = self._commands(tokens, dot, root)
            tokens.pop(0)
            return value
        if word.startswith(("$", ".")):
            value = root if word.startswith("$") else dot
            for key in word.lstrip("$").split(".")[1:]:
                value = value if key == "" else value[key]
            return value
        return json.loads(word)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _indented(width: int, text: str) -> str:
    return "\n" + "\n".join(" " * width + line if line else line for line in text.split("\n"))


def _required(message: str, value: Any) -> Any:
    return value if value not in (None, "") else _fail(message)


def _fail(message: str) -> Any:
    raise ChartError(message)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "default": lambda fallback, value: value or fallback,
    "eq": lambda left, right: left == right,
    "fail": _fail,
    "has": lambda item, items: item in items,
    "list": lambda *items: list(items),
    "ne": lambda left, right: left != right,
    "nindent": _indented,
    "not": lambda value: not value,
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "printf": lambda form, *values: re.sub("%v", "%s", form) % tuple(map(_text, values)),
    "quote": lambda value: json.dumps(_text(value)),
    "regexMatch": lambda pattern, text: re.search(pattern, text) is not None,
    "required": _required,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toJson": json.dumps,
    "toYaml": lambda value: yaml.safe_dump(value, sort_keys=True).rstrip("\n"),
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "trunc": lambda length, text: text[:length],
}

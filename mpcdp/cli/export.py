"""``mpcdp export``: a released model for other software."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.learning.export import to_onnx
from mpcdp.learning.model import TrainedModel

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(help="The model.json that a session released.")],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("model.onnx"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Write a released model in ONNX form.

    For linear models: one input per column of a table, in double precision. In Python,
    mpcdp.learning.export.to_sklearn makes a scikit-learn pipeline.

    Example: mpcdp export net/hospital-1/state/model.json --output model.onnx
    """
    graph = to_onnx(TrainedModel.load(model))
    output.write_bytes(graph.SerializeToString())
    figures = {
        "output": str(output),
        "inputs": [each.name for each in graph.graph.input],
        "outputs": ["label", "scores"],
    }
    if as_json:
        typer.echo(json.dumps(figures))
    elif not quiet:
        typer.echo(f"Wrote {output}: inputs {', '.join(figures['inputs'])}; outputs label, scores.")

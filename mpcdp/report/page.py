"""The page: facts and pictures into one HTML file that loads nothing from anywhere."""

import math
from pathlib import Path

from mpcdp.privacy.spending import Spending
from mpcdp.report.facts import Facts
from mpcdp.report.pictures import budget_bar, quality_curve, trade_off

__all__ = ["render"]


def render(facts: Facts) -> str:
    """Return the report as one self-contained HTML page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    privacy, is_update = facts.model.privacy, facts.model.kind == "update"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = _percent
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    used = None if facts.spending is None else facts.spending.used
    return template.render(
        facts=facts,
        model=facts.model,
        privacy=privacy,
        statement=privacy.text.splitlines(),
        spending=facts.spending,
        composed=_finite(facts.spending),
        is_update=is_update,
        is_number=not is_update and facts.model.record_schema.label.kind == "number",
        trade_off=Markup(trade_off(epsilon=privacy.epsilon, delta=privacy.delta)),  # noqa: S704 (numbers only)
        curve=Markup(quality_curve(facts.rounds)) if len(facts.rounds) > 1 else None,  # noqa: S704
        bar=Markup(budget_bar(used)) if used is not None else None,  # noqa: S704
    )


def _finite(spending: Spending | None) -> float | None:
    """Return the composed epsilon, None where no composition reaches so small a delta."""
    return spending.composed_epsilon if spending is not None and math.isfinite(spending.composed_epsilon) else None


def _percent(share: float) -> str:
    """Write a probability for people, rounded up: a bound must not look smaller than it is."""
    for digits in (1, 2, 4):
        step = 10.0**-digits
        if share * 100 >= step:
            return f"{min(100.0, -(-share * 100 // step) * step):.{digits}f} %"
    return f"{share * 100:.2g} %"

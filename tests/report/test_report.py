"""The report: true, complete, self-contained, and no text of a file becomes markup."""

import json
import re
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcdp.data.schema import Schema
from mpcdp.errors import BudgetError, InputError
from mpcdp.learning.model import PrivacyStatement, TrainedModel
from mpcdp.privacy.accountant import gaussian_mu
from mpcdp.privacy.attacks import success_bound
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost, TaskCost, composed_epsilon, used_share
from mpcdp.privacy.ledger import Ledger
from mpcdp.report import gather, render

COST = PrivacyBudget(epsilon=1.0, delta=1e-6)
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Path:
    schema = {
        "label": {"column": f"ill {SCRIPT}", "classes": ["no", "yes"]},
        "features": [{"name": "age", "lower": 0.0, "upper": 100.0}],
    }
    model = TrainedModel(
        task="trial",
        task_digest="00" * 32,
        session="11" * 32,
        kind="logistic-regression",
        record_schema=Schema.model_validate(schema),
        coefficients=(1.0, 0.0),
        owners=("hospital-1", "hospital-2"),
        privacy=PrivacyStatement(
            epsilon=1.0, delta=1e-6, relation="replace-one", text="First line.\nIt assumes things."
        ),
    )
    model.save(tmp_path / "model.json")
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.charge(bytes(32), b"\x11" * 32, "trial", COST, releases=2)
        ledger.record_releases(b"\x11" * 32, [["hospital-1", "hospital-2"]] * 2)
        ledger.charge(b"\1" * 32, b"\x12" * 32, "other", COST, releases=1)
    return tmp_path


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_says_what_was_released_to_whom_and_what_is_left(state: Path) -> None:
    page = _Page(render(gather(state, limit=PrivacyBudget(epsilon=5.0, delta=1e-5))))
    for words in (
        "Privacy report: trial",
        "in 2 releases",
        "2 owners: hospital-1, hospital-2",
        "paid for 2 sessions. Added up: epsilon = 2, delta = 2e-06",
        "Composed, epsilon = 2 at delta = 1e-05",
        "Granted: epsilon = 5, delta = 1e-05",
        "40.0 % is used by the ledger's rule",
        "First line.",
        "It assumes things.",
        "no public test records were given",
    ):
        assert words in page.text, words
    assert sum(tag == "svg" for tag, _ in page.tags) == 2


GRANTED = PrivacyBudget(epsilon=4.0, delta=1e-5)
GAUSSIAN = TaskCost(
    budget=COST, gaussian=GaussianCost(mu_squared=gaussian_mu(epsilon=1.0, delta=1e-6) ** 2, distance=0)
)


@pytest.mark.parametrize(
    ("paid", "asked", "allowed"),
    [
        # Half of delta is there for adding up; plain sums would promise another (2, 5e-6).
        ([PrivacyBudget(epsilon=1.0, delta=2.5e-6)] * 2, PrivacyBudget(epsilon=0.01, delta=1e-9), False),
        # Only the first task may need more than a share, and it is the last one then.
        ([PrivacyBudget(epsilon=1.0, delta=9e-6)], PrivacyBudget(epsilon=0.01, delta=1e-9), False),
        # Six tasks add up to more than was granted, and compose to less.
        ([GAUSSIAN] * 6, GAUSSIAN, True),
    ],
)
def test_what_is_left_is_what_the_ledger_allows(
    state: Path, paid: list[PrivacyBudget | TaskCost], asked: PrivacyBudget | TaskCost, allowed: bool
) -> None:
    (state / "ledger.db").unlink()
    costs = [cost if isinstance(cost, TaskCost) else TaskCost(budget=cost) for cost in (*paid, asked)]
    with Ledger(state / "ledger.db") as ledger:
        for number, cost in enumerate(costs[:-1]):
            key = bytes([number]) * 32
            ledger.charge(key, key, "earlier", cost.budget, releases=1, gaussian=cost.gaussian)
    with Ledger(state / "ledger.db", limit=GRANTED) as ledger:
        refused = nullcontext() if allowed else pytest.raises(BudgetError, match="would exceed the limit")
        with refused:
            ledger.check(b"\xff" * 32, "next", costs[-1].budget, gaussian=costs[-1].gaussian)
    facts = gather(state, limit=GRANTED)
    assert facts.spending is not None
    assert facts.spending.used_up is not allowed
    words = "is used by the ledger's rule" if allowed else "used up: the ledger allows no further task"
    assert words in _Page(render(facts)).text
    document = facts.to_json()["spending"]
    assert document["limit"]["used_up"] is not allowed
    assert document["composed"] == {"epsilon": composed_epsilon(costs[:-1], delta=1e-5), "delta": 1e-5}
    if allowed:
        assert document["added_up"]["epsilon"] > 4.0 > document["composed"]["epsilon"]
        assert document["limit"]["used"] == used_share(GRANTED, costs[:-1])


def test_the_words_are_the_bounds(state: Path) -> None:
    page = _Page(render(gather(state)))
    shown = re.search(r"guess right in at most ([0-9.]+) % of all cases", page.text)
    assert shown is not None
    exact = 100 * success_bound(epsilon=1.0, delta=1e-6)
    assert exact <= float(shown[1]) <= exact + 0.1  # rounded up
    for rate, bound in gather(state).attacks:
        assert bound == pytest.approx(min(np.e * rate + 1e-6, 1 - (1 - 1e-6 - rate) / np.e))
    assert "No limit is known" in page.text


def test_it_loads_nothing_and_runs_nothing(state: Path) -> None:
    text = render(gather(state))
    page = _Page(text)
    assert SCRIPT not in text
    assert SCRIPT in page.text  # as text, in the label's name
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {"src", "href", "srcset"} & attributes
    assert "url(" not in text
    assert "http" not in text


def test_accuracy_is_on_public_records_and_rounds_come_from_the_log(state: Path) -> None:
    (state / "public.csv").write_text(f'age,"ill {SCRIPT}"\n90,yes\n80,yes\n10,no\n20,yes\n')
    log = [{"event": "round released", "epsilon": 0.1 * t, "validation": 0.5 + 0.1 * t} for t in range(1, 4)]
    (state / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\nnot json\n")
    facts = gather(state, test=state / "public.csv", log=state / "log.jsonl")
    assert (facts.accuracy, facts.baseline, facts.test_records) == (0.75, 0.75, 4)
    np.testing.assert_allclose(facts.rounds, [(0.1, 0.6), (0.2, 0.7), (0.3, 0.8)])
    page = _Page(render(facts))
    assert "Accuracy 0.750 on 4 public test records" in page.text
    assert "most frequent class would be right in 0.750" in page.text
    assert "round by round" in page.text


def test_without_a_ledger_or_a_model(state: Path) -> None:
    (state / "ledger.db").unlink()
    facts = gather(state)
    assert facts.to_json()["spending"] is None
    assert "no ledger" in _Page(render(facts)).text
    (state / "model.json").unlink()
    with pytest.raises(InputError, match="state folder of an owner"):
        gather(state)


def test_figures_for_programs(state: Path) -> None:
    document: dict[str, Any] = json.loads(json.dumps(gather(state).to_json()))
    assert document["spending"] == {
        "added_up": {"epsilon": 2.0, "delta": 2e-6},
        "composed": {"epsilon": 2.0, "delta": 2e-6},
        "limit": None,
    }
    assert document["releases"] == 2
    assert document["attacker_success"] == pytest.approx(success_bound(epsilon=1.0, delta=1e-6))


def test_of_updates_it_says_that_owners_are_protected(state: Path) -> None:
    model = TrainedModel.load(state / "model.json").model_dump()
    of_updates = TrainedModel.model_validate({**model, "kind": "update", "record_schema": None})
    of_updates.save(state / "model.json")
    page = _Page(render(gather(state, limit=None)))
    assert "The mean updates (2 numbers) of a model that other software trains, in 2 releases" in page.text
    assert "everything but what one owner has, and who sees" in page.text
    assert "one record" not in page.text.split("What an attacker can gain")[1]

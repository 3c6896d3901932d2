"""A plan in words."""

from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING

from mpcdp.privacy.sensitivity import Relation

if TYPE_CHECKING:
    from mpcdp.plan.plan import Plan

__all__ = ["description", "statement", "warnings"]

_PROTECTED = {
    Relation.REPLACE_ONE: "This protects records, not persons: somebody with several records has less protection.",
    Relation.REPLACE_OWNER: "This protects owners, with all their records at once; persons of whom several owners have "
    "records have less protection.",
}

_DROWNING = 0.5
"""Noise that is a larger share of the longest possible sum drowns an ordinary one, which is several times shorter."""


def statement(plan: "Plan") -> str:
    """State what is guaranteed, against whom, and on which assumptions; it accompanies every released model."""
    releases = "The one release" if plan.rounds == 1 else f"The {plan.rounds} releases"
    verb = "is" if plan.rounds == 1 else "are together"
    parties = f"any {plan.party_count - 1} of the {plan.party_count} compute parties"
    lines = [
        f"{releases} of task {plan.task_name!r} {verb} (epsilon, delta)-differentially private with epsilon = "
        f"{_rounded_up(plan.cost.epsilon)} and delta = {_rounded_up(plan.cost.delta)}.",
        f"Neighbouring data: {plan.sensitivity.relation.value}. {_PROTECTED[plan.sensitivity.relation]}",
        f"It holds against everybody who sees the released model, against the coordinator, and against {parties} and "
        "any other owners who pool all they saw.",
        "It assumes that all processes follow the protocol (semi-honest: curious, but not cheating) and that at least "
        "one compute party tells nobody what it saw. Against those who pool what they saw it is computational: it "
        "rests on AES-256, HMAC-SHA256 and TLS.",
    ]
    if plan.sampling_rate < 1:
        lines.append(
            f"It assumes that nobody but an owner knows which of its records took part in a round: each does with "
            f"probability {plan.sampling_rate:g}."
        )
    if plan.noise_mode == "joint":
        lines.append("It assumes that the dealer colludes with nobody: no compute party knows any part of the noise.")
    else:
        lines.append("It rests on the noise of one compute party alone; there is no dealer to trust.")
    if plan.contribution_check is not None:
        lines.append(
            "Whether an owner's contribution passed the check of its length is public. One that follows the protocol "
            "always does; of one that does not, no contribution longer than its bound is in a release."
        )
    lines.append(
        "Public, and not protected: the schema, every owner's record count, who took part and when. Every further "
        "session on the same records, a trial of other settings too, costs its own epsilon and delta."
    )
    return "\n".join(lines)


def warnings(plan: "Plan") -> tuple[str, ...]:
    """List what a task may ask for but had better not."""
    records = sum(plan.record_counts)
    found = []
    if plan.asked.delta * records > 1:
        found.append(
            f"delta = {plan.asked.delta:g} is more than one over the {records} records: publishing some record "
            f"outright could meet it; ask for at most {1 / records**1.1:.1g}"
        )
    if (share := plan.noise_share) > _DROWNING:
        found.append(
            f"the noise is {share:.2g} times as long as all {records} records together can be at most, all releases "
            "considered: the model will hardly be better than guessing; ask for a larger epsilon, or find more records"
        )
    return tuple(found)


def description(plan: "Plan") -> str:
    """Describe a plan on one screen."""
    integer = plan.integer_sensitivity
    copies = "1 copy, unknown to all" if plan.noise_copies == 1 else f"{plan.noise_copies} copies, one per party"
    terms = plan.delta_terms
    rows = [
        ("task", f"{plan.task_name}, digest {plan.task_digest.hex()[:16]}"),
        (
            "owners",
            f"{len(plan.record_counts)} with {sum(plan.record_counts)} records, at least {plan.minimum_owners} with "
            f"{plan.minimum_records}",
        ),
        ("method", f"{plan.method}, {', '.join(f'{name} {_shown(value)}' for name, value in plan.settings.items())}"),
        ("model", f"{plan.dimension} coordinates, {plan.rounds} release(s)"),
        ("sensitivity", f"{plan.sensitivity.bound:.6g} (L2, sum of contributions); {plan.sensitivity.relation.value}"),
        ("noise", f"discrete {plan.distribution.capitalize()}, scale {plan.noise_scale:.6g} per copy; {copies}"),
        ("", f"standard deviation {plan.noise_deviation:.6g} on the sum, {_on_mean(plan):.3g} on the mean"),
        ("encoding", f"{plan.encoding.scale:.8g} ring units per unit; noise scale {plan.noise.scale} ring units"),
        ("", f"sensitivity {integer.bound:.6g} ({integer.norm.value}), headroom {plan.headroom_bits:.1f} bits"),
        *_check_rows(plan),
        ("cost", f"epsilon = {plan.cost.epsilon:.6g}, delta = {plan.cost.delta:.6g} (asked: {plan.asked.delta:.6g})"),
        ("", f"delta = {terms.mechanism:.3g} mechanism + {terms.circuit:.3g} circuit"),
        ("", f"        + {terms.discretisation:.3g} discretisation"),
    ]
    lines = [f"{label:<12} {text}" for label, text in rows]
    lines += [f"warning      {warning}" for warning in plan.warnings()]
    return "\n".join([*lines, "", plan.statement()])


def _check_rows(plan: "Plan") -> list[tuple[str, str]]:
    check = plan.contribution_check
    if check is None:
        return []
    norms, deviation = plan.accepted_norms, plan.noise_deviation
    return [
        (
            "check",
            f"no contribution in a release is longer than {max(norms):.6g} (L2; {min(norms):.6g} of the smallest",
        ),
        ("", f"owner), {max(norms) / deviation:.3g} times the noise's deviation; {check.shift} low digits are dropped"),
    ]


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _rounded_up(value: float) -> str:
    """Write a cost with four digits, never as less than it is."""
    return f"{float(Context(prec=4, rounding=ROUND_CEILING).create_decimal_from_float(value)):g}"


def _on_mean(plan: "Plan") -> float:
    return plan.noise_deviation / sum(plan.record_counts)

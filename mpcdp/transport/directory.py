"""Who is who: the members of a task by name and by certificate."""

from collections.abc import Iterable, Sequence

from mpcdp.errors import ConfigError, IdentityError
from mpcdp.transport.channel import Member, Role

__all__ = ["Directory"]


class Directory:
    """The members of a task.

    Args:
        members: all of them.

    Raises:
        ConfigError: two members share a name or a certificate.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._by_name = {member.name: member for member in members}
        self._by_certificate = {member.certificate: member for member in members}
        if not len(self._by_name) == len(self._by_certificate) == len(members):
            raise ConfigError("two members of the task share a name or a certificate: each needs its own")

    @property
    def members(self) -> tuple[Member, ...]:
        """All members."""
        return tuple(self._by_name.values())

    def named(self, name: str, role: Role) -> Member:
        """Return a member that must have a role.

        Raises:
            ConfigError: the task has no such member.
        """
        member = self._by_name.get(name)
        if member is None or member.role != role:
            raise ConfigError(f"{name}: the task has no {role} of this name")
        return member

    def certified(self, names: Iterable[str]) -> Member:
        """Return the member to whom a certificate with these names belongs.

        Raises:
            IdentityError: it belongs to no member, or to several.
        """
        shown = tuple(names)
        found = [self._by_certificate[name] for name in shown if name in self._by_certificate]
        if len(found) != 1:
            problem = "of no member" if not found else "of several members"
            raise IdentityError(
                f"the certificate for {', '.join(shown) or 'no name'} is that {problem} of this task: "
                "use a certificate that the task lists, one for each process"
            )
        return found[0]

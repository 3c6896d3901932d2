"""An owner that uploads a thousand times what it computed, past the encoding's clipping: for tests of the check."""

import sys
from typing import Any

from numpy.typing import NDArray

from mpcdp.config import OwnerConfig
from mpcdp.roles.owner import Owner
from mpcdp.roles.process import run_process
from mpcdp.secret_sharing.fixed_point import Encoding
from parties.owner.__main__ import start


def _cheat() -> None:
    share = Owner._share

    def longer(owner: Owner, ref: Any, history: Any, contribution: NDArray[Any]) -> Any:
        honest = owner._plan.encoding
        lax = Encoding(scale=honest.scale, bound=2.0**61 / honest.scale)
        object.__setattr__(owner._plan, "encoding", lax)
        try:
            return share(owner, ref, history, 1000 * contribution)
        finally:
            object.__setattr__(owner._plan, "encoding", honest)

    setattr(Owner, "_share", longer)  # noqa: B010 (the type checker refuses an assignment)


if __name__ == "__main__":
    _cheat()
    sys.exit(run_process(OwnerConfig, start))

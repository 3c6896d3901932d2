"""Settings of all tests."""

import os

from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("mpcdp", deadline=None)
# Where CI is set, the same examples every time: what fails there failed because of the change. Everywhere else new ones
# are looked for.
settings.register_profile("ci", settings.get_profile("mpcdp"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "mpcdp")

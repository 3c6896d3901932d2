"""The four processes of a session: owner, compute party, dealer, coordinator."""

"""What a release costs: sensitivities, mechanisms, exact accounting, and the ledger where an owner books it."""

"""Orders of several jobs: definitions, runs, gates and approvals. It stands above training and registry."""

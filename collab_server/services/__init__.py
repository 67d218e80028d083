"""Use cases: one transaction each; no framework is named here."""

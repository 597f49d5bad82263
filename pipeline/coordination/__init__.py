"""Pure decisions: (view, request, evidence) -> change or refusal. No clock, no chance, no ledger in here."""

"""Effects behind small ports: processes, clocks, randomness, locks on local disk; the only door outside."""

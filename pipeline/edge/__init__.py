"""Effects behind small ports: processes, clocks, randomness, locks on local disk. The only door to the outside."""

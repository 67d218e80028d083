"""Pure: passwords, tokens, policy, secrets. No I/O, no framework."""

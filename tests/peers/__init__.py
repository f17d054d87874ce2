"""Real programs that the tests talk to: each on private ports, in a private folder."""

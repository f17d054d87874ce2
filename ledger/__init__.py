"""The ledger: domain types and the one database. It imports nothing else of Pacsight."""

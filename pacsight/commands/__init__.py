"""The commands: each reads its arguments, calls one function below, prints. No logic lives here.

What a command needs beyond the ledger is imported when it runs: the receiver starts quickly, and
never loads a network.
"""

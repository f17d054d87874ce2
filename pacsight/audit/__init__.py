"""The audit trail: sealing the event log, and telling it to the hospital's audit repository."""

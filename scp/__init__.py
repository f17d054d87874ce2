"""DICOM intake: associations and objects in, durable bytes and ledger rows out."""

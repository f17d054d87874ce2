"""How Pacsight names itself in DICOM: one place, because its own results are known by it."""

PRODUCT = "Pacsight"
"""Manufacturer (0008,0070) of everything it writes."""

IMPLEMENTATION_CLASS_UID = "2.25.223829513396906263120398346213029401761"
"""(0002,0012) and A-ASSOCIATE: this software, whatever its version (PS3.7 section D.3.3.2.1)."""

IMPLEMENTATION_VERSION_NAME = "PACSIGHT_1"
"""(0002,0013)"""

"""DICOMweb (PS3.18): what Pacsight holds, for viewers and programs that speak the standard."""

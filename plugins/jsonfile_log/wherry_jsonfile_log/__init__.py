"""Log driver `json-file`: Docker's own on-disk format, with rotation."""

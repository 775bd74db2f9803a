"""The system-call room: thin typed functions over the kernel. Imports nothing else of wherry, decides nothing."""

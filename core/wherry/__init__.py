"""wherry: a container engine whose every moving part is a driver."""

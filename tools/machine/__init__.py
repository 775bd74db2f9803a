"""A machine of the tests' own: Debian's 6.1 kernel in qemu, on this host's files, with nothing of this host to break."""

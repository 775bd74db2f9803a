"""Benchmarks: wherry beside its peers on one machine, in one run, as ratios. They measure and never assert.

    python -m bench            all of it (root; a few minutes)
    python -m bench --quick    fewer rounds
    python -m bench --only run,exec

Each daemon lives in a network, mount and pid namespace of its own (`enclosure`), with its own roots on the same disk;
the same `docker` program is the client of both, and rounds alternate between them, so that what the machine does
meanwhile hits both. All files are below one directory, all cgroups below one name; when the first process of a
namespace ends, whatever it ran ends with it.
"""

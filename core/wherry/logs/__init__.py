"""A container's log as the engine sees it: which options are whose, reading as a stream, and a cache for drivers that
cannot read back.

Writing is the keeper's (`wherry.keeper.pump`); how lines are kept is the driver's.
"""

"""What tests of wherry and of its drivers share: contract suites, and the small images and archives they need.

Importable by authors of drivers: `class TestMine(StorageDriverContract): …`. Nothing here is imported by the engine.
"""

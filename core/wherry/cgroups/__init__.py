"""What the engine decides about cgroups: where they are, and which limits this host has. How is `wherry.linux.cgroups`'."""

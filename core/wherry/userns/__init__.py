"""`userns-remap`: which ids of the host containers get, and the user namespaces that have them."""

"""Names of containers: who is called what in a network, and what is answered to whoever asks."""

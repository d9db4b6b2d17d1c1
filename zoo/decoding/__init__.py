"""From a network that says one token after the other to whole sentences."""
